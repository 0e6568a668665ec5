"""The comparison of outputs under any answers, and how often it is wrong."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.judge.answers import answers, probes
from trimtab.judge.quality import Question, Unusable, judge_quality, parse_probes
from trimtab.judge.quality.probes import ALL_BYTES, FEWEST, LONGEST_BYTES, MOST
from trimtab.model.quality import Budget, Failed, Fault, Outcome, Scored, Unasked
from trimtab.model.verdict import Call

COUNT = 16
DRAWS = 300

_logprobs = st.floats(-9999.0, 0.0)


@st.composite
def _scored(draw: st.DrawFn) -> Scored:
    length = draw(st.integers(2, 5))
    tokens = draw(st.lists(st.sampled_from("abc"), min_size=length, max_size=length))
    greedy = draw(st.lists(st.sampled_from("abc"), min_size=length - 1, max_size=length - 1))
    logprobs = draw(st.lists(_logprobs, min_size=length - 1, max_size=length - 1))
    text = draw(st.integers(2, length))
    return Scored(tuple(tokens), (None, *logprobs), (None, *greedy), text)


_failed = st.sampled_from(Fault).map(lambda fault: Failed(fault, "It failed."))
_answers = st.one_of(
    st.lists(st.one_of(_scored(), _scored(), _scored(), _failed), min_size=COUNT, max_size=COUNT).map(tuple),
    st.just(Unasked("Nobody is there.")),
)
_same_text = st.sampled_from([answers(COUNT, seed=seed, worse=seed / 50, spread=0.05) for seed in range(6)])
_shares = st.floats(0.001, 10.0)
_budgets = st.builds(Budget, _shares, st.floats(0.001, 1.0), _shares, st.floats(0.0, 1.0))


@settings(max_examples=200)
@given(stable=_answers | _same_text, again=_answers | _same_text, canary=_answers | _same_text, budget=_budgets)
def test_any_answers_give_a_verdict_with_finite_numbers_and_a_sentence(
    stable: tuple[Outcome, ...] | Unasked,
    again: tuple[Outcome, ...] | Unasked,
    canary: tuple[Outcome, ...] | Unasked,
    budget: Budget,
) -> None:
    verdict = judge_quality(Question(probes=probes(COUNT), stable=stable, again=again, canary=canary, budget=budget))
    assert verdict.message.endswith((".", ")"))
    assert all(math.isfinite(value) for value in verdict.evidence.values())
    if any(isinstance(part, Unasked) for part in (stable, again, canary)):
        assert verdict.call is Call.UNKNOWN
    if verdict.call is Call.GOOD:
        assert verdict.evidence["perplexity.high"] <= budget.perplexity_increase
        assert verdict.evidence["failures"] <= budget.failures


def shares(worse: float, spread: float, count: int = 32) -> dict[Call, float]:
    """How often each verdict is given; what differs from text to text is drawn anew each time."""
    calls = []
    stable, again = answers(count), answers(count, seed=1, spread=0.001)
    for draw in range(DRAWS):
        canary = answers(count, seed=2 + draw, worse=worse, spread=spread)
        question = Question(probes=probes(count), stable=stable, again=again, canary=canary, budget=Budget())
        calls.append(judge_quality(question).call)
    return {call: calls.count(call) / DRAWS for call in Call}


@pytest.mark.parametrize("count", [12, 32])
def test_a_change_at_the_edge_of_the_budget_is_hardly_ever_called_good_or_bad(count: int) -> None:
    found = shares(math.log(1.02), 0.02, count)
    assert found[Call.GOOD] <= 0.02 and found[Call.BAD] <= 0.02, "0.5 % each, and 300 draws"


def test_a_change_of_a_tenth_of_the_budget_is_called_good_and_one_of_five_times_the_budget_bad() -> None:
    assert shares(0.002, 0.01)[Call.GOOD] >= 0.99
    assert shares(0.1, 0.05)[Call.BAD] >= 0.99


@settings(max_examples=200)
@given(
    data=st.dictionaries(st.text(min_size=1, max_size=8), st.one_of(st.text(max_size=60), st.none(), st.integers())),
    binary=st.dictionaries(st.text(min_size=1, max_size=8), st.text(max_size=40), max_size=3),
)
def test_any_entries_are_a_probe_set_within_the_bounds_or_refused_with_a_sentence(
    data: dict[str, object], binary: dict[str, object]
) -> None:
    parsed = parse_probes(data, binary)
    if isinstance(parsed, Unusable):
        assert parsed.message.startswith("It") and parsed.message.endswith(".")
        return
    assert FEWEST <= len(parsed) <= MOST
    sizes = [len(probe.text.encode()) for probe in parsed]
    assert max(sizes) <= LONGEST_BYTES and sum(sizes) <= ALL_BYTES
