"""Quantizing a trained model, and what vLLM says of it: kept where it means the same, refused where it does not."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.models import language, train_llama
from tests.testkit.client import MODEL_NAME
from tests.vllm import venv
from tests.vllm.asking import complete, text_of
from tests.vllm.server import ROOT, VllmServer, trimtab_command

pytestmark = [pytest.mark.vllm, pytest.mark.slow, pytest.mark.long]


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The language that the model knows, in other sentences than it was trained on."""
    path = tmp_path_factory.mktemp("text") / "text.jsonl"
    lines = (json.dumps({"text": language.text(5000 + number, 700)}) for number in range(120))
    path.write_text("\n".join(lines))
    return path


def quantized(out: Path, *options: str) -> tuple[int, dict[str, Any], str]:
    """The status, the line of JSON and what was said."""
    model = train_llama.cached(venv.python())
    command = [str(venv.quantize_python()), "-m", "trimtab_engine.main", "quantize", "--model", str(model)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "engine_image"), "OMP_NUM_THREADS": "2"}
    done = subprocess.run(
        [*command, "--out", str(out), "--tokens", "128", "--pieces", "64", "--steps", "20", *options],
        env=environment, capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    print(done.stdout, done.stderr)
    return done.returncode, json.loads(done.stdout) if done.stdout.strip() else {}, done.stderr


@pytest.mark.parametrize("scheme", ["gptq", "awq", "int8"])
def test_the_model_is_smaller_says_the_same_and_is_served(scheme: str, text: Path, tmp_path: Path) -> None:
    out = tmp_path / scheme
    code, found, said = quantized(out, "--scheme", scheme, "--text", str(text))
    assert code == 0, said
    assert found["perplexity_ratio"] < 1.02
    assert found["tokens"] == 6 * 127
    assert json.loads((out / "config.json").read_text())["quantization_config"]
    own = {"PYTHONPATH": str(ROOT / "engine_image"), "TRIMTAB_ENGINE_SERVED_MODEL_NAME": MODEL_NAME}
    log = ROOT / "build" / "vllm" / f"quantized-{scheme}.log"
    with VllmServer("--enforce-eager", log=log, model=out, env=own, start=trimtab_command) as server:
        answer = text_of(complete(server, prompt="The capital of Noria is", max_tokens=7, temperature=0))
        checked = json.loads(server.get("/v1/optimization/status"))["model_check"]
    assert answer.strip().startswith("Talun"), "what the trained model knows"
    assert checked["problem"] is None
    assert 0 < checked["mean_difference"] < 0.25


def test_what_differs_too_much_is_refused_and_not_kept(text: Path, tmp_path: Path) -> None:
    code, found, _ = quantized(tmp_path / "out", "--scheme", "gptq", "--largest-difference", "0.0001")
    assert code == 1
    assert "log-probabilities differ by" in found["refused"]
    assert not any(tmp_path.iterdir())
