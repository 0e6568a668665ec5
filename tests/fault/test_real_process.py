"""The real process: SIGKILL (B2.1), refused credentials (B2.3), watches that lie (B2.4), two operators (B2.7)."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.fault.background import Background
from tests.fault.control_plane import ControlPlane
from tests.fault.llmdeployment import NAME
from tests.fault.real_time import RealTime
from tests.fault.script import FOREVER, Fault, Kind, Rule
from trimtab.kube.kinds import DEPLOYMENTS, LLM_DEPLOYMENTS

pytestmark = [pytest.mark.cluster, pytest.mark.faults, pytest.mark.slow]

WATCHES = {
    "silent": Rule(fault=Fault(kind=Kind.SILENT), verb="watch", times=3),
    "410": Rule(fault=Fault(kind=Kind.EXPIRED), verb="watch", every=2, times=FOREVER),
    "cut": Rule(fault=Fault(kind=Kind.CUT), verb="watch", times=FOREVER),
    "twice": Rule(fault=Fault(kind=Kind.TWICE), verb="watch", times=FOREVER),
    "without MODIFIED": Rule(fault=Fault(kind=Kind.WITHOUT, reason="MODIFIED"), verb="watch", times=FOREVER),
    "without DELETED": Rule(fault=Fault(kind=Kind.WITHOUT, reason="DELETED"), verb="watch", times=FOREVER),
    "out of order": Rule(fault=Fault(kind=Kind.REVERSED), verb="watch", times=FOREVER),
    "bookmarks only": Rule(fault=Fault(kind=Kind.BOOKMARKS), verb="watch", times=FOREVER),
    "refused": Rule(fault=Fault(kind=Kind.STATUS, status=500), verb="watch", every=2, times=FOREVER),
}


@pytest.fixture
def real(plane: ControlPlane, prometheus_url: str, background: Background) -> Iterator[RealTime]:
    with RealTime(plane, prometheus_url, background) as found:
        yield found


def stable(real: RealTime) -> None:
    real.until(lambda: real.phase() == "Stable")
    real.lowest_ready = 2


def test_b2_01_the_process_killed_at_several_writes_of_a_promotion_ends_where_it_would_have(real: RealTime) -> None:
    real.create()
    operator = real.operator()
    stable(real)
    before, after = Fault(kind=Kind.STOP), Fault(kind=Kind.STOP_AFTER)
    operator.script.play(
        [
            Rule(fault=after, verb="apply", resource="llmdeployments"),
            Rule(fault=before, verb="apply", resource="deployments"),
            Rule(fault=after, verb="apply", resource="deployments", skip=1),
            Rule(fault=before, verb="apply", resource="llmdeployments", skip=3),
            Rule(fault=after, verb="delete", resource="deployments"),
        ]
    )
    real.sequences(8)
    real.until(real.ended)
    real.until(lambda: len(real.admin.list(DEPLOYMENTS, real.namespace)) == 1)
    assert operator.kills >= 4
    assert real.attempts() == [("Promoted", "WithinSLO")]
    assert real.serving() == {8: 2}
    assert (real.lowest_ready or 0) >= 2


@pytest.mark.parametrize("watch", WATCHES)
def test_b2_04_whatever_a_watch_shows_a_trial_ends_and_a_deleted_resource_is_left_alone(
    real: RealTime, watch: str
) -> None:
    """Every interval reads what is; a watch only brings that forward."""
    real.create()
    operator = real.operator()
    operator.script.play([WATCHES[watch]])
    stable(real)
    real.sequences(4)
    real.until(real.ended)
    assert real.attempts() == [("Abandoned", "CanaryCrashLoop")]
    assert real.serving() == {1: 2}
    real.admin.delete(LLM_DEPLOYMENTS, real.namespace, NAME)
    real.until(lambda: not real.admin.list(DEPLOYMENTS, real.namespace))
    time.sleep(3.0)
    seen = len(operator.script.writes())
    time.sleep(3.0)
    assert len(operator.script.writes()) == seen


@pytest.mark.parametrize("status", [401, 403])
def test_b2_03_credentials_that_are_refused_for_a_while_end_no_trial(real: RealTime, status: int) -> None:
    """As while a token is rotated, or a role is missing for one upgrade: everything is refused for some seconds."""
    real.create()
    operator = real.operator()
    stable(real)
    real.sequences(8)
    real.until(lambda: real.phase() != "Stable")  # the trial is under way, wherever it is by now
    reason = "Unauthorized" if status == 401 else "Forbidden"
    operator.script.play([Rule(fault=Fault(kind=Kind.STATUS, status=status, reason=reason), times=FOREVER)])
    time.sleep(8.0)
    operator.script.clear()
    real.until(real.ended)
    assert real.attempts() == [("Promoted", "WithinSLO")]
    assert real.serving() == {8: 2}
    assert (real.lowest_ready or 0) >= 2


def test_b2_07_of_two_operators_one_writes_and_a_cut_off_one_stops_before_the_other_begins(real: RealTime) -> None:
    real.create()
    first = real.operator("first")
    stable(real)
    second = real.operator("second")
    real.sequences(4)
    real.until(real.ended)
    assert second.script.writes() == [], "the second one waits for the Lease"
    first.script.play([Rule(fault=Fault(kind=Kind.DROP), times=FOREVER)])
    cut = len(first.script.met)
    real.sequences(8)
    real.until(lambda: real.ended(2))
    assert real.attempts()[0] == ("Promoted", "WithinSLO")
    taken_over = second.script.writes()[0][0]
    tried = [at for at, _ in first.script.writes()]
    assert len(first.script.met) > cut, "the first one went on asking"
    assert all(at < taken_over for at in tried), "it stopped writing before the second one wrote"
    written = len(first.script.writes())
    first.script.clear()
    real.until(lambda: bool(first.ends))
    assert first.ends[0] == 1, "it sees that the Lease is another's, and ends itself"
    assert len(first.script.writes()) == written
