"""Continuous batching as a pure simulation: no clock, no I/O, no randomness.

`Scheduler.schedule(now)` forms the batch of one engine step, `Scheduler.complete(step, now)` hands out its tokens.
The policy follows vLLM 0.32 (`vllm/v1/core/sched/scheduler.py`): running requests first, then waiting ones in order
of arrival (or of priority), both under one token budget; a prompt may be split over steps; when the KV cache is
full the youngest running request is preempted and computes everything again later; nothing new is admitted in a
step that preempted.
"""

from __future__ import annotations

import bisect
import enum
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from .kvcache import KvCache


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What bounds a step. Tokens and sequences; `kv_blocks` of `block_size` tokens each."""

    max_num_seqs: int
    max_batched_tokens: int
    max_model_len: int
    kv_blocks: int
    block_size: int
    prefix_caching: bool = True
    chunked_prefill: bool = True
    long_prefill_token_threshold: int = 0
    watermark: float = 0.0
    priority: bool = False


class Finish(enum.StrEnum):
    """Why a request ended; the values of the label `finished_reason`."""

    STOP = "stop"
    LENGTH = "length"
    ABORT = "abort"
    ERROR = "error"
    REPETITION = "repetition"


@dataclass(eq=False)
class Request:
    """One sequence. Times are seconds on the caller's clock.

    `content` gives the bytes of the tokens at a range of positions, so that equal prefixes hash alike, outputs
    included. `siblings` are all sequences of the same prompt and call, itself included, when there are several.
    """

    id: str
    prompt_tokens: int
    output_tokens: int
    arrived: float
    content: Callable[[int, int], bytes]
    priority: int = 0
    max_tokens: int | None = None
    siblings: Sequence[Request] = ()
    ends_with: Finish = Finish.LENGTH

    generated: int = 0
    computed: int = 0
    cached: int = 0
    preemptions: int = 0
    admitted: float | None = None
    first_token: float | None = None
    last_token: float | None = None
    blocks: list[int] = field(default_factory=list)
    hashes: list[int] = field(default_factory=list)
    remembered: int = 0
    reported: bool = False
    finished: Finish | None = None

    @property
    def tokens(self) -> int:
        """Tokens known so far, prompt and output."""
        return self.prompt_tokens + self.generated

    def hash_blocks(self, block_size: int) -> list[int]:
        """Chained hashes of all blocks that are full of known tokens."""
        while (len(self.hashes) + 1) * block_size <= self.tokens:
            start = len(self.hashes) * block_size
            before = self.hashes[-1] if self.hashes else 0
            self.hashes.append(hash((before, self.content(start, start + block_size))))
        return self.hashes


@dataclass(frozen=True)
class Part:
    """The share of one request in a step: `tokens` computed on top of `context` already in the KV cache."""

    request: Request
    tokens: int
    context: int

    @property
    def decodes(self) -> bool:
        """True for a plain decode step: one token, with the prompt done before."""
        return self.tokens == 1 and self.request.generated > 0


@dataclass(frozen=True, kw_only=True)
class Step:
    """One batch, in the order in which it was formed."""

    parts: tuple[Part, ...]
    preempted: int
    prefix_queries: int
    prefix_hits: int

    @property
    def tokens(self) -> int:
        return sum(part.tokens for part in self.parts)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one step produced. `emitted` has every request that got a token; `finished` those that got their last."""

    emitted: tuple[Request, ...]
    finished: tuple[Request, ...]
    first_tokens: tuple[Request, ...]
    inter_token_seconds: tuple[float, ...]


class Scheduler:
    """The waiting queue, the running set and the KV cache of one engine."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.kv = KvCache(blocks=limits.kv_blocks, prefix_caching=limits.prefix_caching)
        self.running: list[Request] = []
        self._waiting: deque[Request] = deque()

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def idle(self) -> bool:
        return not self.running and not self._waiting

    @property
    def longest_fitting(self) -> int:
        """Tokens of the longest sequence that the empty cache can hold."""
        return self.kv.capacity * self.limits.block_size

    def unfinished(self) -> Iterator[Request]:
        """Every request inside, running ones first."""
        yield from self.running
        yield from self._waiting

    def add(self, request: Request) -> None:
        """Queues a request.

        Raises:
            ValueError: it asks for nothing or for more than the engine can ever hold.
        """
        total = request.prompt_tokens + request.output_tokens
        if request.prompt_tokens < 1 or request.output_tokens < 1:
            raise ValueError("a request has at least one prompt token and one output token")
        if total > self.limits.max_model_len:
            raise ValueError(f"{total} tokens are more than max_model_len {self.limits.max_model_len}")
        if total > self.longest_fitting:
            raise ValueError(f"{total} tokens are more than the KV cache holds ({self.longest_fitting})")
        if self.limits.priority:
            self._insert_by_priority(request)
        else:
            self._waiting.append(request)

    def abort(self, request: Request, reason: Finish = Finish.ABORT) -> bool:
        """Takes a request out wherever it is; False when it is already gone."""
        if request.finished is not None:
            return False
        if request in self.running:
            self.running.remove(request)
        else:
            self._waiting.remove(request)
        self._free(request)
        request.finished = reason
        return True

    def schedule(self, now: float) -> Step | None:
        """The next batch, or None when there is nothing to do."""
        step = self._form(now, preempted=0)
        while not step.parts and step.preempted:
            # By priority, the first in line can be the victim of a full cache and end the round before anything ran.
            # The engine makes an empty step then, which takes no time here.
            again = self._form(now, preempted=step.preempted)
            if again.preempted == step.preempted and not again.parts:
                break
            step = again
        return step if step.parts else None

    def _form(self, now: float, *, preempted: int) -> Step:
        """One round over the queues; `preempted` counts on from earlier rounds of the same step."""
        before = preempted
        budget = self.limits.max_batched_tokens
        threshold = self.limits.long_prefill_token_threshold if len(self.running) + len(self._waiting) > 1 else 0
        parts: dict[Request, Part] = {}
        index = 0
        while index < len(self.running) and budget > 0:
            request = self.running[index]
            tokens = request.tokens - request.computed
            if 0 < threshold < tokens:
                tokens = threshold
            tokens = min(tokens, budget)
            fits = True
            while not self._grow(request, request.computed + tokens):
                victim = self._victim()
                if (taken_back := parts.pop(victim, None)) is not None:
                    budget += taken_back.tokens
                if self.running.index(victim) < index:
                    index -= 1
                self._preempt(victim)
                preempted += 1
                if victim is request:
                    fits = False
                    break
            if not fits:
                break
            parts[request] = Part(request, tokens, request.computed)
            budget -= tokens
            index += 1
        queries = hits = 0
        if preempted == before:
            budget, queries, hits = self._admit(parts, budget, threshold, now)
        return Step(parts=tuple(parts.values()), preempted=preempted, prefix_queries=queries, prefix_hits=hits)

    def complete(self, step: Step, now: float) -> Outcome:
        """Ends a step at time `now`: every request whose known tokens are all computed gets one more token."""
        emitted, finished, first, gaps = [], [], [], []
        for part in step.parts:
            request = part.request
            if request.finished is not None:
                continue
            request.computed = part.context + part.tokens
            self._remember(request)
            if request.computed < request.tokens:
                continue
            request.generated += 1
            emitted.append(request)
            if request.first_token is None:
                request.first_token = now
                first.append(request)
            else:
                gaps.append(now - (request.last_token or now))
            request.last_token = now
            if request.generated >= request.output_tokens:
                request.finished = request.ends_with
                self.running.remove(request)
                self._free(request)
                finished.append(request)
        return Outcome(
            emitted=tuple(emitted),
            finished=tuple(finished),
            first_tokens=tuple(first),
            inter_token_seconds=tuple(gaps),
        )

    def _admit(self, parts: dict[Request, Part], budget: int, threshold: int, now: float) -> tuple[int, int, int]:
        """Moves waiting requests into the batch while there is room; returns budget, queried and hit tokens."""
        queries = hits = 0
        watermark = int(self.limits.watermark * self.limits.kv_blocks)
        while self._waiting and budget > 0 and len(self.running) < self.limits.max_num_seqs:
            request = self._waiting[0]
            shared = self._shared_prefix(request)
            hit = len(shared) * self.limits.block_size
            tokens = request.tokens - hit
            if 0 < threshold < tokens:
                tokens = threshold
            if tokens > budget and not self.limits.chunked_prefill:
                break
            tokens = min(tokens, budget)
            # The whole prompt has to fit before its first chunk runs (scheduler_reserve_full_isl).
            needed = self._blocks_for(request.tokens) - len(shared) + self.kv.idle_among(shared)
            if needed + (watermark if self.running else 0) > self.kv.free:
                break
            self._waiting.popleft()
            self.kv.take_shared(shared)
            request.blocks = list(shared)
            request.computed = hit
            if not self._grow(request, hit + tokens):
                raise AssertionError("an admitted request must fit")
            if request.preemptions == 0:
                request.cached = hit
                queries += request.prompt_tokens if self.limits.prefix_caching else 0
                hits += hit
            if request.admitted is None:
                request.admitted = now
            self.running.append(request)
            parts[request] = Part(request, tokens, hit)
            budget -= tokens
        return budget, queries, hits

    def _shared_prefix(self, request: Request) -> list[int]:
        """Cached blocks of the request's prefix; at least one token is always left to compute."""
        if not self.limits.prefix_caching:
            return []
        most = (request.tokens - 1) // self.limits.block_size
        return self.kv.find(request.hash_blocks(self.limits.block_size)[:most])

    def _blocks_for(self, tokens: int) -> int:
        return -(-tokens // self.limits.block_size)

    def _grow(self, request: Request, tokens: int) -> bool:
        """Makes room for `tokens` tokens of a request; False when the cache is too full."""
        missing = self._blocks_for(tokens) - len(request.blocks)
        if missing > self.kv.free:
            return False
        if missing > 0:
            request.blocks.extend(self.kv.take_new(missing))
        return True

    def _remember(self, request: Request) -> None:
        if not self.limits.prefix_caching:
            return
        full = request.computed // self.limits.block_size
        if full > request.remembered:
            hashes = request.hash_blocks(self.limits.block_size)
            for index in range(request.remembered, full):
                self.kv.remember(request.blocks[index], hashes[index])
            request.remembered = full

    def _insert_by_priority(self, request: Request) -> None:
        keys = [(other.priority, other.arrived) for other in self._waiting]
        self._waiting.insert(bisect.bisect_right(keys, (request.priority, request.arrived)), request)

    def _victim(self) -> Request:
        if self.limits.priority:
            return max(self.running, key=lambda r: (r.priority, r.arrived))
        return self.running[-1]

    def _preempt(self, request: Request) -> None:
        self.running.remove(request)
        self._free(request)
        request.computed = 0
        request.preemptions += 1
        if self.limits.priority:
            self._insert_by_priority(request)
        else:
            self._waiting.appendleft(request)

    def _free(self, request: Request) -> None:
        self.kv.release(request.blocks)
        request.blocks = []
        request.remembered = 0
