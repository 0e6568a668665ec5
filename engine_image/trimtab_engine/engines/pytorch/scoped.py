"""Prefix sharing of transformers' continuous batching (5.19), within scopes, with the longest unused pages given up.

transformers keeps full pages of texts that have ended and hands them to any request that begins alike, and gives all
of them up at once when few pages are free (`generation/continuous_batching/cache.py`). Here the number of a scope is
what the hash of a first page goes on from, pages that nobody uses count as free, and one that is needed is taken from
the text that nobody used for the longest.

A request's scope stands in its name, because the name is what reaches every process of a model that is cut.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from transformers import __version__
from transformers.generation.continuous_batching import cache as caches
from transformers.generation.continuous_batching.cache_allocators import cache_allocator as allocators

log = logging.getLogger("trimtab_engine.pytorch")

RELEASES = ("5.19.",)  # those whose cache was read for this
_FORGET = "forget "
_NONE = "-"

Found = Callable[[str, int, int], None]
"""Told of each look: the request's name without its scope, its tokens, and those of them that were there."""


def possible() -> bool:
    """Whether this transformers shares pages in the way that is known here."""
    return bool(__version__.startswith(RELEASES))


def named(scope: int | None, name: str) -> str:
    """A request's name with its scope; None: it shares with nobody."""
    return f"{_NONE if scope is None else f'{scope:x}'} {name}"


def forgetting(scope: int) -> str:
    """The name whose cancellation makes every process give the scope up."""
    return f"{_FORGET}{scope:x}"


def scope_in(name: str) -> int | None:
    """The scope in a name that `named` made."""
    scope, _, _ = name.partition(" ")
    return None if scope == _NONE else int(scope, 16)


class _Root:
    """The scope whose pages are hashed now, in the one thread that generates."""

    scope: int | None = None

    @contextmanager
    def of(self, scope: int) -> Iterator[None]:
        self.scope = scope
        try:
            yield
        finally:
            self.scope = None


_root = _Root()
_hash_of_page = allocators.compute_block_hash


def _hash_in_scope(parent: int | None, tokens: Sequence[int]) -> int:
    return int(_hash_of_page(_root.scope if parent is None else parent, tokens))


class ScopedCache(caches.PagedAttentionCache):  # type: ignore[misc] # transformers has no types here
    """Put in the place of the cache of a batch processor by `within_scopes`."""

    found: Found
    scopes: dict[tuple[int, int], int]  # of pages that have a hash, by allocator and page

    def search_prefix_match(self, request_id: str, prompt_ids: list[int]) -> int:
        scope = scope_in(request_id)
        if scope is None:
            return 0
        with _root.of(scope):
            tokens = int(super().search_prefix_match(request_id, prompt_ids))
        self.found(request_id.partition(" ")[2], len(prompt_ids), tokens)
        return tokens

    def mark_complete_blocks(self, state: Any, complete_blocks: dict[str, int]) -> None:
        scope = scope_in(state.request_id)
        if scope is None or not complete_blocks:
            return
        with _root.of(scope):
            super().mark_complete_blocks(state, complete_blocks)
        for allocator in self.cache_allocators.values():
            for page in allocator.block_table.get(state.request_id, ()):
                if page in allocator.ledger.block_to_hash:
                    self.scopes[allocator.index, page] = scope

    def free_blocks(self, request_id: str, no_cache: bool = False) -> None:
        if request_id.startswith(_FORGET):
            self._forget(int(request_id.removeprefix(_FORGET), 16))
            return
        for allocator in self.cache_allocators.values():
            # So the last page of a text goes before the ones that it hangs on.
            allocator.block_table.get(request_id, []).reverse()
        super().free_blocks(request_id, no_cache)

    def can_store_request_tokens(self, state: Any, request_len: int, dry_run: bool = False) -> bool:
        if super().can_store_request_tokens(state, request_len, dry_run):
            return True
        for allocator in self.cache_allocators.values():
            needed = allocator.needs_new_blocks(state.request_id, state.current_len(), request_len)
            free = self.pool.count_free_blocks(allocator.index)
            free += self.pool.num_free_sectors * allocator.blocks_per_sector
            oldest = itertools.islice(allocator.ledger.cached_blocks, max(0, needed - free))
            self._give_up(allocator, tuple(oldest))
        return bool(super().can_store_request_tokens(state, request_len, dry_run))

    def compute_free_capacity(self, relative: bool = True) -> float:
        kept = sum(len(ca.ledger.cached_blocks) * ca.bytes_per_block for ca in self.cache_allocators.values())
        whole = self.num_sectors * self.bytes_per_sector if relative else 1
        return float(super().compute_free_capacity(relative) + kept / whole)

    def evict_cached_blocks(self) -> bool:
        """Nothing: what is needed is given up when it is needed."""
        return False

    def _forget(self, scope: int) -> None:
        for allocator in self.cache_allocators.values():
            pages = [page for (index, page), whose in self.scopes.items() if (index, whose) == (allocator.index, scope)]
            self._give_up(allocator, pages)

    def _give_up(self, allocator: Any, pages: Sequence[int]) -> None:
        """Nobody finds these pages any more; those that nobody uses are free at once, the others when they are left."""
        ledger = allocator.ledger
        for page in pages:
            self.scopes.pop((allocator.index, page), None)
            known = ledger.block_to_hash.pop(page, None)
            if known is not None:
                ledger.hash_to_block.pop(known)
        unused = [page for page in pages if page in ledger.cached_blocks]
        for page in unused:
            del ledger.cached_blocks[page]
        self.pool.free_blocks(allocator.index, unused)


def within_scopes(manager: Any, found: Found) -> None:
    """Makes the batches of a manager of transformers share pages within scopes only. Call it before its start."""
    allocators.compute_block_hash = _hash_in_scope
    create = manager._create_batch_processor

    def create_scoped() -> Any:
        processor = create()
        cache = processor.cache
        cache.__class__ = ScopedCache
        cache.found, cache.scopes = found, {}
        if not cache.use_prefix_sharing:
            log.warning("No text goes on from an earlier one: this model's cache cannot share pages.")
        return processor

    manager._create_batch_processor = create_scoped
