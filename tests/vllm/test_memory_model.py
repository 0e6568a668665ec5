"""The memory model against what real vLLM reports at start: sizes of the KV cache, concurrency, weights."""

from __future__ import annotations

import json
import struct
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.models.make_llama import SHAPES, Shape, write
from tests.vllm import venv
from tests.vllm.server import environment
from trimtab.catalogue import find_device
from trimtab.catalogue.models import read_config
from trimtab.plan.memory import Fits, fit
from trimtab.plan.point import ServingPoint

pytestmark = [pytest.mark.vllm, pytest.mark.slow, pytest.mark.long]

TOLERANCE = 0.03
SECONDS = 480
MIB = 1 << 20
PROGRAM = Path(__file__).with_name("report_memory.py")


def small(**changes: int) -> Shape:
    """The tiny Llama with other numbers."""
    return Shape(**{**SHAPES["tiny"].__dict__, **changes})


@dataclass(frozen=True, kw_only=True)
class Case:
    """A model and how it is served; `config` are changes of its config.json."""

    shape: Shape = field(default_factory=small)
    config: Mapping[str, object] = field(default_factory=dict)
    space: int = 64
    length: int = 2048
    step: int = 2048
    block: int | None = None
    kv_cache: str = "bf16"

    def write(self, folder: Path) -> None:
        write(self.shape, folder)
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | dict(self.config)))
        if self.config.get("tie_word_embeddings"):
            _drop_head(folder / "model.safetensors")

    def arguments(self, folder: Path) -> dict[str, object]:
        """Of `vllm.LLM`."""
        given: dict[str, object] = {
            "model": str(folder),
            "enforce_eager": True,
            "kv_cache_memory_bytes": self.space * MIB,
            "max_model_len": self.length,
            "max_num_batched_tokens": self.step,
            "max_num_seqs": 4,
        }
        if self.block is not None:
            given["block_size"] = self.block
        if self.kv_cache != "bf16":
            given["kv_cache_dtype"] = self.kv_cache
        return given

    def point(self, folder: Path) -> ServingPoint:
        config = json.loads((folder / "config.json").read_text())
        return ServingPoint(
            model=read_config(config, name=folder.name).shape,
            device=find_device("cpu"),
            engine="vllm",
            version="0.32.0",
            kv_cache=self.kv_cache,
            max_num_seqs=4,
            max_num_batched_tokens=self.step,
            max_model_len=self.length,
            kv_cache_bytes=self.space * MIB,
            kv_block_tokens=self.block,
        )


def _drop_head(path: Path) -> None:
    """Takes the last tensor, the head, out of a safetensors file: vLLM ties it only where the checkpoint has none."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    begin, _ = header.pop("lm_head.weight")["data_offsets"]
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length : 8 + length + begin])


_WINDOW = {"model_type": "mistral", "architectures": ["MistralForCausalLM"], "sliding_window": 256}

CASES = {
    "grouped queries": Case(),
    "one key head per query head": Case(shape=small(kv_heads=4)),
    "one key head": Case(shape=small(kv_heads=1)),
    "more layers": Case(shape=small(layers=7)),
    "wider heads": Case(shape=small(hidden=256, intermediate=512)),
    "tied head": Case(config={"tie_word_embeddings": True}),
    "blocks of 32": Case(block=32),
    "blocks of 64 and a length that they do not divide": Case(block=64, length=1000),
    "fp8 cache": Case(kv_cache="fp8"),
    "fp8 cache in blocks of 32": Case(kv_cache="fp8", block=32),
    "small cache": Case(space=3, length=512),
    "large cache": Case(space=512),
    "short context": Case(length=100),
    "window in every layer": Case(config=_WINDOW, step=256),
    "window in every layer and large steps": Case(config=_WINDOW, step=1024),
    "window in two layers of three": Case(
        shape=small(layers=6),
        config=_WINDOW | {"layer_types": ["sliding_attention", "sliding_attention", "full_attention"] * 2},
        step=256,
    ),
    "76 million parameters": Case(shape=SHAPES["m75"], space=256),
}


@dataclass(frozen=True)
class Reported:
    """vLLM's figures, and the memory model's for the same configuration."""

    vllm: Mapping[str, Any]
    ours: Fits


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Reported]:
    """All cases from one run of the program."""
    root = tmp_path_factory.mktemp("memory")
    folders = {name: root / str(number) for number, name in enumerate(CASES)}
    for name, case in CASES.items():
        case.write(folders[name])
    (root / "cases.json").write_text(json.dumps([case.arguments(folders[name]) for name, case in CASES.items()]))
    command = [str(venv.python()), str(PROGRAM), str(root / "cases.json"), str(root / "out.jsonl")]
    done = subprocess.run(
        command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=SECONDS
    )
    assert done.returncode == 0, done.stdout[-4000:]
    figures = [json.loads(line) for line in (root / "out.jsonl").read_text().splitlines()]
    return {
        name: Reported(found, _fits(CASES[name].point(folders[name])))
        for name, found in zip(CASES, figures, strict=True)
    }


def _fits(point: ServingPoint) -> Fits:
    result = fit(point)
    assert isinstance(result, Fits), result
    return result


@pytest.mark.parametrize("name", CASES)
def test_the_cache_holds_as_many_tokens_as_vllm_reports(name: str, reported: Mapping[str, Reported]) -> None:
    case = reported[name]
    assert case.ours.kv_tokens == pytest.approx(case.vllm["tokens"], rel=TOLERANCE)


@pytest.mark.parametrize("name", CASES)
def test_as_many_of_the_longest_requests_fit_as_vllm_reports(name: str, reported: Mapping[str, Reported]) -> None:
    case = reported[name]
    most = case.ours.max_concurrency(prompt=CASES[name].length, output=0)
    assert most == pytest.approx(case.vllm["concurrency"], rel=TOLERANCE)


@pytest.mark.parametrize("name", CASES)
def test_the_weights_take_as_many_bytes_as_vllm_loads(name: str, reported: Mapping[str, Reported]) -> None:
    case = reported[name]
    assert case.ours.weights_bytes == pytest.approx(case.vllm["weights"], rel=TOLERANCE)
