"""Which engine serves, and why the ones before it do not."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pynvml
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.testkit.nvml import Card, Machine, uuid
from trimtab_engine import serve
from trimtab_engine.config.load import load
from trimtab_engine.engines.chain import Chain, Ending, Passed, Why, after, chain_from_json, missing
from trimtab_engine.engines.registry import ENGINES
from trimtab_engine.server.chain import NO_ENGINE, Runner, end_group
from trimtab_engine.server.gpu_watch import GpuWatch
from trimtab_engine.server.placing import Placer

ENGINE_IMAGE = Path(serve.__file__).parents[1]


def test_an_engine_whose_libraries_are_there_is_not_passed_over() -> None:
    assert missing("pytorch", ("torch", "uvicorn"), lambda _: True) is None


def test_a_missing_library_is_named() -> None:
    over = missing("pytorch", ("torch", "transformers", "uvicorn"), lambda library: library == "transformers")
    assert over == Passed(
        engine="pytorch",
        why=Why.LIBRARY_MISSING,
        message="pytorch needs torch and uvicorn, which are not installed.",
    )


@pytest.mark.parametrize(
    ("code", "served", "asked", "why"),
    [
        (1, False, False, Why.NOT_STARTED),
        (-9, True, False, Why.ENDED),
        (1, True, False, Why.ENDED),
        (0, True, False, None),
        (2, False, False, None),
        (-15, True, True, None),
        (1, False, True, None),
    ],
)
def test_only_an_end_that_nobody_asked_for_moves_to_the_next(
    code: int, served: bool, asked: bool, why: Why | None
) -> None:
    over = after("vllm", Ending(code=code, served=served, asked=asked))
    assert (over.why if over else None) == why


def test_the_way_an_engine_ended_is_told() -> None:
    killed = after("vllm", Ending(code=-9, served=True, asked=False))
    failed = after("vllm", Ending(code=1, served=False, asked=False))
    assert killed is not None
    assert failed is not None
    assert killed.message == "vllm ended by signal 9 while it served."
    assert failed.message == "vllm ended with status 1 before it served."


@settings(max_examples=100)
@given(st.lists(st.builds(Passed, engine=st.text(), why=st.sampled_from(Why), message=st.text()), max_size=3))
def test_the_chain_comes_back_from_json(passed: list[Passed]) -> None:
    chain = Chain(engine="pytorch", passed=tuple(passed))
    assert chain_from_json(json.loads(json.dumps(chain.as_json()))) == chain


def test_every_engine_of_the_configuration_is_in_the_registry() -> None:
    assert set(load(None, {}, {"model": "m"}).engines.preference) == set(ENGINES)


# Stand-ins for the engines' programs: each says what the chain is and which GPUs it sees, serves when it should, leaves
# the reason that it is given, and ends as it is told.
ENGINE = """
import json, os, pathlib, sys, time
run = pathlib.Path(os.environ["TRIMTAB_ENGINE_RUN"])
name = (sys.argv[1] if "stand_in" in sys.argv[0] else "vllm").upper()
seen = {"visible": os.environ.get("CUDA_VISIBLE_DEVICES")}
print(json.dumps({**json.loads((run / "chain.json").read_text()), **seen}), flush=True)
if os.environ.get("TOLD"):
    pathlib.Path(os.environ["TOLD"]).touch()
if os.environ.get(name + "_SERVES"):
    (run / "serving").touch()
if os.environ.get(name + "_REASON"):
    (run / "reason").write_text(os.environ[name + "_REASON"])
time.sleep(float(os.environ.get(name + "_SECONDS", "0")))
if "--speculative-config" in sys.argv and os.environ.get(name + "_GUESSING_CODE"):
    sys.exit(int(os.environ[name + "_GUESSING_CODE"]))
sys.exit(int(os.environ[name + "_CODE"]))
"""
LIBRARIES = {library for engine in ENGINES.values() for library in engine.libraries}
FOUR = ("vllm", "deepspeed", "onnx", "pytorch")


@pytest.fixture
def stand_ins(tmp_path: Path) -> dict[str, str]:
    """The environment in which all engines are stand-ins, and their libraries are there."""
    path = tmp_path / "path"
    for library in LIBRARIES:
        (path / library).mkdir(parents=True)
    for module in ("vllm/entrypoints/cli/main.py", "stand_in.py"):
        file = path / module
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(ENGINE)
    places = os.pathsep.join((str(path), str(ENGINE_IMAGE)))
    return {**os.environ, "PYTHONPATH": places, "TMPDIR": str(tmp_path)}


PROGRAM = """
import sys
from dataclasses import replace
from trimtab_engine.engines import registry
def stand_in(name):
    return lambda _: [sys.executable, "-m", "stand_in", name]
for name, engine in registry.ENGINES.items():
    if name != "vllm":
        registry.ENGINES[name] = replace(engine, command=stand_in(name))
from trimtab_engine.main import main
sys.exit(main(["serve", "--model", "m"]))
"""


# An hour passes when the first engine has told what it knows: the others begin after it.
AN_HOUR_LATER = """
import os, time
from types import SimpleNamespace
from trimtab_engine.server import chain
def monotonic():
    return time.monotonic() + 3600 * os.path.exists(os.environ["TOLD"])
chain.time = SimpleNamespace(monotonic=monotonic, sleep=time.sleep)
"""


def run(environment: dict[str, str], program: str = PROGRAM, **changes: str) -> tuple[int, list[Any], str]:
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**environment, **changes},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr


def test_engines_that_do_not_start_are_followed_by_the_next_which_knows_why(stand_ins: dict[str, str]) -> None:
    ends = {"VLLM_CODE": "1", "DEEPSPEED_CODE": "1", "ONNX_CODE": "1", "PYTORCH_CODE": "0"}
    code, said, log = run(stand_ins, **ends, DEEPSPEED_REASON="the heads cannot be shared out.")
    messages = [
        "vllm ended with status 1 before it served.",
        "deepspeed ended with status 1 before it served: the heads cannot be shared out.",
        "onnx ended with status 1 before it served.",
    ]
    assert (code, [chain["engine"] for chain in said]) == (0, list(FOUR))
    assert said[3]["passed"] == [
        {"engine": name, "why": "not_started", "message": message}
        for name, message in zip(FOUR, messages, strict=False)
    ]
    assert all(message in log for message in messages)


def test_a_library_that_is_missing_moves_to_the_next(stand_ins: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "path" / "deepspeed").rmdir()
    (tmp_path / "path" / "onnx_ir").rmdir()
    code, said, _ = run(stand_ins, VLLM_CODE="1", PYTORCH_CODE="0")
    assert (code, [chain["engine"] for chain in said]) == (0, ["vllm", "pytorch"])
    assert [passed["why"] for passed in said[1]["passed"]] == ["not_started", "library_missing", "library_missing"]
    assert said[1]["passed"][2]["message"] == "onnx needs onnx_ir, which is not installed."


def test_an_engine_that_ends_while_it_serves_is_followed_by_the_next(stand_ins: dict[str, str]) -> None:
    ends = {"VLLM_CODE": "9", "VLLM_SERVES": "1", "DEEPSPEED_CODE": "9", "DEEPSPEED_SERVES": "1"}
    code, said, _ = run(stand_ins, **ends, ONNX_CODE="1", PYTORCH_CODE="5")
    assert [passed["why"] for passed in said[3]["passed"]] == ["ended_while_serving"] * 2 + ["not_started"]
    assert code == 5


def test_an_engine_that_does_not_start_with_guesses_is_started_without(stand_ins: dict[str, str]) -> None:
    guessing = {"TRIMTAB_ENGINE_SPECULATION__METHOD": "ngram", "VLLM_GUESSING_CODE": "1"}
    code, said, log = run(stand_ins, **guessing, VLLM_CODE="0", VLLM_REASON="the draft cannot be read")
    assert (code, [chain["engine"] for chain in said]) == (0, ["vllm", "vllm"])
    assert said[1]["passed"] == []
    assert "Nothing is guessed: vllm ended with status 1 before it served: the draft cannot be read." in log
    code, said, _ = run(stand_ins, **guessing, VLLM_CODE="1", DEEPSPEED_CODE="0")
    assert [chain["engine"] for chain in said] == ["vllm", "vllm", "deepspeed"]
    code, said, _ = run(stand_ins, **{**guessing, "VLLM_GUESSING_CODE": "2"}, VLLM_CODE="0")
    assert (code, len(said)) == (2, 1)


def test_only_the_preferred_engines_are_tried_in_their_order(stand_ins: dict[str, str]) -> None:
    preferred = {"TRIMTAB_ENGINE_ENGINES__PREFERENCE": "[onnx, vllm]"}
    code, said, _ = run(stand_ins, **preferred, ONNX_CODE="7", VLLM_CODE="4")
    assert (code, [chain["engine"] for chain in said]) == (4, ["onnx", "vllm"])


def test_the_state_of_each_preferred_engine_is_known() -> None:
    over = Passed(engine="vllm", why=Why.NOT_STARTED, message="")
    assert Chain(engine="deepspeed", passed=(over,)).states(FOUR) == {
        "vllm": "not_started",
        "deepspeed": "serving",
        "onnx": "not_tried",
        "pytorch": "not_tried",
    }


def test_wrong_arguments_end_the_server(stand_ins: dict[str, str]) -> None:
    code, said, _ = run(stand_ins, VLLM_CODE="2", DEEPSPEED_CODE="0")
    assert (code, len(said)) == (2, 1)


def test_an_engine_that_takes_too_long_to_start_is_ended(stand_ins: dict[str, str], tmp_path: Path) -> None:
    slow = {"VLLM_SECONDS": "60", "VLLM_CODE": "0", "TRIMTAB_ENGINE_ENGINES__START_SECONDS": "600"}
    code, said, _ = run(stand_ins, AN_HOUR_LATER + PROGRAM, **slow, DEEPSPEED_CODE="0", TOLD=str(tmp_path / "told"))
    assert code == 0
    assert said[1]["passed"][0]["message"] == "vllm ended by signal 9 before it served: it took longer than 600 s."


def test_after_too_many_restarts_the_next_engine_computes_on_the_gpus_that_are_left(
    stand_ins: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "nvml").mkdir()
    machine = Machine(folder=tmp_path / "nvml", cards=[Card(), Card()])
    fields = {
        "TRIMTAB_ENGINE_GPUS__INTERVAL_SECONDS": "0.1",
        "TRIMTAB_ENGINE_GPUS__MOST_RESTARTS": "0",
        "TRIMTAB_ENGINE_GPUS__TENSOR_PARALLEL": "2",
        "TRIMTAB_ENGINE_ENGINES__PREFERENCE": "[vllm, onnx, pytorch]",
    }
    ends = {"VLLM_SERVES": "1", "VLLM_SECONDS": "600", "VLLM_CODE": "0", "ONNX_CODE": "1", "PYTORCH_CODE": "0"}
    path = os.pathsep.join((stand_ins["PYTHONPATH"], str(Path(pynvml.__file__).parent)))
    environment = {**stand_ins, **fields, **ends, **machine.environment, "PYTHONPATH": path}
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM], env=environment, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        first = json.loads(server.stdout.readline())
        machine.report(0, 79)
        others = [json.loads(line) for line in server.stdout]
        assert server.wait(30) == 0
    assert [chain["engine"] for chain in (first, *others)] == ["vllm", "onnx", "pytorch"]
    assert [chain["visible"] for chain in others] == ["", uuid(1)]
    over = others[1]["passed"][0]
    assert (over["engine"], over["why"]) == ("vllm", "gpu_failed")
    assert over["message"] == (
        f"GPU 0 ({uuid(0)}) has failed: the driver reported Xid 79, after which it needs a reset. "
        "gpus.most_restarts, 0, is reached. The next engine is tried."
    )


def test_without_any_library_there_is_no_engine(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # pytest keeps its own handlers
    config = load(None, {}, {"model": "m"})
    runner = Runner(config, tmp_path, {}, Placer(config, tmp_path, GpuWatch(config.gpus, {})))
    assert runner.run(lambda _: False) == NO_ENGINE
    assert "vllm needs vllm, which is not installed." in caplog.text
    assert "pytorch needs torch and transformers and uvicorn, which are not installed." in caplog.text


def test_nothing_of_an_engine_that_was_killed_is_left_when_the_next_one_starts() -> None:
    """A worker that is busy in the kernel ends later than the engine."""
    command = ["sh", "-c", "sleep 600 & echo $!; sleep 600"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as engine:
        assert engine.stdout is not None
        worker = Path(f"/proc/{int(engine.stdout.readline())}/stat")
        engine.kill()
        engine.wait()
        assert worker.read_text().rpartition(")")[2].split()[0] != "Z"
        end_group(engine.pid)
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            assert worker.read_text().rpartition(")")[2].split()[0] == "Z"
