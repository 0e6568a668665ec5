"""When is a status worth a write? Facts at once; moods when they last; figures when they have moved far and stay."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from trimtab.reconcile.memory import Key, Memory

KEY = Key("serving", "chat")
OTHER = Key("serving", "other")

STATUS: dict[str, Any] = {
    "observedGeneration": 3,
    "phase": "Stable",
    "reason": "Stable",
    "replicas": 2,
    "selector": "trimtab.dev/deployment=chat",
    "plan": "chat-1",
    "slo": "Met",
    "bottleneck": "None",
    "summary": "No bottleneck was found.",
    "findings": [],
    "measured": {"outputTokensPerSecond": 500, "ttftP95Milliseconds": 100, "waiting": 0},
    "revisions": [{"name": "rev-a", "role": "Stable", "replicas": 2, "ready": 2, "config": {"maxNumSeqs": 8}}],
    "attempts": [],
    "rollout": {"phase": "Stable", "since": "2026-01-01T00:00:00Z", "holding": ""},
    "conditions": [
        {"type": "Ready", "status": "True", "reason": "Reconciled", "message": "2 pods are ready."},
        {"type": "SLOSatisfied", "status": "True", "reason": "SLOMet", "message": "ttft.p95 is 100 ms."},
        {"type": "Planned", "status": "False", "reason": "NothingToImprove", "message": "Nothing."},
        {"type": "MetricsAvailable", "status": "True", "reason": "MetricsFound", "message": "Read."},
    ],
}


def _with(change: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    status = copy.deepcopy(STATUS)
    change(status)
    return status


def _condition(kind: str, **values: str) -> Callable[[dict[str, Any]], None]:
    def change(status: dict[str, Any]) -> None:
        next(item for item in status["conditions"] if item["type"] == kind).update(values)

    return change


def _set(**values: Any) -> Callable[[dict[str, Any]], None]:
    return lambda status: status.update(copy.deepcopy(values))


FACTS: dict[str, Callable[[dict[str, Any]], None]] = {
    "the generation that was looked at": _set(observedGeneration=4),
    "the phase": _set(phase="CanaryStarting"),
    "the reason": _set(reason="Paused"),
    "ready pods": _set(replicas=1),
    "the plan": _set(plan="chat-2"),
    "a revision's pods": lambda status: status["revisions"][0].update(ready=1),
    "a new attempt": lambda status: status["attempts"].append({"revision": "rev-b", "outcome": "Promoted"}),
    "the rollout's memory": lambda status: status["rollout"].update(bad=["rev-b"]),
    "the verdict's word": lambda status: status["rollout"].update(verdict={"call": "Good", "reason": "WithinSLO"}),
    "readiness": _condition("Ready", status="False", reason="Starting"),
    "unreadable metrics": _condition("MetricsAvailable", status="False", reason="PrometheusTimeout"),
    "another reason for unreadable metrics": _condition("MetricsAvailable", reason="MetricsStale"),
}


@pytest.mark.parametrize("change", FACTS.values(), ids=FACTS.keys())
def test_a_fact_is_written_at_once(change: Callable[[dict[str, Any]], None]) -> None:
    memory = Memory()
    after = _with(change)
    assert memory.should_write(KEY, STATUS, after)
    assert not memory.should_write(KEY, after, after), "and not a second time"


MOODS: dict[str, Callable[[dict[str, Any]], None]] = {
    "the SLO": _set(slo="Violated"),
    "the bottleneck": _set(bottleneck="QueueBuildup"),
    "the findings": _set(findings=[{"kind": "QueueBuildup", "severity": "High", "message": "9 wait."}]),
    "the SLO's condition": _condition("SLOSatisfied", status="False", reason="SLOViolated"),
    "whether there is a plan": _condition("Planned", status="True", reason="PlanProposed"),
}


@pytest.mark.parametrize("change", MOODS.values(), ids=MOODS.keys())
def test_a_mood_must_last_before_it_is_written(change: Callable[[dict[str, Any]], None]) -> None:
    memory = Memory()
    after = _with(change)
    assert [memory.should_write(KEY, STATUS, after) for _ in range(3)] == [False, False, True]
    assert not memory.should_write(KEY, after, after)


def test_a_mood_that_swings_is_never_written() -> None:
    memory = Memory()
    after = _with(_set(bottleneck="QueueBuildup"))
    for _ in range(10):
        assert not memory.should_write(KEY, STATUS, after)
        assert not memory.should_write(KEY, STATUS, after)
        assert not memory.should_write(KEY, STATUS, STATUS)


def test_a_mood_that_changes_again_counts_from_the_beginning() -> None:
    memory = Memory()
    one, two = _with(_set(bottleneck="QueueBuildup")), _with(_set(bottleneck="HighLatency"))
    assert not memory.should_write(KEY, STATUS, one)
    assert not memory.should_write(KEY, STATUS, one)
    assert [memory.should_write(KEY, STATUS, two) for _ in range(3)] == [False, False, True]


def test_moods_that_take_turns_and_are_all_unlike_the_written_one_are_written_in_the_end() -> None:
    memory = Memory()
    turns = [_with(_set(bottleneck=kind)) for kind in ("QueueBuildup", "HighLatency")] * 3
    assert [memory.should_write(KEY, STATUS, after) for after in turns] == [False] * 5 + [True]
    held = turns[-1]
    later = [memory.should_write(KEY, held, after) for _ in range(40) for after in turns]
    assert not any(later), "each second one is what is written"


def test_each_resource_has_moods_of_its_own() -> None:
    memory = Memory()
    after = _with(_set(bottleneck="QueueBuildup"))
    for _ in range(2):
        assert not memory.should_write(KEY, STATUS, after)
        assert not memory.should_write(OTHER, STATUS, after)
    assert memory.should_write(KEY, STATUS, after)


SILENT: dict[str, Callable[[dict[str, Any]], None]] = {
    "a sentence": _set(summary="Another sentence."),
    "a message": _condition("Ready", message="2 pods are ready, 2 are wanted."),
    "what holds the rollout": lambda status: status["rollout"].update(holding="14 s are left."),
    "a finding's numbers": _set(findings=[]),
    "figures that move": _set(measured={"outputTokensPerSecond": 700, "ttftP95Milliseconds": 60, "waiting": 3}),
    "a small figure, however large its ratio": _set(measured={"waiting": 7}),
    "fields without content": _set(attempts=None),
}


@pytest.mark.parametrize("change", SILENT.values(), ids=SILENT.keys())
def test_what_moves_all_the_time_is_not_written_for_itself(change: Callable[[dict[str, Any]], None]) -> None:
    memory = Memory()
    assert not any(memory.should_write(KEY, STATUS, _with(change)) for _ in range(10))


def test_the_verdicts_numbers_are_no_fact() -> None:
    before = _with(
        lambda s: s["rollout"].update(verdict={"call": "Unknown", "reason": "TooFewSamples", "message": "3 of 30"})
    )
    after = _with(
        lambda s: s["rollout"].update(verdict={"call": "Unknown", "reason": "TooFewSamples", "message": "9 of 30"})
    )
    assert not any(Memory().should_write(KEY, before, after) for _ in range(10))


@pytest.mark.parametrize("figure", [1001, 249])
def test_a_figure_that_doubled_or_halved_and_stays_is_written(figure: int) -> None:
    memory = Memory()
    after = _with(_set(measured={**STATUS["measured"], "outputTokensPerSecond": figure}))
    assert [memory.should_write(KEY, STATUS, after) for _ in range(3)] == [False, False, True]


def test_the_first_status_of_a_resource_is_written_at_once() -> None:
    before: Mapping[str, Any] = {}
    assert Memory().should_write(KEY, before, STATUS)


def test_forgetting_a_resource_drops_its_mood_and_what_it_adopted() -> None:
    memory = Memory()
    memory.adopted["serving", "web"] = KEY
    memory.adopted["serving", "api"] = OTHER
    after = _with(_set(bottleneck="QueueBuildup"))
    memory.should_write(KEY, STATUS, after)
    memory.should_write(KEY, STATUS, after)
    memory.forget(KEY)
    assert memory.adopted == {("serving", "api"): OTHER}
    assert not memory.should_write(KEY, STATUS, after), "the count began anew"


def test_a_plan_lasts_from_when_it_was_first_proposed() -> None:
    memory = Memory()
    assert memory.lasting(KEY, "raise maxNumSeqs", 100.0) == 0.0
    assert memory.lasting(KEY, "raise maxNumSeqs", 115.0) == 15.0
    assert memory.lasting(OTHER, "raise maxNumSeqs", 120.0) == 0.0
    assert memory.lasting(KEY, "raise maxNumSeqs", 130.0) == 30.0


@pytest.mark.parametrize("between", ["", "lower maxNumSeqs"])
def test_a_plan_that_was_not_proposed_for_a_moment_counts_from_the_beginning(between: str) -> None:
    memory = Memory()
    memory.lasting(KEY, "raise maxNumSeqs", 100.0)
    assert memory.lasting(KEY, between, 110.0) == 0.0
    assert memory.lasting(KEY, "raise maxNumSeqs", 120.0) == 0.0


def _writes(memory: Memory, statuses: Sequence[dict[str, Any]]) -> tuple[int, dict[str, Any]]:
    """How many of the statuses are written one after another, and which stands in the end."""
    written, held = 0, STATUS
    for after in statuses:
        if memory.should_write(KEY, held, after):
            written, held = written + 1, after
    return written, held


def test_a_mood_that_swings_is_written_once_and_one_that_stays_each_time() -> None:
    up, down = _with(_set(bottleneck="QueueBuildup")), STATUS
    swings = [status for _ in range(50) for status in [up] * 5 + [down] * 5]
    assert _writes(Memory(), swings)[0] == 1, "the next one would have had to last 12 cycles"
    slow = [status for _ in range(20) for status in [up] * 30 + [down] * 30]
    assert _writes(Memory(), slow)[0] == 40, "each was quiet for longer than 12 cycles"


def test_a_mood_that_was_not_there_before_is_written_soon_however_soon_it_comes() -> None:
    memory = Memory()
    first, second = _with(_set(bottleneck="Idle")), _with(_set(bottleneck="QueueBuildup"))
    assert _writes(memory, [first] * 3) == (1, first)
    assert [memory.should_write(KEY, first, second) for _ in range(3)] == [False, False, True]
    assert [memory.should_write(KEY, second, first) for _ in range(12)] == [False] * 11 + [True], "it comes back"


def test_after_a_quiet_time_a_mood_is_written_soon_again() -> None:
    memory, up = Memory(), _with(_set(bottleneck="QueueBuildup"))
    written, held = _writes(memory, [up] * 20)
    assert (written, held) == (1, up)
    assert [memory.should_write(KEY, up, STATUS) for _ in range(3)] == [False, False, True]


def test_after_a_fact_a_mood_is_written_soon_again() -> None:
    memory, up = Memory(), _with(_set(bottleneck="QueueBuildup"))
    assert _writes(memory, [up] * 3)[0] == 1
    paused = {**up, "reason": "Paused"}
    assert memory.should_write(KEY, up, paused)
    worse = {**paused, "bottleneck": "PreemptionThrash"}
    assert [memory.should_write(KEY, paused, worse) for _ in range(3)] == [False, False, True]
