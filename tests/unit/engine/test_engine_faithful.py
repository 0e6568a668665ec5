"""The comparison of a converted model with its original."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.engine.asgi import ask
from tests.unit.engine.test_engine_gate import House
from trimtab_engine.engines.common.faithful import (
    MOST_TOKENS,
    REFERENCE,
    Comparison,
    Tolerance,
    compare,
    reference,
    reference_from_json,
)
from trimtab_engine.server.model_check import ModelCheck

STRICT = Tolerance(difference=0.1, perplexity=0.02)
LIKELY = st.lists(st.floats(-20, 0), min_size=1, max_size=50)


@given(LIKELY)
def test_a_model_agrees_with_itself(original: list[float]) -> None:
    same = compare(original, original)
    assert (same.mean_difference, same.perplexity_ratio) == (0, 1)
    assert same.objection(STRICT) == ""


@given(LIKELY, st.floats(0, 1))
def test_a_model_that_is_less_sure_has_a_larger_perplexity(original: list[float], loss: float) -> None:
    found = compare(original, [value - loss for value in original])
    assert found.mean_difference == pytest.approx(loss, abs=1e-9)
    assert found.perplexity_ratio == pytest.approx(math.exp(loss))


def test_what_is_beyond_a_tolerance_is_named() -> None:
    assert "differ by 0.5000 nats" in compare([-1.0, -2.0], [-1.5, -1.5]).objection(STRICT)
    assert "perplexity rises by 5.13 %" in compare([-1.0, -2.0], [-1.05, -2.05]).objection(STRICT)


@pytest.mark.parametrize("broken", [math.nan, -math.inf])
def test_what_is_no_number_is_never_within_a_tolerance(broken: float) -> None:
    found: Comparison = compare([-1.0, -1.0], [-1.0, broken])
    assert found.objection(Tolerance(difference=1e9, perplexity=1e9))


def test_models_are_compared_over_the_same_tokens() -> None:
    for original, candidate in (([], []), ([-1.0], [-1.0, -2.0])):
        with pytest.raises(ValueError, match="the same tokens"):
            compare(original, candidate)


# What is kept for whoever serves the model.


def test_the_first_piece_that_passes_by_itself_is_kept() -> None:
    pieces = [[1, 2, 3], [4, 5, 6, 7]]
    original = [-1.0, -1.0, -2.0, -2.0, -2.0]
    kept = reference(pieces, original, [-9.0, -1.0, -2.0, -2.0, -2.01], STRICT)
    assert kept is not None
    assert (kept.asked, kept.said) == ((4, 5, 6, 7), (-2.0, -2.0, -2.0))
    assert reference_from_json(json.loads(json.dumps(kept.as_json()))) == kept
    assert reference(pieces, original, [-9.0] * 5, STRICT) is None


def test_of_a_long_piece_the_beginning_is_kept() -> None:
    likely = [-1.0] * 999
    kept = reference([list(range(1000))], likely, likely, STRICT)
    assert kept is not None
    assert (len(kept.asked), len(kept.said)) == (MOST_TOKENS, MOST_TOKENS - 1)


def folder_with(folder: Path, said: Sequence[float]) -> str:
    known = reference([list(range(len(said) + 1))], said, said, STRICT)
    assert known is not None
    (folder / REFERENCE).write_text(json.dumps(known.as_json()))
    return str(folder)


class Engine:
    """Gives every token so many nats less than its original did."""

    def __init__(self, loss: float, said: Sequence[float]) -> None:
        self.answer = [value - loss for value in said]
        self.asked: list[Sequence[int]] = []

    async def likelihoods(self, tokens: Sequence[int]) -> list[float]:
        self.asked.append(tokens)
        return self.answer


SAID = (-1.0, -2.0, -0.5)


async def test_a_quantized_model_is_compared_with_its_original_before_the_first_request(tmp_path: Path) -> None:
    check, engine = ModelCheck(folder_with(tmp_path, SAID)), Engine(0.01, SAID)
    await check.look(engine.likelihoods)
    assert engine.asked == [(0, 1, 2, 3)]
    assert check.problem == ""
    shown = check.shown()
    assert shown is not None
    assert shown["mean_difference"] == pytest.approx(0.01)
    assert shown["problem"] is None


async def test_what_an_engine_makes_of_it_otherwise_is_told_and_it_serves(tmp_path: Path) -> None:
    house = House(tmp_path, model=folder_with(tmp_path, SAID))
    await house.gate.model_check.look(Engine(0.5, SAID).likelihoods)
    health = await ask(house.gate, "GET", "/health")
    said = "The quantized model is not what its original is: log-probabilities differ by 0.5000 nats on average"
    assert (health.status, health.document["status"]) == (200, "degraded")
    assert health.document["reasons"]["quantized_model"].startswith(said)
    assert (await house.status())["model_check"]["mean_difference"] == pytest.approx(0.5)


async def test_an_engine_with_a_shorter_context_is_asked_about_less(tmp_path: Path) -> None:
    check = ModelCheck(folder_with(tmp_path, SAID))
    await check.look(Engine(0.0, SAID[:2]).likelihoods)
    shown = check.shown()
    assert shown is not None
    assert shown["tokens"] == 2


@pytest.mark.parametrize("content", ["{", "[]", '{"asked": [1], "said": [], "tolerance": {}}', '{"asked": ["a"]}'])
async def test_a_reference_that_cannot_be_read_is_told(tmp_path: Path, content: str) -> None:
    (tmp_path / REFERENCE).write_text(content)
    check = ModelCheck(str(tmp_path))
    await check.look(Engine(0.0, SAID).likelihoods)
    assert check.problem.startswith("the comparison failed: ")


async def test_an_engine_that_fails_at_it_serves(tmp_path: Path) -> None:
    async def fail(_tokens: Sequence[int]) -> list[float]:
        raise TimeoutError("no answer")

    check = ModelCheck(folder_with(tmp_path, SAID))
    await check.look(fail)
    assert check.problem == "the comparison failed: TimeoutError: no answer"


async def test_without_a_reference_nothing_is_asked(tmp_path: Path) -> None:
    engine = Engine(0.0, SAID)
    check = ModelCheck(str(tmp_path))
    await check.look(engine.likelihoods)
    assert (engine.asked, check.shown()) == ([], None)
    assert ModelCheck("someone/model").shown() is None
