"""`trimtab plan` and `trimtab simulate` as a person calls them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from trimtab.cli.main import app

PLAN = ["plan", "--model", "meta-llama/Llama-3.1-70B", "--gpu", "H100", "--gpus", "8", "--isl", "1024", "--osl", "256"]
SIMULATE = ["simulate", "--model", "Qwen/Qwen3-8B", "--gpu", "H100", "--isl", "1024", "--osl", "256"]
CONFIG = {
    "model_type": "llama",
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
    "vocab_size": 128256,
    "max_position_embeddings": 8192,
    "tie_word_embeddings": False,
}
MANIFEST: dict[str, Any] = {
    "apiVersion": "trimtab.dev/v1alpha1",
    "kind": "LLMDeployment",
    "metadata": {"name": "chat"},
    "spec": {
        "model": {"name": "llama", "source": "meta-llama/Llama-3.1-8B-Instruct"},
        "engine": {"name": "vllm", "version": "0.24.0", "image": "vllm", "config": {"maxNumSeqs": 64}},
        "accelerator": {"type": "L40S", "count": 1},
        "replicas": 4,
        "workload": {"promptTokens": 512, "outputTokens": 128, "requestsPerSecondMilli": 6000},
        "slo": {"ttft": {"p95Milliseconds": 2000}, "itl": {"p95Milliseconds": 100}},
        "tuning": {"knobs": {"locked": ["maxNumSeqs"]}},
    },
}


def run(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(words))
    return result.exit_code, result.output


def test_a_plan_names_the_choice_the_steps_and_what_was_rejected() -> None:
    code, text = run(*PLAN, "--rate", "4", "--slo", "ttft.p95=500ms", "--weights", "native,fp8", "--price", "2.5")
    assert code == 0
    assert "meta-llama/Llama-3.1-70B on up to 8 x H100-SXM, 4 requests/s" in text
    for expected in ("chosen", "defaults", "ttft.p95", "per 1M", "configurations fit", "rejected: "):
        assert expected in text


def test_a_plan_as_json_holds_the_whole_answer() -> None:
    code, text = run(*PLAN, "--rate", "4", "--json")
    answer = json.loads(text)
    assert (code, answer["answer"], answer["chosen"]["meetsSlo"]) == (0, "Plan", True)
    assert answer["chosen"]["gpus"] <= 8
    assert {"ttft.p95", "itl.mean", "e2e.p99"} <= set(answer["chosen"]["latencies"])


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_the_pareto_plot_is_written(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"front.{ending}"
    code, text = run(*PLAN, "--rate", "4", "--plot", str(path), "--slo", "itl.p95=50ms")
    assert code == 0
    assert str(path) in text
    assert path.read_bytes()[:5] in (b"\x89PNG\r", b"<?xml")


def test_an_slo_that_cannot_be_reached_ends_with_what_can_and_code_2() -> None:
    code, text = run(*PLAN, "--rate", "4", "--slo", "itl.p95=1ms")
    assert code == 2
    assert "meets the SLO. The nearest one reaches itl.p95" in text


def test_a_plan_for_a_manifest_takes_everything_from_it(tmp_path: Path) -> None:
    path = tmp_path / "chat.yaml"
    path.write_text(yaml.safe_dump(MANIFEST))
    code, text = run("plan", "-f", str(path), "--json")
    answer = json.loads(text)
    assert code == 0, text
    assert answer["chosen"]["gpus"] <= 4
    assert answer["chosen"]["config"]["maxNumSeqs"] == 64, "it is locked"


@pytest.mark.parametrize(
    ("field", "path", "value"),
    [
        ("spec.accelerator.type", ("accelerator",), None),
        ("spec.workload", ("workload",), None),
        ("spec.workload.requestsPerSecondMilli", ("workload", "requestsPerSecondMilli"), None),
        ("spec.model.source", ("model", "source"), "acme/unheard-of"),
        ("spec.engine.name", ("engine", "name"), "tgi"),
        ("spec.replicas", ("replicas",), "many"),
    ],
)
def test_a_manifest_that_lacks_something_is_told_which_field(
    tmp_path: Path, field: str, path: tuple[str, ...], value: object
) -> None:
    document = json.loads(json.dumps(MANIFEST))
    place = document["spec"]
    for key in path[:-1]:
        place = place[key]
    place.pop(path[-1])
    if value is not None:
        place[path[-1]] = value
    file = tmp_path / "chat.yaml"
    file.write_text(yaml.safe_dump(document))
    code, text = run("plan", "-f", str(file))
    assert code == 1
    assert field in text


def test_the_serving_image_is_planned_as_the_vllm_that_is_inside(tmp_path: Path) -> None:
    answers = []
    for engine in ({"name": "vllm", "version": "0.32.0"}, {"name": "trimtab", "version": "0.1.0"}):
        document = json.loads(json.dumps(MANIFEST))
        document["spec"]["engine"] |= engine
        file = tmp_path / "chat.yaml"
        file.write_text(yaml.safe_dump(document))
        code, text = run("plan", "-f", str(file), "--json")
        assert code == 0, text
        answers.append(json.loads(text))
    assert answers[0] == answers[1]


def test_a_model_can_be_given_by_its_config_json(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    words = ["simulate", "--gpu", "L40S", "--isl", "512", "--osl", "128", "--rate", "1", "--model"]
    code, text = run(*words, str(tmp_path))
    assert code == 0, text
    assert "Memory per GPU: weights 15.0 GiB" in text
    (tmp_path / "config.json").write_text(json.dumps({**CONFIG, "num_key_value_heads": 7}))
    code, text = run(*words, str(tmp_path / "config.json"))
    assert code == 1
    assert "num_key_value_heads" in text


def test_a_simulation_tells_memory_latencies_and_saturation() -> None:
    code, text = run(*SIMULATE, "--rate", "1")
    assert code == 0, text
    for expected in ("KV cache", "ttft", "itl", "e2e", "output tokens per second"):
        assert expected in text
    code, text = run(*SIMULATE, "--rate", "1000")
    assert code == 0
    assert "Saturated: at most" in text
    code, text = run(*SIMULATE, "--rate", "1000", "--json")
    assert json.loads(text)["saturated"] is True


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([*PLAN], "either a rate"),
        ([*PLAN, "--rate", "4", "--slo", "tpot=4"], "slo:"),
        ([*PLAN, "--rate", "4", "--set", "blockSize=16"], "set: 'blockSize'"),
        ([*PLAN, "--rate", "4", "--set", "maxNumSeqs=few"], "whole number"),
        ([*PLAN, "--rate", "4", "--weights", "fp6"], "weights: 'fp6'"),
        ([*PLAN, "--rate", "4", "--engine", "tgi"], "engine: "),
        ([*PLAN, "--rate", "4", "--prefix-share", "1"], "prefix-share: "),
        ([*PLAN, "--rate", "4", "--plot", "front.pdf"], "neither .png nor .svg"),
        (["plan", "--model", "acme/unheard-of", "--gpu", "H100", "--rate", "1"], "model: 'acme/unheard-of'"),
        (["plan", "--model", "Qwen/Qwen3-8B", "--gpu", "cpu", "--rate", "1"], "gpu: A CPU"),
        (["plan", "-f", "there-is-none.yaml"], "file: "),
        ([*SIMULATE, "--rate", "1", "--weights", "bf16", "--max-model-len", "1000"], "longer than the 1,000"),
        (["simulate", "--model", "deepseek-ai/DeepSeek-V3", "--gpu", "L4", "--isl", "9", "--osl", "9", "--rate", "1"],
         "memory: The weights"),
    ],
)  # fmt: skip
def test_what_cannot_be_answered_is_one_sentence_with_the_field(words: list[str], says: str) -> None:
    code, text = run(*words)
    assert code in (1, 2)
    assert says in text
    assert "Traceback" not in text
