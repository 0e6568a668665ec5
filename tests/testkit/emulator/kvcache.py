"""The KV cache of the simulated engine: a pool of equal blocks, shared by prefix and evicted in LRU order.

The rules are those of vLLM 0.32 (`vllm/v1/core/block_pool.py`): one block is reserved as the null block, a full
block is found again by the hash of all tokens up to its end, a block that nobody uses stays findable until it is
needed, and the least recently used one goes first.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence


class KvCache:
    """`blocks` equal blocks, of which one is the null block and never handed out."""

    def __init__(self, *, blocks: int, prefix_caching: bool) -> None:
        if blocks < 2:
            raise ValueError(f"a KV cache needs at least 2 blocks, got {blocks}")
        self.capacity = blocks - 1
        self._prefix_caching = prefix_caching
        self._free: OrderedDict[int, None] = OrderedDict.fromkeys(range(1, blocks))
        self._references = [0] * blocks
        self._hash_of: dict[int, int] = {}
        self._block_of: dict[int, int] = {}

    @property
    def free(self) -> int:
        """How many blocks can be handed out now (unused ones that are still findable included)."""
        return len(self._free)

    @property
    def used(self) -> int:
        """How many blocks a request holds now."""
        return self.capacity - len(self._free)

    @property
    def usage(self) -> float:
        """The used share, 0 to 1."""
        return self.used / self.capacity

    def find(self, hashes: Sequence[int]) -> list[int]:
        """The longest run of cached blocks for the chained `hashes`, without taking them."""
        if not self._prefix_caching:
            return []
        found = []
        for value in hashes:
            block = self._block_of.get(value)
            if block is None:
                break
            found.append(block)
        return found

    def idle_among(self, blocks: Sequence[int]) -> int:
        """How many of `blocks` are cached but held by nobody, so that taking them uses up free blocks."""
        return sum(1 for block in blocks if self._references[block] == 0)

    def take_shared(self, blocks: Sequence[int]) -> None:
        """Holds cached blocks once more."""
        for block in blocks:
            if self._references[block] == 0:
                del self._free[block]
            self._references[block] += 1

    def take_new(self, count: int) -> list[int]:
        """Hands out `count` blocks, forgetting what the least recently used ones held.

        Raises:
            ValueError: fewer than `count` blocks are free.
        """
        if count > len(self._free):
            raise ValueError(f"{count} blocks asked for, {len(self._free)} free")
        taken = []
        for _ in range(count):
            block, _nothing = self._free.popitem(last=False)
            forgotten = self._hash_of.pop(block, None)
            if forgotten is not None and self._block_of.get(forgotten) == block:
                del self._block_of[forgotten]
            self._references[block] = 1
            taken.append(block)
        return taken

    def remember(self, block: int, value: int) -> None:
        """Makes a full block findable by its hash; the first block with a hash keeps it."""
        if self._prefix_caching and block not in self._hash_of and value not in self._block_of:
            self._hash_of[block] = value
            self._block_of[value] = block

    def release(self, blocks: Sequence[int]) -> None:
        """Gives blocks back, last first, so that the tail of a sequence is evicted before its head."""
        for block in reversed(blocks):
            self._references[block] -= 1
            if self._references[block] == 0:
                self._free[block] = None

    def forget_all(self) -> bool:
        """Empties the prefix cache; refused while a request holds a block, as vLLM does."""
        if self.used:
            return False
        self._hash_of.clear()
        self._block_of.clear()
        return True
