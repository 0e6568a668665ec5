"""The contract: the emulator and real vLLM get the same command lines, the same requests and the same load.

One process runs all command lines through vLLM's own parser and validators; two servers serve. What is compared is
what the operator relies on: acceptance and refusal, shapes, metric families, exact counts, and the direction and rough
size of effects as ratios within each engine, never seconds.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.contract.loading import (
    FIRST_TOKENS,
    GAPS,
    GENERATED,
    LATENCIES,
    LONG,
    NARROW,
    PREEMPTED,
    PREFIX_HITS,
    PROMPTS,
    SHORT,
    SIZES,
    SUCCEEDED,
    WIDE,
    Engine,
    Loaded,
    load,
    value,
)
from tests.contract.test_emulator_api import CHAT, STREAM, shape
from tests.contract.test_emulator_metrics import families
from tests.models.make_llama import cached
from tests.testkit.emulator.config import ConfigRefusedError
from tests.testkit.emulator.flags import parse
from tests.testkit.running import EmulatorServer
from tests.vllm import venv
from tests.vllm.server import VllmServer, environment

pytestmark = [pytest.mark.vllm, pytest.mark.emulator, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[2]
COMMAND_LINES: Sequence[Sequence[str]] = (
    (),
    ("--max-num-seqs", "16"),
    ("--max_num_seqs=16",),
    ("--max-num-seqs", "0"),
    ("--max-num-seqs", "many"),
    ("--max-num-seqs", "64", "--max-num-batched-tokens", "32"),
    ("--max-num-seqs", "8", "--max-num-active-seqs", "4"),
    ("--max-num-seqs", "8", "--max-num-active-seqs", "16"),
    ("--max-num-active-seqs", "0"),
    ("--max-num-batched-tokens", "2k"),
    ("--max-num-batched-tokens", "0"),
    ("--max-num-scheduled-tokens", "64"),
    ("--max-model-len", "1K"),
    ("--max-model-len", "auto"),
    ("--max-model-len", "9000"),
    ("--no-enable-chunked-prefill",),
    ("--no-enable-chunked-prefill", "--max-num-batched-tokens", "512"),
    ("--long-prefill-token-threshold", "128"),
    ("--long-prefill-token-threshold", "5000"),
    ("--enable-prefix-caching",),
    ("--no-enable-prefix-caching",),
    ("--enable-prefix-caching", "True"),
    ("--kv-cache-dtype", "fp8"),
    ("--kv-cache-dtype", "int8"),
    ("--kv-cache-memory", "64M"),
    ("--kv-cache-memory-bytes", "1.5G"),
    ("--block-size", "32"),
    ("--block-size", "0"),
    ("--gpu-memory-utilization", "0.5"),
    ("--gpu-memory-utilization", "1.5"),
    ("--watermark", "0.05"),
    ("--watermark", "1.0"),
    ("--scheduling-policy", "priority"),
    ("--scheduling-policy", "lpm"),
    ("--quantization", "int8_per_channel_weight_only"),
    ("--quantization", "nonsense"),
    ("--dtype", "float32"),
    ("--dtype", "int8"),
    ("--tensor-parallel-size", "5"),
    ("--tensor-parallel-size", "0"),
    ("-O0",),
    ("--enforce-eager", "--performance-mode", "throughput"),
    ("--custom-histogram-buckets", '{"time_to_first_token": [0.1, 1.0]}'),
    ("--custom-histogram-buckets", '{"ttft": [0.1, 1.0]}'),
    ("--shutdown-timeout", "30"),
    ("--swap-space", "4"),
    ("--max-batch-size", "8"),
    ("--num-scheduler-steps", "4"),
    ("--mem-fraction-static", "0.8"),
    ("--no-such-flag", "1"),
)


@dataclass(frozen=True)
class Pair:
    """The same configuration on both engines."""

    real: Engine
    emulated: Engine

    def both(self) -> Iterator[tuple[str, Engine]]:
        yield "vllm", self.real
        yield "emulator", self.emulated


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    logs = tmp_path_factory.mktemp("wide")
    with VllmServer(*WIDE, log=logs / "vllm.log") as real, EmulatorServer(*WIDE, log=logs / "emulator.log") as emulated:
        yield Pair(real, emulated)


@pytest.fixture(scope="module")
def wide_load(wide: Pair) -> dict[str, Loaded]:
    return {name: load(engine, SHORT, requests=80, clients=80) for name, engine in wide.both()}


# --- command lines ---


@dataclass(frozen=True)
class Verdict:
    """Exit code (0: accepted so far) and the telling parts of the message."""

    code: int
    told: frozenset[str]


def verdict(code: int, message: str) -> Verdict:
    """Keeps what a person looks for: which model or parser refused, which field, the first words of the reason."""
    if code == 2:
        return Verdict(2, frozenset({message.rpartition("error: ")[2].strip()}))
    told = set(re.findall(r"validation errors? for (\w+)", message))
    told |= {match.strip()[:40] for match in re.findall(r"Value error, ([^\[(]+)", message)}
    told |= set(re.findall(r"^(\w+)$", message, flags=re.MULTILINE))
    return Verdict(code, frozenset(told))


def emulated_verdict(arguments: Sequence[str], capsys: pytest.CaptureFixture[str]) -> Verdict:
    try:
        parse(["serve", str(cached("m75")), "--kv-cache-memory-bytes", "256M", *arguments])
    except SystemExit as ended:
        return verdict(int(ended.code or 0), capsys.readouterr().err)
    except ConfigRefusedError as refused:
        return verdict(0 if refused.late else 1, "" if refused.late else str(refused))
    return verdict(0, "")


def test_command_lines_are_accepted_and_refused_alike(capsys: pytest.CaptureFixture[str]) -> None:
    done = subprocess.run(
        [str(venv.python()), str(ROOT / "tests" / "contract" / "real_parser.py"), str(cached("m75"))],
        input=json.dumps([list(line) for line in COMMAND_LINES]),
        env=environment({"VLLM_LOGGING_LEVEL": "ERROR", "PYTHONDONTWRITEBYTECODE": "1"}),
        cwd=os.sep,
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    real = [verdict(code, message) for code, message in json.loads(done.stdout)]
    emulated = [emulated_verdict(line, capsys) for line in COMMAND_LINES]
    differing = [
        (line, one, other) for line, one, other in zip(COMMAND_LINES, real, emulated, strict=True) if one != other
    ]
    assert not differing, "\n".join(map(str, differing))
    assert {one.code for one in real} == {0, 1, 2}


# --- shapes and names ---

CALLS: dict[str, tuple[str, dict[str, object]]] = {
    "completion": ("/v1/completions", {"prompt": "Once upon a time", "max_tokens": 8}),
    "two completions": ("/v1/completions", {"prompt": "Once upon a time", "max_tokens": 3, "n": 2, "temperature": 1.0}),
    "list of prompts": ("/v1/completions", {"prompt": ["one", "three"], "max_tokens": 3}),
    "tokens as prompt": ("/v1/completions", {"prompt": [72, 101, 108], "max_tokens": 3}),
    "chat": ("/v1/chat/completions", {"messages": CHAT, "max_tokens": 8}),
    "default length": ("/v1/completions", {"prompt": "Once upon a time"}),
}
STREAMS: dict[str, tuple[str, dict[str, object]]] = {
    "completion": ("/v1/completions", {"prompt": "Once upon a time", **STREAM}),
    "without usage": ("/v1/completions", {"prompt": "Once upon a time", "stream": True, "max_tokens": 3}),
    "usage all along": (
        "/v1/completions",
        {
            "prompt": "Once",
            "stream": True,
            "max_tokens": 3,
            "stream_options": {"include_usage": True, "continuous_usage_stats": True},
        },
    ),
    "chat": ("/v1/chat/completions", {"messages": CHAT, **STREAM}),
}


@pytest.mark.parametrize("name", sorted(CALLS))
def test_an_answer_has_the_same_keys_types_and_token_counts(wide: Pair, name: str) -> None:
    path, body = CALLS[name]
    real, emulated = (engine.post(path, {"ignore_eos": True, **body}) for _, engine in wide.both())
    assert shape(emulated) == shape(real)
    assert emulated["usage"] == real["usage"]
    assert [c["finish_reason"] for c in emulated["choices"]] == [c["finish_reason"] for c in real["choices"]]


def test_several_sequences_of_one_prompt_are_counted_alike(wide: Pair) -> None:
    path, body = CALLS["two completions"]
    names = ("request_success_total", "prompt_tokens_total", "request_params_n_count", "request_params_n_sum")
    counted = {}
    for name, engine in wide.both():
        pages = [engine.get("/metrics")]
        engine.post(path, {"ignore_eos": True, **body})
        pages.append(engine.get("/metrics"))
        before, after = ([total(page, f"vllm:{each}") for each in names] for page in pages)
        counted[name] = [late - early for early, late in zip(before, after, strict=True)]
    assert counted["emulator"] == counted["vllm"]


@pytest.mark.parametrize("name", sorted(STREAMS))
def test_a_stream_has_the_same_events(wide: Pair, name: str) -> None:
    path, body = STREAMS[name]
    shapes = []
    for _, engine in wide.both():
        events = engine.post_raw(path, {"ignore_eos": True, **body}).strip().split("\n\n")
        assert events.pop() == "data: [DONE]"
        shapes.append([shape(json.loads(event.removeprefix("data: "))) for event in events])
    assert shapes[1] == shapes[0]


def test_the_other_pages_have_the_same_shape(wide: Pair) -> None:
    for path in ("/v1/models", "/version"):
        real, emulated = (shape(json.loads(engine.get(path))) for _, engine in wide.both())
        assert emulated == real, path
    assert [engine.get("/health") for _, engine in wide.both()] == ["", ""]


# --- load ---


def total(page: str, family: str) -> float:
    """All series of a name, added up."""
    return sum(float(match) for match in re.findall(rf"^{family}\{{[^}}]*\}} (\S+)$", page, flags=re.MULTILINE))


def check_conservation(loaded: Loaded) -> None:
    engine = loaded.engine
    assert engine[SUCCEEDED] == engine[FIRST_TOKENS] == engine[LATENCIES] == loaded.succeeded
    assert engine[GENERATED] == engine[SIZES] == loaded.output_tokens
    assert engine[PROMPTS] == loaded.prompt_tokens
    assert engine[GAPS] == engine[GENERATED] - engine[SUCCEEDED]


def test_every_request_and_token_is_counted_once_and_small_caches_preempt(
    wide: Pair,
) -> None:
    loaded = {name: load(engine, LONG, requests=32, clients=16) for name, engine in wide.both()}
    for outcome in loaded.values():
        check_conservation(outcome)
        assert outcome.most_running <= 16
    preempted = {name: outcome.engine[PREEMPTED] for name, outcome in loaded.items()}
    print("preemptions:", preempted)
    assert min(preempted.values()) > 0, preempted
    assert 1 / 3 <= preempted["emulator"] / preempted["vllm"] <= 3, preempted


def test_a_repeated_prompt_hits_the_prefix_cache_by_whole_blocks(wide: Pair) -> None:
    hits = {}
    for name, engine in wide.both():
        body: dict[str, object] = {"prompt": "A prompt of its own. " * 30, "max_tokens": 1}
        engine.post("/v1/completions", body)
        before = value(engine.get("/metrics"), PREFIX_HITS)
        engine.post("/v1/completions", body)
        hits[name] = value(engine.get("/metrics"), PREFIX_HITS) - before
    assert hits == {"vllm": 512.0, "emulator": 512.0}


def test_requests_run_together_alike(wide_load: dict[str, Loaded], tmp_path_factory: pytest.TempPathFactory) -> None:
    """Counted in steps; the throughputs are compared by `make bench-emulator`."""
    logs = tmp_path_factory.mktemp("narrow")
    servers: tuple[VllmServer | EmulatorServer, ...] = (
        VllmServer(*NARROW, log=logs / "vllm.log"),
        EmulatorServer(*NARROW, log=logs / "emulator.log"),
    )
    for server in servers:
        with server as engine:
            loaded = load(engine, SHORT, requests=24, clients=24)
        check_conservation(loaded)
        assert (loaded.most_running, loaded.tokens_per_step) == (1, 1)
        assert loaded.most_waiting > 0
    together = {name: loaded.tokens_per_step for name, loaded in wide_load.items()}
    print("output tokens per step:", together)
    assert min(together.values()) > 8, together
    assert together["emulator"] == pytest.approx(together["vllm"], rel=0.25), together


def test_metrics_have_the_same_names_kinds_labels_and_buckets_after_load(
    wide: Pair, wide_load: dict[str, Loaded]
) -> None:
    assert set(wide_load) == {"vllm", "emulator"}
    real, emulated = (families(engine.get("/metrics")) for _, engine in wide.both())
    assert set(emulated) == set(real)
    for name, family in real.items():
        if name.startswith(("python_", "process_")):
            continue
        assert (emulated[name].kind, emulated[name].documentation) == (family.kind, family.documentation), name
        if name == "vllm:cache_config_info":
            assert info(emulated[name].samples) == info(family.samples)
        else:
            assert emulated[name].samples == family.samples, name


def info(samples: set[tuple[str, tuple[tuple[str, str], ...]]]) -> dict[str, str]:
    """The labels of the one sample of an information metric."""
    ((_, labels),) = samples
    return dict(labels)
