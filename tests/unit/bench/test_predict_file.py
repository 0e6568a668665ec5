"""The command that answers files nobody has seen: every row gets figures or a reason, whatever it looks like."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from tests.bench.planner.points import case_of
from tests.bench.planner.predict_file import COLUMNS, predict_file

ROW = {"row_id": "a", "model": "Qwen/Qwen3-32B", "gpu": "H100-SXM", "engine": "vllm", "isl": "1024", "osl": "512"}


def answers(folder: Path, *rows: dict[str, str]) -> list[dict[str, str]]:
    source, target = folder / "in.csv", folder / "out.csv"
    names = sorted({name for row in rows for name in row})
    with source.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)
    predict_file(source, target)
    with target.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"concurrency": "", "tp": "", "weight_precision": ""},
        {"weight_precision": "fp8", "tp": "4"},
        {"weight_precision": "int4", "engine": "TensorRT-LLM 1.2"},
        {"engine": "dynamo-sglang", "spec_decode": "mtp"},
        {"model": "deepseek-ai/DeepSeek-R1", "tp": "8", "attn_dp": "8.0", "moe_ep": "8", "num_gpus": "8"},
        {"model": "openai/gpt-oss-120b", "weight_precision": "fp4", "gpu": "MI300X"},
        {"engine_version": "0.6.3.post1", "isl": "200000", "concurrency": "4096"},
        {"pp": "2", "num_gpus": "2", "attn_dp": "0.0", "moe_ep": "0"},
    ],
)
def test_odd_rows_have_answers(tmp_path: Path, change: dict[str, str]) -> None:
    (answer,) = answers(tmp_path, ROW | {"concurrency": "16", "tp": "2"} | change)
    assert tuple(answer) == COLUMNS
    assert answer["reason"] == ""
    assert 0 < float(answer["tpot_ms"]) <= float(answer["tpot_upper_ms"])
    assert 0 < float(answer["ttft_ms"]) <= float(answer["ttft_upper_ms"])
    assert float(answer["out_tok_s_per_gpu"]) > 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"gpu": "Voodoo-2"}, "gpu: the catalogue does not know"),
        ({"model": "nobody/Nothing-1B"}, "model: the registry does not know"),
        ({"isl": "many"}, "isl: 'many' is no number"),
    ],
)
def test_a_row_that_cannot_be_answered_says_why(tmp_path: Path, change: dict[str, str], words: str) -> None:
    (answer,) = answers(tmp_path, ROW | change)
    assert words in answer["reason"]
    assert answer["tpot_ms"] == ""


def test_a_config_json_beside_the_file_describes_an_unknown_model(tmp_path: Path) -> None:
    config = {
        "model_type": "llama", "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16,
        "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256, "max_position_embeddings": 8192,
        "torch_dtype": "bfloat16",
    }  # fmt: skip
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "nobody__Nothing-1B.json").write_text(json.dumps(config), encoding="utf-8")
    (answer,) = answers(tmp_path, ROW | {"model": "nobody/Nothing-1B"})
    assert answer["reason"] == ""


def test_measured_columns_are_not_read(tmp_path: Path) -> None:
    plain, told = answers(tmp_path, ROW, ROW | {"tpot_mean_ms": "3.0", "ttft_mean_ms": "9.0"})
    assert plain == told


@pytest.mark.parametrize(
    ("columns", "tensor", "data", "expert"),
    [
        ({"tp": "8", "attn_dp": "8", "num_gpus": "8", "moe_ep": "8"}, 1, 8, 8),
        ({"tp": "1", "attn_dp": "8", "num_gpus": "8", "moe_ep": "8"}, 1, 8, 8),
        ({"tp": "4", "attn_dp": "", "moe_ep": "1"}, 4, 1, 1),
        ({"tp": "4", "attn_dp": "4", "moe_ep": "16", "num_gpus": "16"}, 4, 1, 4),
    ],
)
def test_attention_data_parallelism_is_read_in_either_notation(
    columns: dict[str, str], tensor: int, data: int, expert: int
) -> None:
    layout = case_of(ROW | {"model": "deepseek-ai/DeepSeek-R1"} | columns).point.layout
    assert (layout.tensor, layout.data, layout.expert) == (tensor, data, expert)
