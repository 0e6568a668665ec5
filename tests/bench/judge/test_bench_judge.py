"""The simulator does what it says, and the benchmark writes what it should."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.bench.judge.__main__ import main
from tests.bench.judge.rivals import careful_limits, fixed_thresholds, mann_whitney, simulated
from tests.bench.judge.simulate import BOUNDS, Change, Recording, World
from tests.bench.judge.write import lines
from trimtab.judge.history import ERRORS, History
from trimtab.judge.recording import parse
from trimtab.judge.samples import history_of
from trimtab.model.slo import Latency
from trimtab.model.verdict import Call


def history(world: World, change: Change, seed: int = 1, looks: int = 40) -> History:
    return history_of(Recording(world, change, seed).pods(looks), interval=15.0, began=0.0, looks=looks)


def mean(found: History, latency: Latency, side: str) -> float:
    series = found.histograms[latency]
    members = found.canary if side == "canary" else found.stable
    return float(series.total[:, members].sum() / series.count[:, members].sum())


QUIET = World(requests=100, pod_spread=0.0, node_events=0.0)


@pytest.mark.parametrize("latency", list(BOUNDS))
def test_pods_that_do_not_differ_serve_alike(latency: Latency) -> None:
    found = history(QUIET, Change())
    assert mean(found, latency, "canary") == pytest.approx(mean(found, latency, "stable"), rel=0.06)


def test_a_change_is_the_canarys_alone_and_as_large_as_it_says() -> None:
    usual, changed = history(QUIET, Change()), history(QUIET, Change(itl=1.2, ttft=2.0, errors=0.05))
    for latency, factor in ((Latency.ITL, 1.2), (Latency.TTFT, 2.0)):
        assert mean(changed, latency, "canary") / mean(usual, latency, "canary") == pytest.approx(factor, rel=0.05)
        assert mean(changed, latency, "stable") == pytest.approx(mean(usual, latency, "stable"), rel=0.05)
    requests = changed.requests()[:, changed.canary].sum()
    assert changed.counters[ERRORS][:, changed.canary].sum() / requests == pytest.approx(0.05, abs=0.01)


def test_load_swings_by_two_within_minutes_and_counts_are_over_dispersed() -> None:
    found = history(World(requests=300, pod_spread=0.0), Change(), looks=60)
    counts = found.requests()
    together = counts.sum(axis=1)
    assert together.max() > 1.8 * together.min()
    centre = counts.mean(axis=1, keepdims=True)
    assert ((counts - centre) ** 2 / centre).sum() / (60 * 4) > 1.5


def test_a_recording_drawn_in_pieces_is_a_recording() -> None:
    recording = Recording(QUIET, Change(), 5)
    first, whole = recording.pods(5), recording.pods(40)
    for before, after in zip(first, whole, strict=True):
        for latency, samples in before.histograms.items():
            assert np.array_equal(samples.values, after.histograms[latency].values[: len(samples.times)])


def test_a_written_recording_is_read_back_as_it_was() -> None:
    pods = Recording(QUIET, Change(), 5).pods(4)
    read = parse(lines(pods)).history(15.0, 900.0)
    written = history_of(pods, interval=15.0, began=0.0, looks=4)
    assert sorted(read.pods) == sorted(written.pods)
    assert read.requests()[:, read.canary].tolist() == written.requests()[:, written.canary].tolist()
    assert mean(read, Latency.TTFT, "stable") == pytest.approx(mean(written, Latency.TTFT, "stable"))


def test_the_other_judges_find_what_is_gross() -> None:
    limits = careful_limits(simulated(QUIET, recordings=1))
    gross = history(QUIET, Change(ttft=4.0, itl=3.0), looks=20)
    assert fixed_thresholds(limits)(gross)[0] is Call.BAD
    assert mann_whitney(gross) == (Call.BAD, 1)
    assert fixed_thresholds(dict.fromkeys(limits, 1e9))(history(QUIET, Change(), looks=20)) == (Call.GOOD, 20)


def test_the_benchmark_writes_rows_with_their_bars(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--recordings", "1", "--only", "TTFT twice as long, 30 requests", "--out", str(tmp_path)]) == 0
    rows = json.loads((tmp_path / "judge.json").read_text(encoding="utf-8"))
    assert {tuple(sorted(row)) for row in rows} == {("bar", "name", "ok", "unit", "value")}
    assert rows[0]["name"] == "TTFT twice as long, 30 requests: found"
    assert "| TTFT twice as long, 30 requests |" in capsys.readouterr().out
