"""Speculative decoding in its parts: the setting, guesses, the share of right ones, vocabularies, the comparison."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.models.make_llama import SHAPES, write
from tests.unit.engine.rows import Client, Model, expected, following, job, repeating
from trimtab_engine.config.load import ConfigError, load
from trimtab_engine.config.speculation import SpeculationConfig
from trimtab_engine.engines.common.proof import PROMPTS, parted
from trimtab_engine.engines.onnx.batcher import Batcher, Bounds
from trimtab_engine.engines.onnx.draft import Draft
from trimtab_engine.engines.vllm import guesses
from trimtab_engine.engines.vllm.command import command
from trimtab_engine.speculation.acceptance import Acceptance, Guessed
from trimtab_engine.speculation.guess import LOOKED_AT, guess, lookup
from trimtab_engine.speculation.switch import Switch, Why, switch_from_json
from trimtab_engine.speculation.vocabulary import objection

TOKENS = st.lists(st.integers(0, 3), max_size=40)

# The setting.


def test_nothing_is_guessed_unless_it_is_asked_for() -> None:
    assert load("model: m", {}, {}).speculation.method == "off"
    assert load("model: m\nspeculation: {method: off}", {}, {}).speculation.method == "off"  # YAML reads false
    assert load("model: m", {"TRIMTAB_ENGINE_SPECULATION__METHOD": "off"}, {}).speculation.method == "off"


def test_it_is_set_in_the_file_or_the_environment() -> None:
    config = load("model: m\nspeculation: {method: ngram, tokens: 6, longest_match: 8, shortest_match: 3}", {}, {})
    asked = config.speculation
    assert (asked.method, asked.tokens, asked.longest_match, asked.shortest_match) == ("ngram", 6, 8, 3)
    environment = {
        "TRIMTAB_ENGINE_SPECULATION__METHOD": "draft",
        "TRIMTAB_ENGINE_SPECULATION__DRAFT_MODEL": "/models/small",
    }
    asked = load("model: m", environment, {}).speculation
    assert (asked.method, asked.draft_model) == ("draft", Path("/models/small"))


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ({"method": "draft"}, "speculation: method draft needs draft_model, the folder of a smaller model"),
        ({"method": "ngram", "draft_model": "/d"}, "speculation: draft_model is for method draft; leave it out"),
        ({"longest_match": 1}, "speculation: shortest_match must be at most longest_match"),
        ({"method": "eagle"}, "speculation.method: input should be 'off', 'ngram' or 'draft'"),
        ({"method": True}, "speculation.method: input should be 'off', 'ngram' or 'draft'"),
        ({"tokens": 0}, "speculation.tokens: input should be greater than or equal to 1"),
        ({"token": 4}, "speculation.token: is not known (from the file); did you mean speculation.tokens?"),
    ],
)
def test_what_cannot_be_is_refused_with_the_field_and_the_way_out(part: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as error:
        load(yaml.safe_dump({"model": "m", "speculation": part}), {}, {})
    assert str(error.value).startswith(said)


@pytest.mark.parametrize("raw", ["--speculative-config", "--spec-method=ngram", "-sc", "--speculative_config.method=x"])
def test_an_argument_of_vllms_beside_the_setting_is_refused(raw: str) -> None:
    document = {"model": "m", "engines": {"vllm": {"arguments": [raw]}}}
    assert command(load(yaml.safe_dump(document), {}, {}))[-1] == raw
    document["speculation"] = {"method": "ngram"}
    with pytest.raises(
        ConfigError, match=r"speculation: engines\.vllm\.arguments has .*; leave that out, or set method"
    ):
        load(yaml.safe_dump(document), {}, {})


def test_the_old_key_of_onnx_runtime_says_what_it_has_become() -> None:
    with pytest.raises(ConfigError, match=r"engines\.onnx\.draft_tokens: has become speculation\.method"):
        load("model: m\nengines: {onnx: {draft_tokens: 4}}", {}, {})
    with pytest.raises(ConfigError, match=r"ONNX__DRAFT_TOKENS: has become speculation\.method"):
        load("model: m", {"TRIMTAB_ENGINE_ENGINES__ONNX__DRAFT_TOKENS": "4"}, {})


def test_vllm_gets_its_own_argument() -> None:
    def told(**part: Any) -> dict[str, Any]:
        flag, value = guesses.arguments(SpeculationConfig.model_validate(part))
        assert flag == "--speculative-config"
        document: dict[str, Any] = json.loads(value)
        return document

    lengths = {"prompt_lookup_min": 2, "prompt_lookup_max": 5}
    assert told(method="ngram", longest_match=5) == {"method": "ngram", "num_speculative_tokens": 4, **lengths}
    draft = {"method": "draft_model", "model": "/d", "num_speculative_tokens": 3}
    assert told(method="draft", draft_model="/d", tokens=3) == draft
    assert guesses.arguments(SpeculationConfig()) == []


# Guesses.


def test_a_guess_is_what_followed_the_latest_place_that_reads_the_same() -> None:
    look = lookup(SpeculationConfig())
    assert look([1, 2, 3, 9, 1, 2, 3, 8, 1, 2, 3], 2) == [8, 1]
    assert look([7, 1, 2, 5, 6, 1, 2], 3) == [5, 6, 1]
    assert look([1, 2, 3, 4], 3) == []
    assert look([], 3) == []
    assert look([1, 9, 1], 1) == []
    assert lookup(SpeculationConfig(shortest_match=1))([1, 9, 1], 1) == [9]


@settings(max_examples=200)
@given(TOKENS, st.integers(1, 8), st.integers(1, 6), st.integers(1, 6))
def test_a_guess_followed_a_place_of_the_text_that_reads_as_its_end(
    tokens: list[int], most: int, one: int, other: int
) -> None:
    shortest, longest = sorted((one, other))
    guessed = guess(tokens, most, longest=longest, shortest=shortest)
    assert len(guessed) <= most
    end = tokens[-shortest:]
    places = [at for at in range(len(tokens) - shortest) if tokens[at : at + shortest] == end]
    assert bool(guessed) == bool(places and len(tokens) > shortest)
    if guessed:
        assert any(tokens[at + shortest :][: len(guessed)] == guessed for at in places)


def test_only_so_much_of_a_long_text_is_looked_at() -> None:
    text = [1, 2, 3, *range(100, 100 + LOOKED_AT), 1, 2]
    assert lookup(SpeculationConfig())(text, 2) == []


@settings(max_examples=150)
@given(
    st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=12), min_size=1, max_size=5),
    st.integers(1, 6),
    st.sampled_from([following, repeating]),
)
def test_a_draft_says_what_it_would_say_of_each_text_alone(
    texts: list[list[int]], most: int, says: Callable[[list[int]], int]
) -> None:
    """Whatever its cache still holds of the texts before."""
    draft = Draft(Model(1, says), context=64)
    for text in texts:
        assert draft.guess(text, most) == expected(text, most, says)


def test_a_draft_that_goes_on_computes_only_what_is_new() -> None:
    model = Model(1)
    draft = Draft(model, context=64)
    said = draft.guess([1, 2, 3, 4], 3)
    assert model.computed == 4 + 2
    assert draft.guess([1, 2, 3, 4, *said[:2], 50], 3) == expected([1, 2, 3, 4, *said[:2], 50], 3)
    assert model.computed == 6 + 1 + 2


def test_a_draft_is_silent_beyond_its_context() -> None:
    draft = Draft(Model(1), context=8)
    assert len(draft.guess([1] * 6, 4)) == 2
    assert draft.guess([1] * 8, 4) == []
    assert draft.guess([1] * 20, 4) == []


@settings(max_examples=100)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=20), st.integers(1, 30), st.integers(1, 8))
def test_a_draft_changes_no_answer_however_good_it_is(tokens: list[int], most: int, drafts: int) -> None:
    for says in (following, repeating):
        client, model = Client(), Model(1)
        batcher = Batcher(
            model,
            rows=1,
            bounds=Bounds(tokens_per_step=64),
            draft_tokens=drafts,
            guesser=Draft(Model(1, says), context=64).guess,
        )
        batcher.submit(job("a", tokens, most, client))
        while not client.done.is_set():
            batcher.turn()
        assert client.said == expected(tokens, most)
        if says is following:  # it is the model itself
            assert batcher.guessed.accepted == batcher.guessed.tokens


def test_a_draft_that_fails_ends_the_guessing_and_no_request(caplog: pytest.LogCaptureFixture) -> None:
    def fail(_tokens: object, _most: int) -> list[int]:
        raise MemoryError("no room")

    client = Client()
    bounds = Bounds(tokens_per_step=64)
    batcher = Batcher(Model(1), rows=1, bounds=bounds, draft_tokens=4, guesser=fail)
    batcher.submit(job("a", [1, 2], 20, client))
    while not client.done.is_set():
        batcher.turn()
    assert client.said == expected([1, 2], 20)
    assert batcher.fault == "MemoryError: no room"
    assert caplog.text.count("Guessing failed") == 1


def test_a_batcher_that_shall_not_guess_does_not() -> None:
    client = Client()
    bounds = Bounds(tokens_per_step=64)
    batcher = Batcher(Model(1), rows=1, bounds=bounds, draft_tokens=4, guesser=Draft(Model(1), context=64).guess)
    batcher.guessing = False
    batcher.submit(job("a", [1, 2], 20, client))
    while not client.done.is_set():
        batcher.turn()
    assert batcher.guessed == Guessed()


# How many are right.

RULES = SpeculationConfig(method="ngram", window_seconds=10, fewest_tokens=100, retry_seconds=50)


def noted(rates: list[int], *, per_second: int = 20) -> Acceptance:
    """So many of `per_second` guesses were right in each second."""
    acceptance = Acceptance(RULES)
    totals = accumulate(rates, initial=0)
    for second, accepted in enumerate(totals):
        total = Guessed(drafts=second, tokens=per_second * second, accepted=accepted)
        acceptance.note(float(second), total, on=True)
    return acceptance


def test_too_few_right_guesses_over_a_whole_window_are_objected_to_with_the_numbers() -> None:
    assert noted([2] * 9).objection(9) == ""  # not long enough
    assert noted([2] * 10).objection(10) == (
        "10.0 % of 200 guessed tokens were right in the last 10 s, fewer than 30 %."
    )
    assert noted([6] * 30).objection(30) == ""
    assert noted([20] * 20 + [0] * 7).objection(27) == ""  # 30 % of the window
    assert noted([20] * 20 + [0] * 8).objection(28) != ""


def test_nothing_is_concluded_from_a_few_guesses() -> None:
    assert noted([0] * 30, per_second=9).objection(30) == ""
    assert noted([0] * 30, per_second=10).objection(30) != ""


def test_the_share_is_that_of_the_window_and_none_without_guesses() -> None:
    acceptance = noted([20] * 20 + [0] * 5)
    assert acceptance.latest == Guessed(drafts=10, tokens=200, accepted=100)
    assert acceptance.latest.rate == 0.5
    assert Acceptance(RULES).latest.rate is None


def test_what_rests_is_tried_again_after_its_time_with_a_new_window() -> None:
    acceptance = noted([0] * 12)
    bad = Guessed(drafts=12, tokens=240)
    acceptance.note(12, bad, on=False)
    assert not acceptance.rested(61)
    assert acceptance.rested(62)
    acceptance.note(62, bad, on=True)
    assert acceptance.objection(71) == ""
    assert not acceptance.rested(200)
    never = Acceptance(RULES.model_copy(update={"retry_seconds": None}))
    never.note(0, bad, on=False)
    assert not never.rested(1e9)


@settings(max_examples=200)
@given(st.lists(st.integers(0, 20), min_size=1, max_size=60))
def test_an_objection_is_raised_exactly_when_the_window_has_too_few(rates: list[int]) -> None:
    acceptance, seconds = noted(rates), len(rates)
    known, accepted = rates[-10:], sum(rates[-10:])
    assert acceptance.latest == Guessed(drafts=len(known), tokens=20 * len(known), accepted=accepted)
    expects = seconds >= 10 and accepted < 0.3 * 200
    assert bool(acceptance.objection(float(seconds))) == expects


# Vocabularies.


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    write(SHAPES["tiny"], folder)
    return folder


def changed(model: Path, folder: Path, name: str, change: Callable[[Any], None]) -> Path:
    """The small files of the model with one of them changed."""
    folder.mkdir()
    for file in ("config.json", "tokenizer.json"):
        document = json.loads((model / file).read_text())
        if file == name:
            change(document)
        (folder / file).write_text(json.dumps(document))
    return folder


def test_a_draft_with_the_same_vocabulary_may_guess(model: Path, tmp_path: Path) -> None:
    assert objection(str(model), model) == ""
    cut = changed(model, tmp_path / "cut", "tokenizer.json", lambda d: d.update(truncation={"max_length": 5}))
    assert objection(str(model), cut) == ""


def test_a_draft_with_other_tokens_may_not(model: Path, tmp_path: Path) -> None:
    larger = changed(model, tmp_path / "larger", "config.json", lambda d: d.update(vocab_size=600))
    assert objection(str(model), larger) == "the draft has 600 tokens and the model 512"

    def swap(document: Any) -> None:
        words = document["model"]["vocab"]
        words["a"], words["b"] = words["b"], words["a"]

    other = changed(model, tmp_path / "other", "tokenizer.json", swap)
    assert objection(str(model), other) == "the draft's tokenizer gives texts other tokens than the model's"
    special = changed(model, tmp_path / "special", "tokenizer.json", lambda d: d["added_tokens"].pop())
    assert "other tokens" in objection(str(model), special)


def test_what_cannot_be_compared_may_not(model: Path, tmp_path: Path) -> None:
    assert objection("someone/model", model).startswith("someone/model is no folder with a model")
    assert objection(str(model), tmp_path / "none").startswith(f"{tmp_path / 'none'} is no folder with a model")
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "config.json").write_text('{"vocab_size": 512}')
    assert objection(str(model), bare).startswith("the vocabularies cannot be compared: FileNotFoundError")
    (bare / "config.json").write_text("{")
    assert objection(str(model), bare).startswith("the vocabularies cannot be compared: JSONDecodeError")


@settings(max_examples=100)
@given(st.binary(max_size=60), st.binary(max_size=60))
def test_any_files_are_compared_or_refused(
    tmp_path_factory: pytest.TempPathFactory, config: bytes, tokenizer: bytes
) -> None:
    folder = tmp_path_factory.mktemp("any")
    (folder / "config.json").write_bytes(config)
    (folder / "tokenizer.json").write_bytes(tokenizer)
    assert objection(str(folder), folder).startswith("the vocabularies cannot be compared: ")


def test_sentencepiece_files_are_compared_as_they_are(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("one", "same", "other")]
    for folder, content in zip(folders, (b"a", b"a", b"b"), strict=True):
        folder.mkdir()
        (folder / "config.json").write_text('{"text_config": {"vocab_size": 32000}}')
        (folder / "tokenizer.model").write_bytes(content)
    assert objection(str(folders[0]), folders[1]) == ""
    assert "other tokens" in objection(str(folders[0]), folders[2])


# The comparison.


def test_where_answers_part_is_told() -> None:
    assert parted([[1, 2, 3], [4, 5]], [[1, 2, 3], [4, 5]]) == ""
    told = "the answer with guesses is not the one without: prompt 2 of 2 parts at token 2 of 3"
    assert parted([[1], [4, 5, 6]], [[1], [4, 7, 6]]) == told
    assert parted([[1, 2, 3]], [[1, 2]]).endswith("prompt 1 of 1 parts at token 3 of 3")


def test_each_prompt_says_its_beginning_again() -> None:
    assert len(PROMPTS) >= 3
    assert all(prompt.count(prompt[:40]) == 2 for prompt in PROMPTS)


def test_a_switch_is_the_same_after_it_was_stored() -> None:
    for switch in (
        Switch(method="ngram", on=True, since="2026-01-01", checked=72, guessed=30),
        Switch(method="draft", on=False, why=Why.CHECK_FAILED, message="Nothing is guessed: no."),
    ):
        assert switch_from_json(json.loads(json.dumps(switch.as_json()))) == switch


def test_too_few_right_guesses_are_no_trouble_and_the_rest_is() -> None:
    for why in Why:
        switch = Switch(method="ngram", on=False, why=why, message="so")
        assert switch.trouble == ("" if why is Why.LOW_ACCEPTANCE else "so")
    assert Switch(method="ngram", on=True, message="so").trouble == ""
