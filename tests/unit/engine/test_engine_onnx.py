"""The batcher, the sampling and the guesses of the ONNX Runtime engine, with a model that knows what comes next."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.engine.rows import GREEDY, WORDS, Client, Model, expected, following, job, repeating
from tests.unit.engine.test_engine_chain import ENGINE_IMAGE
from trimtab_engine.config.engines import OnnxConfig
from trimtab_engine.config.speculation import SpeculationConfig
from trimtab_engine.engines.onnx import convert
from trimtab_engine.engines.onnx.batcher import Batcher, Bounds
from trimtab_engine.engines.onnx.sampling import Logits, Sampling, pick
from trimtab_engine.speculation.guess import lookup

LOOKUP = lookup(SpeculationConfig())
REQUESTS = st.lists(
    st.tuples(st.lists(st.integers(0, WORDS - 1), min_size=1, max_size=20), st.integers(1, 9), st.integers(0, 12)),
    min_size=1,
    max_size=8,
)


@settings(max_examples=150)
@given(REQUESTS, st.integers(1, 4), st.integers(1, 9), st.integers(0, 3))
def test_requests_that_join_and_leave_at_any_time_are_answered_as_if_each_were_alone(
    requests: list[tuple[list[int], int, int]], rows: int, per_step: int, long_prompt: int
) -> None:
    model = Model(rows)
    bounds = Bounds(tokens_per_step=per_step, prompt_tokens_per_step=long_prompt)
    batcher = Batcher(model, rows=rows, bounds=bounds)
    clients = [Client() for _ in requests]
    for turn in range(400):
        for number, (tokens, most, arrives) in enumerate(requests):
            if arrives == turn:
                batcher.submit(job(str(number), tokens, most, clients[number]))
        batcher.turn()
    for (tokens, most, _), client in zip(requests, clients, strict=True):
        assert client.said == expected(tokens, most)
        assert [output.finished for output in client.outputs] == [False] * (most - 1) + [True]
    assert model.largest_step <= per_step


def test_an_answer_ends_with_an_end_token() -> None:
    client, model = Client(), Model(1)
    says = expected([1, 2], 5)
    batcher = Batcher(model, rows=1, bounds=Bounds(tokens_per_step=8))
    batcher.submit(job("a", [1, 2], 50, client, frozenset({says[2]})))
    for _ in range(10):
        batcher.turn()
    assert client.said == says[: says.index(says[2]) + 1]


def test_a_cancelled_request_leaves_its_row_to_the_next() -> None:
    model = Model(1)
    batcher = Batcher(model, rows=1, bounds=Bounds(tokens_per_step=8))
    first, second, third = Client(), Client(), Client()
    batcher.submit(job("first", [5], 1_000_000_000, first))
    batcher.submit(job("second", [6], 3, second))
    batcher.submit(job("third", [7], 3, third))
    batcher.cancel("third")
    batcher.start()
    batcher.cancel("first")
    assert second.done.wait(20)
    batcher.stop()
    assert second.said == expected([6], 3)
    assert third.outputs == []
    assert not batcher.alive()


def test_a_model_that_fails_is_told_to_all_and_ends_the_batcher(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Model):
        def step(self, tokens: list[int], past: list[int]) -> Logits:
            raise MemoryError("no room")

    batcher = Batcher(Broken(2), rows=2, bounds=Bounds(tokens_per_step=8))
    clients = [Client(), Client(), Client()]
    for number, client in enumerate(clients):
        batcher.submit(job(str(number), [number + 1], 5, client))
    batcher.start()
    assert all(client.done.wait(20) for client in clients)
    batcher.stop()
    assert [client.outputs[-1].error for client in clients] == ["the batcher ended"] * 3
    assert not batcher.alive()
    assert "The batch failed" in caplog.text


@settings(max_examples=100)
@given(
    st.lists(st.integers(0, 3), min_size=4, max_size=20),
    st.integers(1, 30),
    st.integers(1, 8),
    st.sampled_from([following, repeating]),
)
def test_guesses_change_no_answer(tokens: list[int], most: int, drafts: int, says: Callable[[list[int]], int]) -> None:
    client = Client()
    bounds = Bounds(tokens_per_step=64)
    batcher = Batcher(Model(1, says), rows=1, bounds=bounds, draft_tokens=drafts, guesser=LOOKUP)
    batcher.submit(job("a", tokens, most, client))
    while not client.done.is_set():
        batcher.turn()
    assert client.said == expected(tokens, most, says)
    assert batcher.guessed.accepted <= batcher.guessed.tokens
    if says is repeating and most > 12:
        assert batcher.guessed.accepted > 0


def test_a_text_that_repeats_itself_is_guessed_and_takes_fewer_steps() -> None:
    client, model = Client(), Model(1, repeating)
    batcher = Batcher(model, rows=1, bounds=Bounds(tokens_per_step=64), draft_tokens=4, guesser=LOOKUP)
    batcher.submit(job("a", [1, 2, 3, 4, 1, 2, 3, 4], 40, client))
    while not client.done.is_set():
        batcher.turn()
    assert model.extends < 15
    assert batcher.guessed.accepted == batcher.guessed.tokens


@settings(max_examples=100)
@given(st.integers(1, 40), st.floats(0.05, 1), st.integers(0, 10_000))
def test_only_the_likeliest_tokens_are_taken(top_k: int, top_p: float, seed: int) -> None:
    source = np.random.default_rng(seed)
    logits = source.normal(0, 3, 40).astype(np.float32)
    taken = pick(logits, Sampling(temperature=1.0, top_p=top_p, top_k=top_k), source)
    order = list(np.argsort(-logits))
    weights = np.exp(logits[order[:top_k]].astype(np.float64))
    before = weights[: order.index(taken)].sum() / weights.sum()
    assert order.index(taken) < top_k
    assert before <= top_p + 1e-6
    assert pick(logits, GREEDY, source) == order[0]


def test_samples_come_as_often_as_the_temperature_says() -> None:
    source, logits = np.random.default_rng(1), np.log(np.array([0.7, 0.2, 0.1], np.float32))
    plain = Sampling(temperature=1.0, top_p=1.0, top_k=0)
    counts = np.bincount([pick(logits, plain, source) for _ in range(4000)], minlength=3) / 4000
    assert counts == pytest.approx([0.7, 0.2, 0.1], abs=0.03)
    flat = Sampling(temperature=50.0, top_p=1.0, top_k=0)
    counts = np.bincount([pick(logits, flat, source) for _ in range(4000)], minlength=3) / 4000
    assert counts == pytest.approx([1 / 3] * 3, abs=0.04)


# What stands before the conversion, with a converter that writes what it is told.
PREPARE = """
import json, os, pathlib, sys
print("converting")
if os.environ.get("FAILS"):
    sys.exit("the architecture is not known")
numbers = {"tokens": 255, "mean_difference": float(os.environ["DIFFERENCE"]), "largest_difference": 1.0,
           "perplexity_ratio": float(os.environ.get("RATIO", "1.0"))}
(pathlib.Path(sys.argv[2]) / "trimtab-check.json").write_text(json.dumps(numbers))
"""


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model's folder; the program that converts is a stand-in."""
    program = tmp_path / "prepare.py"
    program.write_text(PREPARE)
    monkeypatch.setattr(convert, "PREPARE", (str(program),))
    monkeypatch.setattr("importlib.metadata.version", lambda _: "0.18.0")
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    return folder


def config(tmp_path: Path, **changes: object) -> OnnxConfig:
    return OnnxConfig.model_validate({"cache_folder": str(tmp_path / "cache"), **changes})


def test_a_conversion_that_agrees_is_used_and_made_once(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIFFERENCE", "0.0001")
    folder = convert.converted(str(source), config(tmp_path))
    assert folder.parent == tmp_path / "cache" / "onnx"
    monkeypatch.setenv("FAILS", "1")
    assert convert.converted(str(source), config(tmp_path)) == folder
    (source / "config.json").write_text('{"changed": true}')
    with pytest.raises(convert.ConversionError, match="cannot be converted: the architecture is not known"):
        convert.converted(str(source), config(tmp_path))
    assert [path.name for path in folder.parent.iterdir() if path.is_dir()] == [folder.name]


@pytest.mark.parametrize(
    ("difference", "ratio", "why"),
    [
        ("0.3", "1", "differ by 0.3000 nats on average over 255 tokens, more than 0.001"),
        ("nan", "1", "differ by nan nats"),
        ("0.0001", "1.05", r"perplexity rises by 5.00 % over 255 tokens, more than 2 %"),
    ],
)
def test_a_conversion_that_differs_is_refused_with_the_numbers(
    difference: str, ratio: str, why: str, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIFFERENCE", difference)
    monkeypatch.setenv("RATIO", ratio)
    with pytest.raises(convert.ConversionError, match=why):
        convert.converted(str(source), config(tmp_path))


def test_the_tolerance_of_the_configuration_wins_over_that_of_the_precision(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIFFERENCE", "0.2")
    assert convert.converted(str(source), config(tmp_path, precision="int4")).is_dir()
    with pytest.raises(convert.ConversionError, match=r"more than 0\.1"):
        convert.converted(str(source), config(tmp_path, precision="int4", largest_difference=0.1))


def test_a_name_on_a_hub_is_refused(tmp_path: Path) -> None:
    with pytest.raises(convert.ConversionError, match="someone/model is no folder"):
        convert.converted("someone/model", config(tmp_path))


def test_the_program_that_converts_is_there() -> None:
    assert convert.PREPARE == ("-m", "trimtab_engine.engines.onnx.prepare")
    assert (ENGINE_IMAGE / "trimtab_engine" / "engines" / "onnx" / "prepare.py").is_file()
