"""B2.8: Prometheus fails in every way while a canary is judged: nothing unreadable is promoted, a deadline ends it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest

from tests.fault.background import Background
from tests.fault.bed import Bed
from tests.fault.control_plane import ControlPlane
from tests.fault.natures import NATURES

pytestmark = [pytest.mark.cluster, pytest.mark.faults]


@pytest.fixture
async def bed(plane: ControlPlane, prometheus_url: str, background: Background) -> AsyncIterator[Bed]:
    async with Bed(plane, prometheus_url, background, natures=dict(NATURES)) as found:
        yield found


async def judging(bed: Bed, number: int = 8, *, deadline: int = 120) -> None:
    """A trial that has just begun to serve; undecided after `deadline` seconds it is rolled back."""
    await bed.create(rollout={"judgeDeadlineSeconds": deadline})
    bed.watch_capacity()
    bed.sequences(number)
    await bed.run(lambda: bed.phase() == "CanaryJudging")


async def rolled_back_undecided(bed: Bed) -> None:
    await bed.run(bed.ended)
    assert bed.attempts() == [("RolledBack", "DeadlineExceeded")]
    assert bed.serving() == {1: 2}
    assert (bed.lowest_ready or 0) >= 2


@pytest.mark.parametrize("mode", ["refused", "hangs", "error", "html", "huge", "nan", "infinite", "empty"])
async def test_b2_08_a_prometheus_that_cannot_be_read_promotes_nothing(bed: Bed, mode: str) -> None:
    await judging(bed)
    if mode == "hangs":
        bed.patience = 0.3
        await bed.restart()
    await bed.metrics(mode)
    await rolled_back_undecided(bed)
    await bed.metrics("pass")
    await bed.quiet()
    available = next(item for item in bed.status()["conditions"] if item["type"] == "MetricsAvailable")
    assert available["status"] == "True", "it recovers by itself"


async def test_b2_08_an_outage_shorter_than_the_deadline_only_delays_the_promotion(bed: Bed) -> None:
    await judging(bed, deadline=1800)
    await bed.metrics("error")
    await bed.rest(3)
    assert bed.phase() == "CanaryJudging"
    await bed.metrics("pass")
    await bed.run(bed.ended)
    assert bed.attempts() == [("Promoted", "WithinSLO")]


async def test_b2_08_every_series_twice_counts_once(bed: Bed) -> None:
    await judging(bed, deadline=1800)
    await bed.metrics("several")
    await bed.run(bed.ended)
    assert bed.attempts() == [("Promoted", "WithinSLO")]


def _all(pod: str) -> bool:
    return False


@pytest.mark.parametrize("what", ["the canary's series are absent", "all samples are stale"])
async def test_b2_08_missing_and_stale_samples_promote_nothing(bed: Bed, what: str) -> None:
    await judging(bed)
    candidate = bed.status()["rollout"]["candidate"]["revision"]
    only_stable: Callable[[str], bool] = lambda pod: candidate not in pod  # noqa: E731
    bed.readable = only_stable if "canary" in what else _all
    await rolled_back_undecided(bed)


async def test_b2_08_a_renamed_metric_promotes_nothing(bed: Bed) -> None:
    """As from an engine version that the tables do not know."""
    await bed.create(rollout={"judgeDeadlineSeconds": 120})
    bed.watch_capacity()
    bed.prefix = "vllm_next:"
    bed.sequences(8)
    await rolled_back_undecided(bed)


async def test_b2_08_a_canary_without_traffic_is_not_promoted(bed: Bed) -> None:
    await bed.create(rollout={"judgeDeadlineSeconds": 120})
    bed.requests_per_second = 0.0
    bed.watch_capacity()
    bed.sequences(8)
    await rolled_back_undecided(bed)


async def test_b2_08_counters_that_begin_anew_are_no_errors_and_no_improvement(bed: Bed) -> None:
    """Every container restarts at once, good ones and the canary: the increase is counted, not the difference."""
    await judging(bed, deadline=1800)
    for engine in bed.engines.values():
        engine.restart()
    await bed.run(bed.ended)
    assert bed.attempts() == [("Promoted", "WithinSLO")]


@pytest.mark.parametrize("skew", [-240.0, 240.0])
@pytest.mark.parametrize(("number", "outcome"), [(8, "Promoted"), (3, "RolledBack")])
async def test_b2_08_clocks_that_differ_by_minutes_never_promote_harm(
    bed: Bed, skew: float, number: int, outcome: str
) -> None:
    """A good canary may wait for its deadline then; Unknown is never a pass."""
    bed.skew = skew
    await judging(bed, number, deadline=300)
    await bed.run(bed.ended)
    assert bed.attempts()[0][0] in (outcome, "RolledBack")
    assert bed.serving() in ({1: 2}, {number: 2} if outcome == "Promoted" else {1: 2})
    assert (bed.lowest_ready or 0) >= 2
