"""Properties of the simulated scheduler: whatever the traffic, it loses nothing, overfills nothing, keeps the order."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.testkit.emulator.kvcache import KvCache
from tests.testkit.emulator.scheduler import Finish, Limits, Request, Scheduler, Step


@dataclass(frozen=True)
class Job:
    prompt: int
    output: int
    arrives_at_step: int
    family: int
    priority: int
    aborted_at_step: int | None


jobs = st.builds(
    Job,
    prompt=st.integers(1, 60),
    output=st.integers(1, 20),
    arrives_at_step=st.integers(0, 30),
    family=st.integers(0, 2),
    priority=st.integers(0, 2),
    aborted_at_step=st.none() | st.integers(0, 40),
)


@st.composite
def limits(draw: st.DrawFn) -> Limits:
    seqs = draw(st.integers(1, 6))
    block = draw(st.sampled_from([1, 4, 16]))
    chunked = draw(st.booleans())
    return Limits(
        max_num_seqs=seqs,
        max_batched_tokens=draw(st.integers(max(seqs, 1 if chunked else 80), 120)),
        max_model_len=80,
        kv_blocks=1 + -(-80 // block) + draw(st.integers(0, 40)),
        block_size=block,
        prefix_caching=draw(st.booleans()),
        chunked_prefill=chunked,
        long_prefill_token_threshold=draw(st.sampled_from([0, 8, 40])) if chunked else 0,
        watermark=draw(st.sampled_from([0.0, 0.1])),
        priority=draw(st.booleans()),
    )


@dataclass
class History:
    requests: list[Request] = field(default_factory=list)
    aborted: set[Request] = field(default_factory=set)
    finished: list[Request] = field(default_factory=list)
    admitted: list[Request] = field(default_factory=list)
    emitted: int = 0
    steps: list[Step] = field(default_factory=list)


def request_for(number: int, job: Job, now: float) -> Request:
    """Requests of one family share their first 32 tokens."""

    def content(start: int, end: int) -> bytes:
        return b"".join(
            f"{job.family if position < 32 else (job.family, number)},{position};".encode()
            for position in range(start, end)
        )

    return Request(
        id=str(number),
        prompt_tokens=job.prompt,
        output_tokens=job.output,
        arrived=now,
        content=content,
        priority=job.priority,
    )


def check_invariants(scheduler: Scheduler, step: Step) -> None:
    bounds = scheduler.limits
    assert len(scheduler.running) <= bounds.max_num_seqs
    assert 0 < step.tokens <= bounds.max_batched_tokens
    assert len({part.request for part in step.parts}) == len(step.parts)
    held = {block for request in scheduler.running for block in request.blocks}
    assert scheduler.kv.used == len(held) <= scheduler.kv.capacity
    assert 0 not in held
    for part in step.parts:
        assert part.request in scheduler.running
        assert part.context + part.tokens <= len(part.request.blocks) * bounds.block_size
    for request in scheduler.running:
        assert len(request.blocks) <= -(-(request.tokens + 1) // bounds.block_size)


def run(bounds: Limits, work: list[Job]) -> tuple[Scheduler, History]:
    """Plays jobs step by step until the engine is empty; a step takes one second."""
    scheduler, history = Scheduler(bounds), History()
    arrivals = sorted(enumerate(work), key=lambda entry: entry[1].arrives_at_step)
    by_number: dict[int, Request] = {}
    for now in range(5000):
        while arrivals and arrivals[0][1].arrives_at_step <= now:
            number, job = arrivals.pop(0)
            by_number[number] = request_for(number, job, now + number / 1000)
            scheduler.add(by_number[number])
            history.requests.append(by_number[number])
        for number, request in by_number.items():
            if work[number].aborted_at_step == now and scheduler.abort(request):
                history.aborted.add(request)
        running_before = set(scheduler.running)
        step = scheduler.schedule(float(now))
        if step is None:
            assert scheduler.idle, "an engine with work to do must do some"
            if not arrivals:
                return scheduler, history
            continue
        check_invariants(scheduler, step)
        history.steps.append(step)
        history.admitted += [
            part.request
            for part in step.parts
            if part.request not in running_before and part.request not in history.admitted
        ]
        outcome = scheduler.complete(step, now + 1.0)
        history.emitted += len(outcome.emitted)
        history.finished += outcome.finished
    raise AssertionError("the engine did not become empty")


@settings(max_examples=200)
@given(limits(), st.lists(jobs, max_size=25))
def test_every_request_ends_exactly_once_with_all_its_tokens(bounds: Limits, work: list[Job]) -> None:
    scheduler, history = run(bounds, work)
    assert len(history.finished) == len(set(history.finished))
    assert set(history.finished) | history.aborted == set(history.requests)
    assert not set(history.finished) & history.aborted
    for request in history.finished:
        assert request.generated == request.output_tokens
        assert request.finished is Finish.LENGTH
    assert history.emitted == sum(request.generated for request in history.requests)
    assert scheduler.kv.used == 0


@settings(max_examples=200)
@given(limits(), st.lists(jobs, max_size=25))
def test_requests_are_first_admitted_in_the_order_of_the_queue(bounds: Limits, work: list[Job]) -> None:
    if bounds.priority:
        work = [Job(j.prompt, j.output, 0, j.family, j.priority, None) for j in work]
    _, history = run(bounds, work)
    if not bounds.priority:
        order = [request.arrived for request in history.admitted]
        assert order == sorted(order)
    elif not any(step.preempted for step in history.steps):
        keys = [(request.priority, request.arrived) for request in history.admitted]
        assert keys == sorted(keys)


@settings(max_examples=100)
@given(limits(), st.lists(jobs, max_size=25))
def test_times_of_a_request_are_in_order(bounds: Limits, work: list[Job]) -> None:
    for request in run(bounds, work)[1].finished:
        assert request.admitted is not None and request.first_token is not None and request.last_token is not None
        assert request.arrived <= request.admitted + 1.0
        assert request.admitted < request.first_token <= request.last_token


def one(number: int, prompt: int, output: int, family: int = 0) -> Request:
    return request_for(number, Job(prompt, output, 0, family, 0, None), 0.0)


def drain(scheduler: Scheduler) -> list[Step]:
    steps: list[Step] = []
    while (step := scheduler.schedule(float(len(steps)))) is not None:
        steps.append(step)
        scheduler.complete(step, len(steps) + 0.0)
    return steps


def plain(**changes: int | bool) -> Limits:
    values = {
        "max_num_seqs": 8,
        "max_batched_tokens": 256,
        "max_model_len": 200,
        "kv_blocks": 1000,
        "block_size": 4,
        **changes,
    }
    return Limits(**values)  # type: ignore[arg-type]


def test_a_shared_prefix_is_computed_once() -> None:
    scheduler = Scheduler(plain())
    scheduler.add(one(1, 40, 2))
    drain(scheduler)
    scheduler.add(one(2, 40, 2))
    step = scheduler.schedule(10.0)
    assert step is not None
    assert (step.prefix_queries, step.prefix_hits, step.tokens) == (40, 32, 8)


def test_without_prefix_caching_everything_is_computed_again() -> None:
    scheduler = Scheduler(plain(prefix_caching=False))
    for number in (1, 2):
        scheduler.add(one(number, 40, 2))
        step = scheduler.schedule(10.0)
        assert step is not None
        assert (step.prefix_queries, step.prefix_hits, step.tokens) == (0, 0, 40)
        scheduler.complete(step, 11.0)
        drain(scheduler)


def test_a_long_prompt_is_split_by_the_token_budget_while_others_decode() -> None:
    scheduler = Scheduler(plain(max_batched_tokens=16))
    scheduler.add(one(1, 4, 50, family=1))
    first = scheduler.schedule(0.0)
    assert first is not None
    scheduler.complete(first, 1.0)
    scheduler.add(one(2, 40, 1, family=2))
    shapes = [[part.tokens for part in step.parts] for step in drain(scheduler)[:4]]
    assert shapes == [[1, 15], [1, 15], [1, 10], [1]]


def test_a_full_cache_preempts_the_youngest_which_computes_its_tokens_again() -> None:
    scheduler = Scheduler(plain(kv_blocks=13, prefix_caching=False, max_model_len=48))
    old, young = one(1, 20, 20, family=1), one(2, 20, 20, family=2)
    scheduler.add(old)
    scheduler.add(young)
    steps = drain(scheduler)
    assert (old.preemptions, young.preemptions) == (0, 1)
    assert sum(step.preempted for step in steps) == 1
    assert old.generated == young.generated == 20
    again = next(part for step in steps for part in step.parts if part.request is young and part.tokens > 20)
    assert again.context == 0


def test_when_the_first_in_line_is_the_victim_the_others_still_run() -> None:
    scheduler = Scheduler(plain(kv_blocks=11, block_size=1, max_model_len=10, priority=True, prefix_caching=False))
    low = request_for(1, Job(5, 3, 0, 1, 2, None), 0.0)
    scheduler.add(low)
    first = scheduler.schedule(0.0)
    assert first is not None
    scheduler.complete(first, 1.0)
    high = request_for(2, Job(5, 3, 0, 2, 0, None), 1.0)
    scheduler.running.append(high)
    high.blocks, high.computed, high.generated = scheduler.kv.take_new(5), 4, 0
    step = scheduler.schedule(2.0)
    assert step is not None
    assert ([part.request for part in step.parts], step.preempted) == ([high], 1)
    assert low.preemptions == 1


@given(st.lists(st.integers(1, 4), max_size=30))
def test_blocks_are_neither_lost_nor_handed_out_twice(sizes: list[int]) -> None:
    cache = KvCache(blocks=17, prefix_caching=True)
    held: list[list[int]] = []
    for size in sizes:
        if size > cache.free:
            cache.release(held.pop(0))
        if size <= cache.free:
            held.append(cache.take_new(size))
        taken = [block for blocks in held for block in blocks]
        assert len(taken) == len(set(taken)) == cache.used
        assert cache.used + cache.free == cache.capacity == 16
