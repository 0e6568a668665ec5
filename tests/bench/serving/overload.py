"""Three times as many requests as the server can answer: how many of those it takes are answered in time."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from tests.bench.serving.rows import Row, at_least, at_most, told
from tests.bench.serving.servers import ours, served
from tests.bench.serving.traffic import Running, configure, run
from trimtab_engine.bench.result import Sample, Scenario

ROUNDS = 3
TIMES = 3.0
CLIENTS = 16
# Within so many times what it takes at capacity an answer is in time.
IN_TIME = 3.0
Tell = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Slo:
    """Seconds until the first token and until the last."""

    ttft: float
    whole: float

    def goodput(self, one: Scenario) -> float:
        """Requests per second that were answered in time, over the whole stretch."""
        return sum(self.kept(sample) for sample in one.answered) / one.seconds

    def kept(self, sample: Sample) -> bool:
        return sample.ttft is not None and sample.ttft <= self.ttft and sample.seconds <= self.whole


def rows(tell: Tell) -> Iterator[Row]:
    with served(ours("overload")) as server:
        run(server, seconds=4.0, settle=0.0)
        yield from overloaded(server, tell)


def overloaded(server: Running, tell: Tell, *, seconds: float = 15.0) -> Iterator[Row]:
    """Capacity is what 16 clients in a closed loop get with 16 requests at once; the SLO is three times their median
    TTFT and time. The server is told one number of it: a request may wait for as long as the SLO leaves after the
    TTFT of a request that does not wait. Then arrivals come by chance, as many as the capacity and three times that,
    in turns."""
    configure(server, {"max_running_requests": CLIENTS, "max_queued_requests": None, "max_wait_seconds": None})
    closed = run(server, clients=CLIENTS, seconds=seconds)
    capacity = closed.requests_per_second
    ttft, whole = ((closed.percentile(kind, 0.5) or 0.0) / 1e3 for kind in ("ttft", "e2e"))
    slo = Slo(ttft=IN_TIME * ttft, whole=IN_TIME * whole)
    wait = round(max(0.1, slo.ttft - ttft), 3)
    configure(server, {"max_wait_seconds": wait})
    tell(f"capacity {capacity:.1f} requests/s; SLO: TTFT {slo.ttft * 1e3:.0f} ms, whole answer {slo.whole:.1f} s")
    ratios, refused, spread, late = [], list[Sample](), [], []
    for number in range(ROUNDS):
        order = (1.0, TIMES) if number % 2 == 0 else (TIMES, 1.0)
        found = {times: run(server, rate=times * capacity, seconds=seconds, settle=3.0) for times in order}
        at, over = found[1.0], found[TIMES]
        _only_refused(at, over)
        ratios.append(slo.goodput(over) / slo.goodput(at))
        refused += [sample for one in (at, over) for sample in one.samples if sample.reason == "http_429"]
        late.append(1.0 - slo.goodput(over) / over.requests_per_second)
        spread.append(f"{slo.goodput(over):.2f}/{slo.goodput(at):.2f}")
        tell(f"round {number + 1}: goodput {spread[-1]} requests/s, {100 * late[-1]:.0f} % of the answers late")
    value = statistics.median(ratios)
    detail = f"requests/s {', '.join(spread)}; capacity {capacity:.2f}; max_wait_seconds {wait}"
    yield at_least("overload at 3 times capacity: goodput over that at capacity", value, 0.9, detail=detail)
    yield told("overload: accepted requests that were answered late", statistics.median(late))
    yield _refusals(refused)
    configure(server, {"max_wait_seconds": None})


def _only_refused(*found: Scenario) -> None:
    others = {why for one in found for why in one.failures()} - {"http_429"}
    if others:
        raise RuntimeError(f"requests failed otherwise than by refusal: {others}")


def _refusals(refused: Sequence[Sample]) -> Row:
    took = sorted(1e3 * sample.seconds for sample in refused)
    if not took:
        raise RuntimeError("nobody was refused at three times the capacity")
    return at_most(
        "overload: refused requests answered in, p95",
        took[int(0.95 * (len(took) - 1))],
        50.0,
        unit="ms",
        detail=f"{len(took)} refused, median {statistics.median(took):.1f} ms; seen by a client on the same cores",
    )
