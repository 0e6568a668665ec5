"""Whether a canary's outputs are within the budget: the cases that decide a rollout."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from tests.unit.judge.answers import answers, probes, scored
from trimtab.judge.quality import NEUTRAL, Question, Unusable, judge_quality, parse_probes
from trimtab.judge.quality.measures import disagreement, lengthening, surprise
from trimtab.judge.quality.paired import ratio, student_quantile
from trimtab.model.quality import Answers, Budget, Failed, Fault, Scored, Unasked
from trimtab.model.reason import Reason
from trimtab.model.verdict import Call, Verdict

COUNT = 32


def judged(canary: Answers, *, again: Answers | None = None, budget: Budget | None = None) -> Verdict:
    question = Question(
        probes=probes(COUNT),
        stable=answers(COUNT),
        again=answers(COUNT) if again is None else again,
        canary=canary,
        budget=budget or Budget(),
    )
    return judge_quality(question)


def test_the_same_answers_are_within_the_budget() -> None:
    verdict = judged(answers(COUNT))
    assert (verdict.call, verdict.reason) == (Call.GOOD, Reason.WITHIN_QUALITY_BUDGET)
    assert verdict.evidence["perplexity"] == 0.0
    assert "32 probes" in verdict.message


def test_a_small_rise_of_the_perplexity_is_within_the_budget_and_reported() -> None:
    verdict = judged(answers(COUNT, seed=1, worse=0.005, spread=0.005))
    assert verdict.call is Call.GOOD
    assert 0.002 < verdict.evidence["perplexity"] < 0.008
    assert verdict.evidence["perplexity.low"] < verdict.evidence["perplexity"] < verdict.evidence["perplexity.high"]


def test_a_large_rise_of_the_perplexity_is_bad() -> None:
    verdict = judged(answers(COUNT, seed=1, worse=0.2))
    assert (verdict.call, verdict.reason) == (Call.BAD, Reason.QUALITY_REGRESSION)
    assert "perplexity +22 %" in verdict.message and "budget is 2 %" in verdict.message


def test_an_infinite_perplexity_is_bad_and_its_numbers_stay_finite() -> None:
    verdict = judged(tuple(replace(answer, logprobs=(None, *[-9999.0] * 47)) for answer in scored(answers(COUNT))))
    assert verdict.call is Call.BAD
    assert all(math.isfinite(value) for value in verdict.evidence.values())


def test_a_rise_that_the_probes_cannot_tell_from_the_budget_is_unknown() -> None:
    verdict = judged(answers(COUNT, seed=1, worse=0.02, spread=0.05))
    assert (verdict.call, verdict.reason) == (Call.UNKNOWN, Reason.QUALITY_UNKNOWN)
    assert "More probes" in verdict.message


def test_noise_above_the_budget_is_unknown_and_names_the_field() -> None:
    verdict = judged(answers(COUNT), again=answers(COUNT, seed=2, spread=0.2))
    assert verdict.call is Call.UNKNOWN
    assert "spec.quality.maxPerplexityIncreasePermille" in verdict.message


def test_noise_does_not_hide_what_is_far_worse() -> None:
    assert judged(answers(COUNT, seed=1, worse=2.0), again=answers(COUNT, seed=2, spread=0.1)).call is Call.BAD


def test_other_greedy_tokens_are_bad_beyond_what_stable_differs_from_itself() -> None:
    noisy = answers(COUNT, seed=2, differing=0.06)
    assert judged(answers(COUNT, seed=1, differing=0.3)).call is Call.BAD
    assert judged(answers(COUNT, seed=1, differing=0.02)).call is Call.GOOD
    assert judged(answers(COUNT, seed=1, differing=0.06), again=noisy).call is Call.GOOD


@pytest.mark.parametrize(("longer", "call"), [(0, Call.GOOD), (1, Call.GOOD), (-6, Call.BAD), (8, Call.BAD)])
def test_much_longer_and_much_shorter_answers_are_bad(longer: int, call: Call) -> None:
    verdict = judged(answers(COUNT, longer=longer))
    assert verdict.call is call
    assert verdict.evidence["length"] == longer / 8


def test_a_text_that_only_the_canary_fails_at_is_bad_unless_the_budget_allows_it() -> None:
    canary = list(answers(COUNT))
    canary[3] = Failed(Fault.BROKEN, "c-0 fails (HTTP status 500).")
    verdict = judged(tuple(canary))
    assert (verdict.call, verdict.evidence["failures"]) == (Call.BAD, 1 / COUNT)
    assert "'probe-003'" in verdict.message and "HTTP status 500" in verdict.message
    assert judged(tuple(canary), budget=Budget(failures=0.05)).call is Call.GOOD


def test_texts_that_stable_fails_at_too_are_left_out() -> None:
    refused = Failed(Fault.REFUSED, "s-0 refuses the text (HTTP status 400).")
    some = (*answers(COUNT)[:-4], *[refused] * 4)
    assert judged(some, again=some).evidence["probes"] == COUNT - 4
    most = (*answers(COUNT)[:4], *[refused] * (COUNT - 4))
    verdict = judged(most, again=most)
    assert verdict.call is Call.UNKNOWN and "4 of 32 probes" in verdict.message and "400" in verdict.message


@pytest.mark.parametrize("who", ["stable", "again", "canary"])
def test_a_pod_that_cannot_be_asked_is_unknown_with_its_reason(who: str) -> None:
    parts: dict[str, Answers] = {part: answers(COUNT) for part in ("stable", "again", "canary")}
    parts[who] = Unasked("Pod x cannot be reached (ConnectTimeout).")
    verdict = judge_quality(Question(probes=probes(COUNT), budget=Budget(), **parts))
    assert verdict.call is Call.UNKNOWN and "ConnectTimeout" in verdict.message


def test_another_tokenizer_is_unknown() -> None:
    other = tuple(replace(answer, tokens=("x", *answer.tokens[1:])) for answer in scored(answers(COUNT)))
    assert "not versions of one model" in judged(other).message


def test_tokens_after_the_outputs_part_do_not_count_as_disagreement() -> None:
    same = Scored(("a", "b", "c", "d", "e"), (None, -1.0, -1.0, -1.0, -1.0), (None, "b", "c", "d", "e"), 2)
    parted = replace(same, tokens=("a", "b", "x", "y", "z"), greedy=(None, "b", "x", "y", "z"))
    assert disagreement([same], [same]).value == 0.0
    assert disagreement([same], [parted]).value == 0.5, "one place of the text, and the first of the continuation"


def test_measures_are_ratios_of_sums() -> None:
    short = Scored(("a", "b"), (None, -1.0), (None, "b"), 2)
    long = Scored(("a", "b", "c", "d"), (None, -2.0, -2.0, -2.0), (None, "b", "c", "d"), 4)
    worse = replace(long, logprobs=(None, -3.0, -3.0, -2.0))
    assert surprise([short, long], [short, worse]).value == pytest.approx(2 / 4)
    continued = replace(long, text_tokens=2)
    assert lengthening([continued], [replace(continued, tokens=("a", "b", "c"))]).value == -0.5


@pytest.mark.parametrize(("freedom", "quantile"), [(9, 3.2498), (11, 3.1058), (31, 2.7440), (199, 2.6008)])
def test_students_quantile_is_that_of_the_tables(freedom: int, quantile: float) -> None:
    assert student_quantile(0.995, freedom) == pytest.approx(quantile, rel=1e-3)


def test_one_probe_says_nothing_about_certainty() -> None:
    assert ratio([1.0], [2.0]).interval(0.995) == (-math.inf, math.inf)
    assert student_quantile(0.995, 0) == math.inf
    with pytest.raises(ValueError, match="more than nothing"):
        ratio([0.0], [0.0])


def entries(count: int, text: str = "A text that is long enough. ") -> dict[str, object]:
    return {f"t{number:03}": text for number in range(count)}


def test_the_neutral_set_is_a_valid_probe_set() -> None:
    parsed = parse_probes({probe.name: probe.text for probe in NEUTRAL}, {})
    assert parsed == NEUTRAL
    assert len({probe.text for probe in NEUTRAL}) == len(NEUTRAL) == 32


@pytest.mark.parametrize(
    ("data", "binary", "said"),
    [
        ({}, {}, "holds 0 texts"),
        (entries(11), {}, "12 are the fewest"),
        (entries(201), {}, "200 are the most"),
        ({**entries(12), "x": "  \n "}, {}, "'x' is empty"),
        ({**entries(12), "x": "a" * 8193}, {}, "'x' has 8193 bytes"),
        (entries(40, "a" * 8000), {}, "320000 bytes together"),
        ({**entries(12), "x": "a NUL in it: \0 and more"}, {}, "'x' holds a NUL"),
        ({**entries(12), "x": "a lone surrogate \ud800 here"}, {}, "'x' is not UTF-8"),
        ({**entries(12), "x": 7}, {}, "'x' is not UTF-8"),
        (entries(12), {"latin": "Z2Vu/GdlbmQgbGFuZyBnZW51Zw=="}, "'latin' is not UTF-8"),
        (entries(12), {"broken": "%%%"}, "'broken' is not UTF-8"),
    ],
)
def test_a_probe_set_that_cannot_be_used_is_refused_with_the_entry_and_the_way_out(
    data: dict[str, object], binary: dict[str, object], said: str
) -> None:
    refused = parse_probes(data, binary)
    assert isinstance(refused, Unusable)
    assert said in refused.message


def test_probes_are_in_the_order_of_their_names_and_utf8_of_binary_data_is_read() -> None:
    parsed = parse_probes(entries(12), {"a": "Z2Vuw7xnZW5kIGxhbmcgZ2VudWc="})
    assert not isinstance(parsed, Unusable)
    assert [probe.name for probe in parsed] == ["a", *sorted(entries(12))]
    assert parsed[0].text == "genügend lang genug"
