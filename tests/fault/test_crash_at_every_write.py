"""B2.1: the operator is killed before and after each of its writes, and what comes of it is the same each time.

The kill is an abort at the operator's transport: the write is not sent, or it is sent and its answer is never seen, and
from then on nothing that this operator does reaches anything; its objects are thrown away with all they remember, and
new ones go on. That is what SIGKILL leaves behind, because nothing is kept but what was written; real SIGKILLs of the
real process are in `test_real_process.py`.

A crash after write k leaves the very same cluster as one before write k+1 of the same cycle, because in the bed nothing
moves within a cycle. So each write has a crash before it, and the last one of each cycle a crash after it as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import pytest

from tests.fault.background import Background
from tests.fault.bed import Bed
from tests.fault.control_plane import ControlPlane
from tests.fault.scenarios import SCENARIOS, Outcome, Scenario, in_beds, play
from tests.fault.tap import Crash

pytestmark = [pytest.mark.cluster, pytest.mark.faults, pytest.mark.slow]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name.replace(" ", "-"))
def test_b2_01_a_crash_at_any_write_leads_to_the_same_final_state(
    scenario: Scenario, plane: ControlPlane, prometheus_url: str, background: Background
) -> None:
    make = partial(Bed, plane, prometheus_url, background, natures=scenario.natures)
    (undisturbed,) = in_beds([(make, partial(play, scenario=scenario))])
    assert isinstance(undisturbed, Outcome), undisturbed
    due = _crashes(undisturbed.cycles)
    assert len(due) > len(undisturbed.writes) >= 6, "every write has a crash"
    outcomes = in_beds([(make, partial(play, scenario=scenario, crash=crash)) for crash in due])
    wrong = {
        f"{crash} ({undisturbed.writes[crash.write - 1]})": said
        for crash, outcome in zip(due, outcomes, strict=True)
        if (said := _difference(undisturbed, outcome))
    }
    assert wrong == {}, "\n".join(f"{when}: {said}" for when, said in wrong.items())


def _crashes(cycles: Sequence[int]) -> list[Crash]:
    """Before every write, and after those that the next one does not follow in the same cycle."""
    due: list[Crash] = []
    for number, cycle in enumerate(cycles, start=1):
        due.append(Crash(number, after=False))
        if number == len(cycles) or cycles[number] != cycle:
            due.append(Crash(number, after=True))
    return due


def _difference(undisturbed: Outcome, outcome: object) -> str:
    """What is not as it is without a crash; empty when all is."""
    if not isinstance(outcome, Outcome):
        return f"{type(outcome).__name__}: {outcome}"
    parts = [
        f"{name} is {outcome.state[name]!r} instead of {value!r}"
        for name, value in undisturbed.state.items()
        if outcome.state[name] != value
    ]
    if outcome.lowest_ready < undisturbed.lowest_ready:
        parts.append(f"only {outcome.lowest_ready} pods were ready at some time")
    return "; ".join(parts)
