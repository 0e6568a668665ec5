"""What can be quantized, what the rounding learns from, and what the command refuses before it begins."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from trimtab_engine.quantize import program
from trimtab_engine.quantize.schemes import SCHEMES, objection
from trimtab_engine.quantize.text import TextError, documents, pieces

CONFIG: dict[str, Any] = {"architectures": ["LlamaForCausalLM"], "hidden_size": 4096, "intermediate_size": 14336}


def test_a_model_whose_sizes_the_groups_divide_may_be_quantized() -> None:
    for scheme in SCHEMES.values():
        assert objection(CONFIG, scheme, 128) == ""
    assert objection({"architectures": ["X"], "text_config": {"hidden_size": 4096}}, SCHEMES["gptq"], 128) == ""


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"quantization_config": {"quant_method": "awq"}}, "quantized already (awq)"),
        ({"architectures": None}, "architectures"),
        ({"hidden_size": 4160}, "give --group-size one of 64, 32"),
        ({"intermediate_size": 100}, "one of none"),
        ({"text_config": {"hidden_size": 96}}, "hidden_size is 96"),
    ],
)
def test_what_stands_against_it_is_named_with_the_way_out(change: dict[str, Any], says: str) -> None:
    assert says in objection({**CONFIG, **change}, SCHEMES["gptq"], 128)


def test_formats_without_groups_take_any_size() -> None:
    assert objection({**CONFIG, "hidden_size": 100}, SCHEMES["int8"], 128) == ""


def test_a_tenth_of_the_text_is_asked_about_and_not_learned_from() -> None:
    found = pieces(range(100 * 32 + 5), 32, most=50)
    assert len(found.learned) == 50 and len(found.asked) == 5
    assert not set(found.learned) & set(found.asked)
    assert all(len(piece) == 32 for piece in (*found.learned, *found.asked))
    small = pieces(range(64), 32, most=50)
    assert (len(small.learned), len(small.asked)) == (1, 1)
    with pytest.raises(TextError, match="at least 64 are needed"):
        pieces(range(63), 32, most=50)


def test_a_text_is_one_document_or_one_for_each_line_of_json() -> None:
    assert documents("a\nb", lines=False) == ["a\nb"]
    assert documents(" \n", lines=False) == []
    assert documents('{"text": "a"}\n\n{"text": "b", "more": 1}\n', lines=True) == ["a", "b"]
    for broken in ('{"text": "a"}\nb', '{"texts": "a"}', '{"text": 1}', "[]"):
        with pytest.raises(TextError, match=r"line [12]"):
            documents(broken, lines=True)


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG))
    monkeypatch.setattr(program, "NEEDS", {})
    return folder


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--tokens", "8"], "--tokens is at least 32"),
        (["--out", "/"], "exists; remove it"),
        (["--model", "/nowhere"], "no readable config.json"),
        ([], "no tokenizer.json"),
    ],
)
def test_what_cannot_be_is_one_sentence_and_leaves_nothing(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], says: str
) -> None:
    code = program.main(["--model", str(model), "--out", str(tmp_path / "out"), *options])
    said = capsys.readouterr().err
    assert (code, says in said, said.count("\n")) == (2, True, 1), said
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_missing_library_is_named_with_where_it_is_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(program, "NEEDS", {"no_such_module": "no-such-package"})
    assert program.main(["--model", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert "no-such-package is not installed; see requirements-engine-quantize.lock" in capsys.readouterr().err
