"""The small model that is made here instead of downloaded."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from math import prod
from pathlib import Path

import pytest

from tests.models.make_llama import PRINTABLE, SHAPES, VOCABULARY, Shape, cached, write

SMALL = Shape(hidden=32, intermediate=64, layers=2, heads=4, kv_heads=2, max_positions=64)


def tensors(folder: Path) -> dict[str, tuple[list[int], bytes]]:
    """Shape and bytes of every tensor of a safetensors file."""
    content = (folder / "model.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    assert header.pop("__metadata__") == {"format": "pt"}
    data = content[8 + length :]
    assert max(entry["data_offsets"][1] for entry in header.values()) == len(data)
    return {name: (entry["shape"], data[slice(*entry["data_offsets"])]) for name, entry in header.items()}


def values(data: bytes) -> list[float]:
    """bfloat16 numbers: the upper halves of float32 numbers."""
    return [struct.unpack("<f", b"\0\0" + data[at : at + 2])[0] for at in range(0, len(data), 2)]


def test_the_same_shape_gives_the_same_bytes_and_another_seed_gives_others(tmp_path: Path) -> None:
    write(SMALL, tmp_path / "one")
    write(SMALL, tmp_path / "two")
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert names == [
        *("config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")
    ]
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    other = Shape(**{**SMALL.__dict__, "seed": 1})
    write(other, tmp_path / "other")
    assert tensors(tmp_path / "other") != tensors(tmp_path / "one")


def test_the_weights_fill_the_shapes_of_a_llama(tmp_path: Path) -> None:
    write(SMALL, tmp_path)
    found = tensors(tmp_path)
    assert all(len(data) == 2 * prod(shape) for shape, data in found.values())
    assert sum(prod(shape) for shape, _ in found.values()) == SMALL.parameters()
    assert found["model.layers.1.self_attn.k_proj.weight"][0] == [16, 32]
    assert set(values(found["model.norm.weight"][1])) == {1.0}
    gate = values(found["model.layers.0.mlp.gate_proj.weight"][1])
    assert abs(sum(gate) / len(gate)) < 0.002
    assert (sum(value**2 for value in gate) / len(gate)) ** 0.5 == pytest.approx(0.02, rel=0.1)


def test_only_printable_tokens_can_win(tmp_path: Path) -> None:
    write(SMALL, tmp_path)
    head = values(tensors(tmp_path)["lm_head.weight"][1])
    for token in range(VOCABULARY):
        assert any(head[token * 32 : (token + 1) * 32]) == (token in PRINTABLE)


def test_every_byte_has_a_token_of_its_own(tmp_path: Path) -> None:
    write(SMALL, tmp_path)
    tokenizer = json.loads((tmp_path / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    assert sorted(vocabulary.values()) == list(range(256))
    assert vocabulary["A"] == ord("A")
    assert vocabulary["Ġ"] == ord(" ")
    assert [token["id"] for token in tokenizer["added_tokens"]] == list(range(256, VOCABULARY))


def test_the_models_are_of_the_sizes_that_their_users_count_on() -> None:
    assert SHAPES["m75"].parameters() == 76_303_104
    assert SHAPES["tiny"].parameters() < 500_000


def test_processes_that_make_a_model_at_once_get_the_same_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRIMTAB_CACHE", str(tmp_path))
    command = [sys.executable, "-m", "tests.models.make_llama", "--size", "tiny"]
    root = Path(__file__).resolve().parents[2]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) for _ in range(4)]
    folders = {process.communicate()[0].strip() for process in processes}
    assert folders == {str(cached("tiny"))}
    assert [path.name for path in (tmp_path / "models").iterdir()] == [cached("tiny").name]
