"""Three minutes of `make soak` on our own server over the emulated engine: all of our layers, and no model's work."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench.serving.rows import markdown
from tests.bench.soak.__main__ import everything
from tests.bench.soak.fit import rows
from tests.bench.soak.picture import draw
from tests.bench.soak.run import Plan, soak
from tests.testkit.running import ROOT, OurServer
from tests.unit.engine.sinks import sink

pytestmark = [pytest.mark.emulator, pytest.mark.slow, pytest.mark.long]

OUT = ROOT / "build" / "soak"
# Short answers, so that many requests come and go with little work.
PLAN = Plan(seconds=180, warm_up=60, calibration=10, prompt="uniform:16-32", output="uniform:4-12")
EMULATOR = {"EMULATOR_LATENCY_FACTOR": "1"}


def test_three_minutes_at_80_per_cent_lose_no_request_and_keep_nothing_of_them(tmp_path: Path) -> None:
    with sink() as collector:
        fields = {**everything(collector, tmp_path), "engines.pytorch.running_requests": 32}
        with OurServer(folder=tmp_path / "run", fields=fields, env=EMULATOR) as server:
            run = soak(server, PLAN, engine="emulated", collector=collector, tell=print)
        log = server.log.read_text(errors="replace")
    OUT.mkdir(parents=True, exist_ok=True)
    draw(run, OUT / "short.png")
    found = rows(run)
    print(markdown(found))
    assert "Traceback" not in log
    assert run.sent > 500 and run.vanished > 10 and run.spans > 10
    assert [row.name for row in found if row.ok is False] == []
