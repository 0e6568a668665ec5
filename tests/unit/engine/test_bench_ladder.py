"""Optimizations are tried one by one, and each is kept or taken back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from tests.unit.engine.test_bench_compare import scenario
from trimtab_engine.bench.hands import CannotError
from trimtab_engine.bench.ladder import Rung, judge, read_steps
from trimtab_engine.bench.result import Scenario
from trimtab_engine.bench.sweep import judge_by, sweep

STEPS = """
- {name: more at once, limits: {max_running_requests: 16}}
- {name: a bad idea, limits: {max_tokens_per_step: 16}}
- {name: eight bits, arguments: [--kv-cache-dtype, fp8]}
- {name: not there, arguments: [--no-such-flag]}
"""


class Hands:
    """A server whose speed follows from what it is set to; it writes down what it was."""

    server: Any = None

    def __init__(self) -> None:
        self.states: list[tuple[dict[str, Any], tuple[str, ...]]] = []
        self.limits: dict[str, Any] = {"max_running_requests": 4, "max_tokens_per_step": 512}
        self.arguments: tuple[str, ...] = ()
        self.measured = 0
        self.broken = False

    async def set(self, limits: Mapping[str, Any], arguments: Sequence[str]) -> float:
        if "--no-such-flag" in arguments:
            raise CannotError("the server did not start with --no-such-flag")
        self.limits, self.arguments = dict(limits), tuple(arguments)
        self.states.append((self.limits, self.arguments))
        return 0.5

    async def measure(self) -> Scenario:
        if self.broken:
            raise OSError("nobody answers")
        self.measured += 1
        slower = 1.0 if self.limits["max_running_requests"] == 16 else 1.5
        slower *= 1.5 if self.limits["max_tokens_per_step"] == 16 else 1.0
        slower *= 0.6 if "fp8" in self.arguments else 1.0
        return scenario(self.measured, slower=slower)


async def climb(hands: Hands, objective: str = "throughput") -> list[Rung]:
    judged = judge_by(objective, gain=0.02, loss=0.1, confidence=0.95)
    start = dict(hands.limits)
    return await sweep(
        hands, read_steps(STEPS), hands.measure, judged, objective=objective, start=start, arguments=("--a",)
    )


@pytest.mark.parametrize("objective", ["throughput", "ttft", "latency"])
async def test_what_gains_is_kept_and_all_else_is_taken_back(objective: str) -> None:
    hands = Hands()
    rungs = await climb(hands, objective)
    assert [(rung.step.name, rung.kept) for rung in rungs] == [
        ("more at once", True),
        ("a bad idea", False),
        ("eight bits", True),
        ("not there", False),
    ]
    assert (hands.limits, hands.arguments) == (
        {"max_running_requests": 16, "max_tokens_per_step": 512},
        ("--a", "--kv-cache-dtype", "fp8"),
    )
    assert [rung.revert_seconds is None for rung in rungs] == [True, False, True, False]
    assert rungs[3].why == "the server did not start with --no-such-flag"
    assert rungs[0].ratio is not None and rungs[0].low is not None
    assert hands.measured == 7


async def test_when_it_breaks_off_the_server_is_as_it_was() -> None:
    hands = Hands()
    start = dict(hands.limits)
    hands.broken = True
    with pytest.raises(OSError, match="nobody answers"):
        await climb(hands)
    assert (hands.limits, hands.arguments) == (start, ("--a",))


def test_a_gain_that_costs_too_much_elsewhere_or_fails_requests_is_not_kept() -> None:
    fast, slow = scenario(1), scenario(2, slower=1.5)
    rules = {"objective": "throughput", "gain": 0.02, "loss": 0.1, "confidence": 0.95}
    assert judge(slow, fast, **rules).kept  # type: ignore[arg-type]
    failing = judge(slow, scenario(1, failed=2), **rules)  # type: ignore[arg-type]
    assert (failing.kept, failing.why) == (False, "1.0% of the requests failed")
    same = judge(fast, scenario(3), **rules)  # type: ignore[arg-type]
    assert not same.kept
    samples = tuple(
        type(one)(began=one.began, seconds=one.seconds, ttft=3 * (one.ttft or 0), prompt_tokens=1, output_tokens=60)
        for one in fast.samples
    )
    late = Scenario(name="load", seconds=fast.seconds, traffic={}, samples=samples)
    dear = judge(fast, late, **rules)  # type: ignore[arg-type]
    assert not dear.kept
    assert dear.why.startswith("TTFT p50 is 3.")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        "- 5",
        "- {name: x}",
        "- {limits: {a: 1}, arguments: [b]}",
        "- {limit: {a: 1}}",
        "- {limits: 3}",
        "[",
    ],
)
def test_steps_that_cannot_be_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="step"):
        read_steps(text)
