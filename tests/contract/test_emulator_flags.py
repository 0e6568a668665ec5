"""The emulator's command line against what was recorded from the engine's own."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.testkit.emulator.config import ConfigRefusedError, EngineConfig
from tests.testkit.emulator.faults import holds, read_faults
from tests.testkit.emulator.flags import build_parser, known_flags, normalise, parse, size
from tests.testkit.process import NotStartedError
from tests.testkit.running import EmulatorServer

RECORDINGS = Path(__file__).resolve().parents[1] / "vllm" / "recordings"
REFUSED: dict[str, dict[str, Any]] = json.loads((RECORDINGS / "refused.json").read_text())


def config(*arguments: str) -> EngineConfig:
    return parse(["serve", "m75", "--kv-cache-memory-bytes", "256M", *arguments])


def test_the_emulator_knows_exactly_the_flags_that_the_engine_lists() -> None:
    text = (RECORDINGS / "serve-help-all.txt").read_text()
    listed = set(re.findall(r"^  (?:-\w+, )?(--[a-z0-9-]+)", text, flags=re.MULTILINE)) - {"--help"}
    listed |= {"--" + name for name in re.findall(r", --([a-z0-9-]+)", text) if not name.startswith("no-")} - {"--help"}
    known = {name for row in known_flags() for name in row["names"] if name.startswith("--")}
    assert listed <= known
    assert {name for name in known - listed if f"{name} " not in text} <= {"--log-config-file"}


def refusal(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, bool]:
    """Exit code, message, and whether the engine would only notice after loading."""
    try:
        config(*arguments)
    except ConfigRefusedError as refused:
        return 1, str(refused), refused.late
    except SystemExit as ended:
        return int(ended.code or 0), capsys.readouterr().err, False
    raise AssertionError(f"accepted {arguments}")


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_the_engine_refuses_is_refused_with_the_same_code_and_message(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    recorded = REFUSED[name]
    code, said, late = refusal(recorded["arguments"], capsys)
    assert code == recorded["exit_code"]
    # The parser and the validators end it within seconds of the imports; loading the model takes most of a minute.
    assert late == (recorded["seconds"] > 35)
    end = recorded["termination_message"]
    if late:
        assert "Engine core initialization failed" in end, "the cause is no longer in the end of the log"
    elif code == 2:
        assert end.rpartition("error: ")[2].strip() in said
    else:
        told = re.findall(r"\d+ validation errors? for \w+|^  [^\s][^\[\n]{10,150}", end, flags=re.MULTILINE)
        told = [line for line in told if not line.startswith("  File")]
        assert len(told) > 1 and all(line.strip() in said for line in told), (told, said)


def test_the_end_of_a_late_failure_no_longer_names_the_cause(tmp_path: Path) -> None:
    server = EmulatorServer("--block-size", "16", log=tmp_path / "log")
    with pytest.raises(NotStartedError) as failed, server:
        raise AssertionError("started")
    assert failed.value.code == 1
    assert "No common block size for 16" in failed.value.said
    end = failed.value.said.encode()[-2048:].decode()
    assert "Engine core initialization failed" in end
    assert "block size" not in end


def test_defaults_are_those_of_the_engine_on_a_cpu() -> None:
    plain = config()
    assert (plain.max_num_seqs, plain.limits.max_batched_tokens) == (128, 2048)
    assert (plain.limits.block_size, plain.limits.max_model_len) == (128, 2048)
    assert plain.limits.prefix_caching and plain.limits.chunked_prefill
    assert plain.served_model_names == ("m75",)
    assert plain.shutdown_timeout == 0


def test_the_kv_cache_has_as_many_blocks_as_was_recorded() -> None:
    recorded = (RECORDINGS / "metrics-idle.txt").read_text()
    blocks = re.search(r'num_gpu_blocks="(\d+)"', recorded)
    assert blocks is not None
    assert config().limits.kv_blocks == int(blocks.group(1))


def test_half_as_wide_kv_values_give_twice_the_blocks() -> None:
    assert config("--kv-cache-dtype", "fp8").limits.kv_blocks == 341


def test_underscores_abbreviations_and_dotted_json_are_read_as_by_the_engine() -> None:
    read = config("--max_num_seqs", "7", "--kv-cache-memory=1G", "-O0", "-sc.method", "ngram")
    assert read.max_num_seqs == 7
    assert read.kv_cache_bytes == 1 << 30
    assert read.factor.base > 1
    assert read.flags["speculative_config"] == {"method": "ngram"}


@pytest.mark.parametrize(
    ("text", "value"), [("64", 64), ("2k", 2000), ("2K", 2048), ("1.5k", 1500), ("1G", 1 << 30), ("1g", 10**9)]
)
def test_sizes_are_read_as_by_the_engine(text: str, value: int) -> None:
    assert size(text) == value


@pytest.mark.parametrize(
    "flag",
    [
        "swap-space",
        "max-batch-size",
        "num-scheduler-steps",
        "enable-radix-cache",
        "mem-fraction-static",
        "preemption-mode",
    ],
)
def test_flags_of_other_engines_and_old_versions_end_with_2(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        config(f"--{flag}", "1")
    assert ended.value.code == 2
    assert f"unrecognized arguments: --{flag}" in capsys.readouterr().err


def test_a_gpu_profile_has_the_defaults_of_a_gpu(tmp_path: Path) -> None:
    profile = tmp_path / "gpu.json"
    profile.write_text(json.dumps({"platform": "cuda", "device_memory_bytes": 80 << 30, "base_seconds": 0.01}))
    read = parse(["serve", "m", "--emulator-profile", str(profile)])
    assert (read.max_num_seqs, read.limits.max_batched_tokens, read.limits.block_size) == (1024, 8192, 16)
    assert read.profile.base_seconds == 0.01


def test_the_environment_stands_in_for_the_emulators_own_options_and_flags_win() -> None:
    environment = {"EMULATOR_PROFILE": '{"platform": "cuda"}', "EMULATOR_SPEED": "3", "EMULATOR_STARTUP_SECONDS": "9"}
    read = parse(["serve", "m", "--emulator-startup-seconds", "2"], environment)
    assert (read.profile.platform, read.speed, read.startup_seconds) == ("cuda", 3.0, 2.0)
    with pytest.raises(ConfigRefusedError, match="EMULATOR_SPEED"):
        parse(["serve", "m"], {"EMULATOR_SPEED": "fast"})


def test_an_unknown_key_in_a_profile_is_named(tmp_path: Path) -> None:
    profile = tmp_path / "bad.json"
    profile.write_text('{"base_second": 1}')
    with pytest.raises(ConfigRefusedError, match="base_second"):
        parse(["serve", "m", "--emulator-profile", str(profile)])


def test_the_model_folder_decides_the_memory_of_a_token(tmp_path: Path) -> None:
    shape = {
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "hidden_size": 128,
        "max_position_embeddings": 512,
    }
    (tmp_path / "config.json").write_text(json.dumps(shape))
    read = parse(["serve", str(tmp_path), "--kv-cache-memory-bytes", "1M"])
    assert read.limits.max_model_len == 512
    assert read.profile.kv_bytes_per_token("auto") == 2 * 2 * 2 * 32 * 2
    assert read.limits.kv_blocks == (1 << 20) // (512 * 128)


def test_a_fault_plays_only_for_the_flags_that_it_names() -> None:
    environment = {"EMULATOR_LATENCY_FACTOR": "3", "EMULATOR_FAULT_WHEN": "max_num_seqs>16,kv_cache_dtype=fp8"}
    assert read_faults(environment, {"max_num_seqs": 32, "kv_cache_dtype": "fp8"}).latency_factor == 3
    assert read_faults(environment, {"max_num_seqs": 16, "kv_cache_dtype": "fp8"}).latency_factor == 1
    assert read_faults(environment, {"kv_cache_dtype": "fp8"}).latency_factor == 1
    assert holds("", {})
    with pytest.raises(ValueError, match="flag operator value"):
        holds("max_num_seqs", {})


def test_normalising_leaves_values_alone() -> None:
    words = ["serve", "a_b", "--served_model_name=x_y", "--port", "1"]
    assert normalise(words) == ["serve", "a_b", "--served-model-name=x_y", "--port", "1"]
    assert build_parser().parse_args(normalise(words)).served_model_name == ["x_y"]
