"""How GPUs are read, beside everything else, through the real bindings and a library that answers as NVML."""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from tests.testkit.nvml import GPU_IS_LOST, UNKNOWN, Card, Machine, uuid
from tests.unit.engine.asgi import ask
from tests.unit.engine.test_engine_gate import House
from trimtab_engine.alerts.detect import Severity, unwell_gpus
from trimtab_engine.config.gpus import GpusConfig
from trimtab_engine.config.load import load
from trimtab_engine.gpus.health import Assessment, Reason, Verdict
from trimtab_engine.gpus.layout import Layout
from trimtab_engine.gpus.reading import Reading
from trimtab_engine.gpus.recovery import Action, Cause
from trimtab_engine.server import gpu_watch
from trimtab_engine.server.gpu_view import GpuMetrics, GpuView
from trimtab_engine.server.gpu_watch import GpuWatch
from trimtab_engine.server.placing import Placer
from trimtab_engine.shared.gpus import Recovery, Shown, State, StateReader, write_state

FAST = GpusConfig(interval_seconds=0.1, timeout_seconds=20)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(folder=tmp_path, cards=[Card(), Card()])


def environment(machine: Machine, **more: str) -> Mapping[str, str]:
    path = os.pathsep.join(filter(None, sys.path))
    return {**os.environ, **machine.environment, "PYTHONPATH": path, **more}


@pytest.fixture
def watch(machine: Machine) -> Iterator[GpuWatch]:
    made = GpuWatch(FAST, environment(machine))
    made.start()
    yield made
    made.close()


def next_look(watch: GpuWatch) -> None:
    """A look that began after now."""
    assert watch.wait_for(watch.looks + 2, 30)


def test_everything_that_nvml_tells_is_read(machine: Machine, watch: GpuWatch) -> None:
    machine.change(1, used=7, utilization=12, temperature=91, throttle=0x44, ecc=2, pending=1, advice=4)
    next_look(watch)
    assert watch.gpus()[1].reading == Reading(
        index=1,
        uuid=uuid(1),
        name="Made-up GPU",
        memory_used_bytes=7,
        memory_total_bytes=Card().total,
        utilization=0.12,
        temperature_celsius=91,
        slowdown_celsius=90,
        power_watts=350.0,
        throttle=("sw_power_cap", "hw_thermal_slowdown"),
        ecc_uncorrected=2,
        remapped_rows=3,
        repair_pending=True,
        repair_failed=False,
        advice="drain_and_reset",
    )
    assert watch.gpus()[0].assessment == Assessment()


def test_what_happens_to_a_gpu_is_seen_and_logged_once(
    machine: Machine, watch: GpuWatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    machine.change(0, code=UNKNOWN)
    next_look(watch)
    next_look(watch)
    assert watch.gpus()[0].assessment.reason is Reason.UNREADABLE
    machine.change(0, code=0)
    next_look(watch)
    machine.report(1, 79)
    next_look(watch)
    machine.change(1, code=GPU_IS_LOST)
    next_look(watch)
    told = [record.getMessage() for record in caplog.records if record.name == "trimtab_engine.gpus"]
    assert told == [
        f"GPU 0 ({uuid(0)}) is degraded: it cannot be read: Unknown Error.",
        f"GPU 0 ({uuid(0)}) is well.",
        f"GPU 1 ({uuid(1)}) has failed: the driver reported Xid 79, after which it needs a reset.",
    ]


def test_the_gpus_of_the_engine_are_those_that_cuda_may_see(machine: Machine) -> None:
    for named, seen in (("1", [1]), (f"{uuid(1)},{uuid(0)}", [1, 0]), ("MIG-7", [])):
        watch = GpuWatch(FAST, environment(machine, CUDA_VISIBLE_DEVICES=named))
        watch.start()
        try:
            assert [gpu.reading.index for gpu in watch.gpus()] == seen
            assert len(watch.gpus()) + len(watch.others()) == 2
        finally:
            watch.close()


def test_a_driver_that_does_not_answer_holds_up_nobody_and_is_asked_again(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_watch, "_AGAIN_SECONDS", 0.05)
    watch = GpuWatch(FAST, environment(machine))
    watch.start()
    try:
        assert len(watch.gpus()) == 2
        monkeypatch.setattr(watch, "_config", GpusConfig(interval_seconds=0.1, timeout_seconds=3))
        machine.hangs = True
        machine.write()
        until(lambda: watch.absent == "NVML did not answer within 3 s")
        assert [gpu.assessment.reason for gpu in watch.gpus()] == [Reason.UNREADABLE] * 2
        assert all(gpu.usable for gpu in watch.gpus())
        machine.hangs = False
        machine.write()
        until(lambda: not watch.absent)
        assert [gpu.assessment.verdict for gpu in watch.gpus()] == [Verdict.OK] * 2
    finally:
        watch.close()


def test_gpus_that_answer_only_after_the_start_are_watched_from_then_on(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_watch, "_AGAIN_SECONDS", 0.05)
    machine.hangs = True
    machine.write()
    watch = GpuWatch(GpusConfig(interval_seconds=0.1, timeout_seconds=3), environment(machine))
    placer = Placer(load(None, {}, {"model": "m", "gpus.tensor_parallel": 2}), tmp_path, watch)
    assert watch.absent == "NVML has not answered yet"
    watch.start()
    try:
        assert placer.begin("vllm") == ""
        assert watch.gpus() == ()
        machine.hangs = False
        machine.write()
        until(lambda: watch.gpus())
        machine.report(1, 95)
        until(lambda: not watch.gpus()[1].usable)
        decision = placer.look(others=False)
        assert decision is not None and decision.placement is not None
        assert (decision.action, decision.placement.gpus) == (Action.FEWER, (uuid(0),))
    finally:
        watch.close()


def test_a_reader_that_ends_is_started_again_and_says_nothing_of_the_gpus(
    machine: Machine, watch: GpuWatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_watch, "_AGAIN_SECONDS", 0.05)
    assert watch._process is not None
    watch._process.kill()
    until(lambda: watch.absent == "the program that reads NVML ended")
    until(lambda: not watch.absent)
    assert all(gpu.usable for gpu in watch.gpus())


def until(holds: Any, seconds: float = 60) -> None:
    ends = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < ends
        time.sleep(0.02)


SHOWN = (
    Shown(
        reading=Reading(index=0, uuid=uuid(0), memory_used_bytes=5, throttle=("hw_power_brake",), repair_pending=False),
        assessment=Assessment(verdict=Verdict.DEGRADED, reason=Reason.THROTTLED, message="its clocks are lowered"),
        in_use=True,
    ),
    Shown(
        reading=Reading(index=1, uuid=uuid(1), lost="GPU is lost", xids=(79,)),
        assessment=Assessment(verdict=Verdict.FAILED, reason=Reason.LOST, message="it does not answer: GPU is lost"),
        in_use=False,
    ),
)
DONE = Recovery(
    action=Action.FEWER, cause=Cause.FAILED, message="The engine starts again.", since="2026-01-01T00:00:00.000+00:00"
)
STATE = State(absent="", asked=Layout(tensor=2), layout=Layout(), gpus=SHOWN, recoveries=(DONE,), at=1.0)


def test_the_state_comes_through_the_file_and_is_read_once(tmp_path: Path) -> None:
    reader = StateReader(tmp_path)
    assert reader.read() is None
    write_state(tmp_path, STATE)
    first = reader.read()
    assert first == STATE
    assert reader.read() is first


def test_metrics_tell_each_gpu_and_what_was_done(tmp_path: Path) -> None:
    registry = CollectorRegistry()
    view = GpuView(tmp_path, GpuMetrics(registry))
    write_state(tmp_path, STATE)
    view.look()
    first, second = ({"gpu": str(index), "uuid": uuid(index)} for index in range(2))

    def value(name: str, labels: dict[str, str]) -> float | None:
        return registry.get_sample_value(f"trimtab_engine_{name}", labels)

    assert value("gpus_watched", {}) == 1
    assert value("gpu_memory_used_bytes", first) == 5
    assert math.isnan(value("gpu_memory_used_bytes", second) or 0)
    assert value("gpu_throttled", {**first, "reason": "hw_power_brake"}) == 1
    assert value("gpu_throttled", {**first, "reason": "hw_slowdown"}) == 0
    assert (value("gpu_lost", first), value("gpu_lost", second)) == (0, 1)
    assert (value("gpu_in_use", first), value("gpu_in_use", second)) == (1, 0)
    assert value("gpu_health", {**first, "verdict": "degraded"}) == 1
    assert value("gpu_health", {**second, "verdict": "failed"}) == 1
    assert value("gpu_parallel_size", {"kind": "asked", "size": "tensor"}) == 2
    assert value("gpu_parallel_size", {"kind": "now", "size": "tensor"}) == 1
    assert value("gpu_recoveries", {"action": "restart_with_fewer", "cause": "gpu_failed"}) == 1


async def test_health_and_status_tell_of_gpus_and_alerts_are_raised_for_them(tmp_path: Path) -> None:
    write_state(tmp_path, STATE)
    house = House(tmp_path, **{"alerts.enabled": True})
    health = (await ask(house.gate, "GET", "/health")).document
    assert health["status"] == "degraded"
    assert health["gpus"] == {"watched": True, "why": None, "ok": 0, "degraded": 1, "failed": 1, "in_use": 1}
    assert health["reasons"] == {
        "gpu_unwell": f"GPU 0 ({uuid(0)}) is degraded: its clocks are lowered. "
        f"GPU 1 ({uuid(1)}) has failed: it does not answer: GPU is lost.",
        "fewer_gpus": "The engine computes on one GPU instead of tensor 2. The engine starts again.",
    }
    told = (await house.status())["gpus"]
    assert [gpu["verdict"] for gpu in told["gpus"]] == ["degraded", "failed"]
    assert told["recoveries"] == [DONE.as_json()]
    measured = (await ask(house.gate, "GET", "/v1/optimization/metrics")).document["gpus"]
    assert [(gpu["index"], gpu["memory_used_bytes"], gpu["utilization"]) for gpu in measured] == [(0, 5, None)]
    reading = house.gate.keeper._reading(house.gate.state(), 5)
    assert [(finding.name, finding.severity) for finding in unwell_gpus(reading)] == [
        ("GpuFailed", Severity.CRITICAL),
        ("GpuDegraded", Severity.WARNING),
    ]


def test_engines_after_the_first_get_what_they_can_have(machine: Machine, watch: GpuWatch, tmp_path: Path) -> None:
    shape = {"num_attention_heads": 8, "num_key_value_heads": 8, "num_hidden_layers": 2}
    (tmp_path / "config.json").write_text(json.dumps(shape))
    config = load(None, {}, {"model": str(tmp_path), "gpus.tensor_parallel": 2})
    placer = Placer(config, tmp_path, watch)
    given = {"CUDA_VISIBLE_DEVICES": "0,1"}
    assert placer.begin("vllm") == ""
    assert (placer.config(), placer.environment(given)) == (config, given)
    machine.report(0, 95)
    next_look(watch)
    decision = placer.look(others=True)
    assert decision is not None and decision.placement is not None
    assert (decision.action, decision.placement.gpus) == (Action.FEWER, (uuid(1),))
    for engine, seen in (("deepspeed", uuid(1)), ("onnx", ""), ("pytorch", uuid(1))):
        assert placer.begin(engine) == ""
        assert placer.environment(given)["CUDA_VISIBLE_DEVICES"] == seen
    assert placer.begin("deepspeed") == ""
    assert placer.config().engines.deepspeed.tensor_parallel == 1
    machine.report(1, 95)
    next_look(watch)
    assert placer.begin("pytorch").startswith("pytorch cannot compute on the GPUs that are left: GPU 0")
    assert placer.begin("onnx") == ""
