"""`python -m trimtab.judge.replay`: what it prints, and what it says of bad input."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.bench.judge.write import lines
from tests.unit.judge.traffic import Pod, Traffic, stable
from trimtab.judge.replay import main

Run = Callable[..., tuple[int, list[dict[str, Any]], str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: str | Path) -> tuple[int, list[dict[str, Any]], str]:
        code = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return code, [json.loads(line) for line in out.splitlines()], err

    return run


@pytest.fixture
def record(tmp_path: Path) -> Callable[..., Path]:
    def record(name: str = "one", **canary: Any) -> Path:
        pods = (*stable(), Pod("c-0", canary=True, **canary))
        path = tmp_path / f"{name}.jsonl"
        path.write_text("\n".join(lines(Traffic(pods).samples())), encoding="utf-8")
        return path

    return record


def test_one_line_for_each_file_with_the_deciding_interval(run: Run, record: Callable[..., Path]) -> None:
    same, worse = record("same"), record("worse", ttft=8.0)
    code, found, _ = run(same, worse, "--slo", "ttft.p95=1s", "--slo", "itl.p95=75ms")
    assert code == 0
    assert [(one["file"], one["verdict"]) for one in found] == [(str(same), "Good"), (str(worse), "Bad")]
    assert (found[1]["interval"], found[1]["at"], found[1]["reason"]) == (1, 30.0, "SLORegression")
    assert set(found[0]) == {"file", "verdict", "interval", "at", "reason", "message", "evidence"}
    assert found[0]["evidence"]["itl.ratio"] == pytest.approx(1.0, abs=0.03)


def test_the_trace_has_every_interval_up_to_the_deciding_one(run: Run, record: Callable[..., Path]) -> None:
    _, found, _ = run(record(ttft=2.5), "--trace")
    assert [one["interval"] for one in found] == [0, 1, 2]
    assert [one["verdict"] for one in found] == ["Unknown", "Unknown", "Bad"]


def test_the_deadline_ends_a_canary_that_nothing_is_known_of(run: Run, record: Callable[..., Path]) -> None:
    _, found, _ = run(record(), "--deadline", "90s")
    assert (found[0]["verdict"], found[0]["interval"], found[0]["at"]) == ("Unknown", 5, 90.0)


def test_margins_trades_and_promises_are_passed_on(run: Run, record: Callable[..., Path]) -> None:
    slower = record(itl=1.3)
    assert run(slower)[1][0]["verdict"] == "Bad"
    assert run(slower, "--margin", "itl=60%", "--margin", "e2e=60%")[1][0]["verdict"] == "Good"
    assert run(slower, "--trade", "itl", "--slo", "itl.p95=75ms")[1][0]["verdict"] == "Good"
    promised = record("promised", waiting=5.0)
    assert run(promised, "--promise", "ttft=-30%")[1][0]["verdict"] == "Unknown"


def test_an_interval_of_other_length(run: Run, record: Callable[..., Path]) -> None:
    _, found, _ = run(record(ttft=2.5), "--interval", "30s")
    assert (found[0]["verdict"], found[0]["at"] % 30) == ("Bad", 0)


def test_a_recording_shorter_than_an_interval_is_unknown(run: Run, record: Callable[..., Path]) -> None:
    code, found, _ = run(record(), "--interval", "1h")
    assert (code, found[0]["verdict"], found[0]["interval"]) == (0, "Unknown", -1)


SAMPLE = {"t": 0.0, "role": "canary", "pod": "c-0", "metric": "requests_total", "value": 4}
HISTOGRAM = {
    **{key: SAMPLE[key] for key in ("t", "role", "pod")},
    "metric": "ttft_seconds",
    "buckets": {"0.1": 1, "+Inf": 2},
    "sum": 0.3,
    "count": 2,
}


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        (["{"], "line 1 is no JSON"),
        (["[]"], "line 1 is no JSON object"),
        ([SAMPLE, {**SAMPLE, "t": "soon"}], "line 2: field 't' must be a number"),
        ([{**SAMPLE, "t": 5}, SAMPLE], "line 2: field 't' goes back from 5 to 0"),
        ([{**SAMPLE, "role": "blue"}], "line 1: field 'role' is 'blue'; it must be stable or canary"),
        ([{"t": 0, "role": "canary", "metric": "running", "value": 1}], "line 1: field 'pod' is missing"),
        ([{**SAMPLE, "value": None}], "line 1: field 'value' must be a number"),
        ([{**SAMPLE, "value": -1}], "line 1: field 'value' must not be negative"),
        ([{**HISTOGRAM, "buckets": {}}], "line 1: field 'buckets' must be an object of bounds and counts"),
        ([{**HISTOGRAM, "buckets": {"x": 1}}], "line 1: field 'buckets' has a bound or a count that is no number"),
        ([{**HISTOGRAM, "buckets": {"0.1": 3, "+Inf": 2}}], "line 1: field 'buckets' must not fall"),
        ([{key: HISTOGRAM[key] for key in HISTOGRAM if key != "sum"}], "line 1: field 'sum' is missing"),
        ([SAMPLE, {**SAMPLE, "role": "stable"}], "line 2: field 'role' of pod 'c-0' changes to stable"),
        ([{**SAMPLE, "role": "stable"}], "no line has the role canary"),
        ([], "the recording has no samples"),
    ],
)
def test_bad_input_is_said_by_line_and_field(rows: list[Any], sentence: str, run: Run, tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows), encoding="utf-8")
    code, found, error = run(path)
    assert (code, found) == (2, [])
    assert error.startswith(f"{path}: ") and sentence in error


def test_a_bad_file_does_not_keep_the_others_from_being_judged(
    run: Run, record: Callable[..., Path], tmp_path: Path
) -> None:
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe\x00")
    code, found, error = run(tmp_path / "missing", binary, record())
    assert code == 2
    assert "cannot be read: No such file or directory" in error and "no text in UTF-8" in error
    assert [one["verdict"] for one in found] == ["Good"]


def test_nan_and_metrics_of_other_names_are_no_bad_input(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "renamed.jsonl"
    rows = [
        {"t": t, "role": role, "pod": role, "metric": metric, "value": value}
        for t in (0.0, 15.0, 30.0)
        for role, metric, value in (("stable", "requests_total", t), ("canary", "vllm:requests", float("nan")))
    ]
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    code, found, _ = run(path)
    assert (code, found[0]["verdict"], found[0]["reason"]) == (0, "Unknown", "MetricsMissing")
    assert "vllm:requests" in found[0]["message"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--slo", "ttft=500ms"], "no target"),
        (["--interval", "soon"], "no duration"),
        (["--interval", "0s"], "must be between"),
        (["--margin", "itl=-5%"], "greater than 0 %"),
        (["--margin", "speed=5%"], "is no change"),
        (["--promise", "ttft=15%"], "is a reduction"),
        (["--trade", "quality"], "cannot be traded"),
    ],
)
def test_bad_arguments_are_said(
    arguments: list[str], sentence: str, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        run("file.jsonl", *arguments)
    assert stopped.value.code == 2
    assert sentence in capsys.readouterr().err
