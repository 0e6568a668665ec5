"""The tuner at work in the server: what it may not touch, how it is switched, and how its decisions come into force."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.engine.asgi import ask
from tests.unit.engine.test_engine_gate import BEARER, House
from trimtab_engine.monitor.measured import Outcome
from trimtab_engine.server.tuning import Tuning
from trimtab_engine.shared.board import Board, Notice


class Bed:
    """A server whose engine takes limits up at once, and whose requests are told by hand."""

    def __init__(self, folder: Path, **given: Any) -> None:
        fields = {
            "tuner.enabled": True,
            "tuner.itl_p95_seconds": 0.05,
            "tuner.fewest_requests": 1,
            "limits.max_running_requests": 4,
            **given,
        }
        self.house = House(folder, **fields)
        self.board = Board(folder)
        self.house.gate.control.tick()
        self.at = 1000.0
        self.itl = 0.01

    @property
    def tuning(self) -> Tuning:
        tuning = self.house.gate.keeper.tuning
        assert tuning is not None
        return tuning

    @property
    def running(self) -> int:
        return self.house.gate.control.wanted.limits.max_running_requests

    def second(self) -> None:
        """One second under full load."""
        control = self.house.gate.control
        self.board.post(Notice(revision=control.wanted.revision, running=self.running, waiting=9))
        monitor = self.house.gate.keeper.monitor
        monitor.first_token(self.at, ttft=0.1)
        monitor.tokens(self.at, gaps=[self.itl] * 20, count=20)
        monitor.ended(self.at, Outcome.SUCCEEDED, latency=1.0, prompt_tokens=5)
        self.tuning.look(self.at, running=self.running, waiting=9)
        self.tuning.apply()
        self.at += 1.0

    def seconds(self, count: int) -> None:
        for _ in range(count):
            self.second()

    async def shown(self) -> Any:
        return (await ask(self.house.gate, "GET", "/v1/optimization/tuner")).document


@pytest.fixture
def bed(tmp_path: Path) -> Iterator[Bed]:
    built = Bed(tmp_path)
    yield built
    built.house.gate.keeper.close()


async def test_it_raises_the_limit_while_there_is_room_and_says_why(bed: Bed, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="trimtab_engine")
    bed.seconds(8)
    assert bed.running == 8
    status = await bed.house.status()
    assert (status["source"], status["limits"]["max_running_requests"]) == ("tuner", 8)
    shown = await bed.shown()
    (decision,) = shown["decisions"]
    assert (decision["action"], decision["limit"], decision["from"], decision["to"]) == (
        "raise",
        "max_running_requests",
        4,
        8,
    )
    assert decision["message"] == (
        "9 requests wait while 4 run, within the targets: max_running_requests goes from 4 to 8."
    )
    assert any(decision["message"] in record.message for record in caplog.records)
    assert bed.house.metric('trimtab_engine_tuner_decisions_total{action="raise",reason="requests_wait"}') == 1
    assert bed.house.metric('trimtab_engine_tuner_state{state="on"}') == 1
    assert (shown["state"], shown["last_known_good"]["max_running_requests"]) == ("on", 4)


async def test_what_made_it_worse_is_taken_back(bed: Bed) -> None:
    bed.seconds(8)
    bed.itl = 0.2
    bed.seconds(8)
    assert bed.running == 4
    decisions = (await bed.shown())["decisions"]
    assert [entry["action"] for entry in decisions] == ["raise", "roll_back"]
    assert decisions[-1]["reason"] == "worse_than_before"


def test_nothing_is_decided_before_the_limits_are_in_force(bed: Bed) -> None:
    bed.seconds(8)
    wanted = bed.house.gate.control.wanted
    for _ in range(30):
        bed.board.post(Notice(revision=wanted.revision - 1, running=4, waiting=9))
        bed.tuning.look(bed.at, running=4, waiting=9)
        bed.tuning.apply()
        bed.at += 1.0
    assert bed.house.gate.control.wanted == wanted


async def test_it_is_off_while_a_settings_file_sets_the_limits(bed: Bed) -> None:
    bed.house.settings.write_text("limits:\n  max_running_requests: 5\n")
    bed.house.settle()
    bed.seconds(30)
    assert bed.running == 5
    assert (await bed.shown())["state"] == "settings_file"


async def test_limits_of_a_request_are_where_it_starts_anew(bed: Bed) -> None:
    bed.seconds(8)
    await bed.house.configure({"limits": {"max_running_requests": 2}})
    bed.seconds(2)
    assert (await bed.shown())["limits"]["max_running_requests"] == 2
    bed.seconds(8)
    assert bed.running == 4


async def test_it_can_be_stopped_and_started_with_the_token_alone(bed: Bed) -> None:
    gate = bed.house.gate
    assert (await ask(gate, "POST", "/v1/optimization/stop")).status == 401
    stopped = await ask(gate, "POST", "/v1/optimization/stop", headers=BEARER)
    assert (stopped.status, stopped.document["state"]) == (200, "stopped")
    bed.seconds(20)
    assert bed.running == 4
    assert (await ask(gate, "POST", "/v1/optimization/start", headers=BEARER)).document["state"] == "on"
    bed.seconds(8)
    assert bed.running == 8


def test_limits_that_cannot_be_stored_are_tried_again(bed: Bed, tmp_path: Path) -> None:
    away = tmp_path.with_name(tmp_path.name + "-away")
    bed.seconds(6)
    tmp_path.rename(away)
    bed.seconds(2)
    assert bed.running == 4
    away.rename(tmp_path)
    bed.seconds(8)
    assert bed.running >= 8


async def test_after_an_error_of_its_own_the_last_good_limits_are_back(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    bed.seconds(8)
    assert bed.running == 8

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(bed.tuning, "look", fail)
    await bed.house.gate.keeper.tick(bed.house.gate.state())
    assert bed.running == 4


def test_of_two_api_servers_one_tunes(bed: Bed, tmp_path: Path) -> None:
    bed.seconds(1)
    other = Bed(tmp_path)
    other.seconds(20)
    assert other.tuning.state.value == "elsewhere"
    bed.tuning.close()
    other.seconds(1)
    assert other.tuning.state.value == "on"
    other.tuning.close()


@pytest.mark.parametrize("name", ["tuner", "alerts", "metrics", "report"])
async def test_what_is_off_says_so(tmp_path: Path, name: str) -> None:
    house = House(tmp_path, **{"monitor.enabled": False})
    off = await ask(house.gate, "GET", f"/v1/optimization/{name}")
    assert (off.status, off.document["error"]["type"]) == (404, "endpoint_off")
    assert (await ask(house.gate, "POST", "/v1/optimization/start", headers=BEARER)).status == 404
    house.engine.answering.set()
    assert (await ask(house.gate, "POST", "/v1/completions")).status == 200
    assert house.gate.keeper.watching is None


async def test_metrics_and_report_tell_of_the_requests(bed: Bed) -> None:
    bed.house.engine.answering.set()
    assert (await ask(bed.house.gate, "POST", "/v1/completions")).status == 200
    told = (await ask(bed.house.gate, "GET", "/v1/optimization/metrics")).document
    assert (told["stale"], told["window"]["requests"]["succeeded"]) == (False, 1)
    assert 0 <= told["load"]["score"] <= 1
    assert told["resources"]["process_resident_bytes"] > 0
    report = (await ask(bed.house.gate, "GET", "/v1/optimization/report")).document
    assert report["grade"] in {"A+", "A", "B", "C"}
    assert bed.house.metric('trimtab_engine_requests_total{model="m",outcome="succeeded"}') == 1
    alerts = await ask(bed.house.gate, "GET", "/v1/optimization/alerts")
    assert alerts.status == 404


async def test_metrics_that_cannot_be_computed_are_the_last_ones(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    keeper, path = bed.house.gate.keeper, "/v1/optimization/metrics"
    before = (await ask(bed.house.gate, "GET", path)).document

    def fail(*_: object) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(keeper, "window", fail)
    after = (await ask(bed.house.gate, "GET", path)).document
    assert after == {**before, "stale": True}
    assert json.dumps(after)
