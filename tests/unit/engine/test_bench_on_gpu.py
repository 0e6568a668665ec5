"""The benchmark on a GPU, over the emulated engine and a library that answers as NVML; and where there is no GPU."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from tests.bench.serving.on_gpu import BARS, SEVEN_BILLION, Found, Load, judged, measured, rows
from tests.bench.serving.rows import keep, markdown
from tests.testkit.nvml import DRIVER_NOT_LOADED, GIBIBYTE, Card, Machine
from tests.testkit.running import ROOT, OurServer
from trimtab_engine.config.gpus import GpusConfig
from trimtab_engine.server.gpu_watch import GpuWatch

LOAD = Load(rate=40, seconds=4, settle=1, prompt="16", output="4")
GOOD = Found(ttft=400, answers=110, memory=15e9, utilization=0.9, failed=0.0)


def environment(machine: Machine) -> dict[str, str]:
    return {**os.environ, **machine.environment, "PYTHONPATH": str(ROOT / "engine_image")}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[OurServer]:
    with OurServer(folder=tmp_path / "server", env={"EMULATOR_SPEED": "50"}) as one:
        yield one


@pytest.fixture
def watch(tmp_path: Path) -> Iterator[GpuWatch]:
    machine = Machine(tmp_path, [Card(used=15 * GIBIBYTE, utilization=85), Card(used=GIBIBYTE, utilization=0)])
    one = GpuWatch(GpusConfig(interval_seconds=0.2), environment(machine))
    one.start()
    yield one
    one.close()


def test_the_load_and_the_first_gpu_are_measured(server: OurServer, watch: GpuWatch) -> None:
    said: list[str] = []
    found = measured(server, watch, LOAD, said.append)
    assert (found.memory, found.failed) == (15 * GIBIBYTE, 0.0)
    assert found.utilization == pytest.approx(0.85)
    assert found.ttft > 0
    assert found.answers > 10
    assert "40 requests/s" in said[0]


def test_a_machine_without_a_gpu_leaves_every_row_open_and_says_why(tmp_path: Path) -> None:
    machine = Machine(tmp_path, [], init=DRIVER_NOT_LOADED)
    found = list(rows(print, environment(machine)))
    assert len(found) == len(BARS)
    assert {(row.value, row.ok) for row in found} == {(None, None)}
    assert all("no GPU here: NVML cannot be used: " in row.detail for row in found)
    assert "| 7B model on one GPU: TTFT p95 | not measured | <= 500 |" in markdown(found)
    keep(found, tmp_path / "rows.json")
    assert '"value": null' in (tmp_path / "rows.json").read_text()


@pytest.mark.parametrize(
    ("worse", "missed"),
    [
        ({}, None),
        ({"ttft": 501.0}, "TTFT p95"),
        ({"answers": 99.0}, "requests per second"),
        ({"memory": 16.1e9}, "memory of the GPU, most"),
        ({"utilization": 0.79}, "utilization of the GPU, mean"),
        ({"failed": 0.02}, "failed requests"),
    ],
)
def test_each_figure_is_held_against_its_bar(worse: Mapping[str, float], missed: str | None) -> None:
    found = {row.name.split(": ", 1)[1]: row.ok for row in judged(replace(GOOD, **worse), "NVIDIA H100")}
    assert found == {name: name != missed for name in BARS}


def test_the_model_has_seven_billion_weights() -> None:
    assert 6.9e9 < SEVEN_BILLION.parameters() < 7.3e9
