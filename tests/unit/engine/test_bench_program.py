"""`trimtab-engine bench` as a whole, over an emulated engine."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from tests.testkit.running import emulator_here
from trimtab_engine.bench.options import parser, plan
from trimtab_engine.bench.program import main
from trimtab_engine.bench.result import result_from_json
from trimtab_engine.load.trace import Arrival, Recorded, read_trace

TRACE = "offset_seconds,prompt_tokens,output_tokens,note\n10.5,20,3,x\n10.0,10,2,y\n10.2,5,4,z\n"
SCENARIOS = "single,concurrent,batch,streaming,poisson,bursty,trace"


async def bench(*arguments: str) -> int:
    return await asyncio.to_thread(main, arguments)


@pytest.mark.emulator
async def test_every_scenario_is_measured_written_compared_and_drawn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trace, a, b, played = (tmp_path / name for name in ("trace.csv", "a.json", "b.json", "played.json"))
    trace.write_text(TRACE)
    load = [
        "--seconds",
        "0.5",
        "--settle-seconds",
        "0",
        "--clients",
        "4",
        "--rate",
        "30",
        "--characters-per-token",
        "1",
    ]
    lengths = ["--prompt-tokens", "8", "--output-tokens", "4", "--trace", str(trace)]
    async with emulator_here("--max-num-seqs", "8") as url:
        for path in (a, b):
            run = [
                "run",
                "--url",
                url,
                "--scenarios",
                SCENARIOS,
                "--label",
                path.stem,
                "--out",
                str(path),
                "--keep-texts",
            ]
            assert await bench(*run, *load, *lengths) == 0
        # With time to spare: what a busy machine sends after the scenario's end is not sent at all.
        alone = ["run", "--url", url, "--scenarios", "trace", "--trace", str(trace), "--out", str(played)]
        assert await bench(*alone, "--seconds", "600", "--settle-seconds", "0", "--characters-per-token", "1") == 0
    found = result_from_json(json.loads(a.read_text()))
    assert [one.name for one in found.scenarios] == SCENARIOS.split(",")
    assert (found.engine, found.model) == ("vllm", "m75")
    for one in found.scenarios:
        assert one.answered and not one.failures()
        assert all(sample.text for sample in one.answered)
        streamed = one.name not in {"single", "concurrent", "batch"}
        assert all((sample.ttft is not None) == streamed for sample in one.answered)
    recorded = result_from_json(json.loads(played.read_text())).scenario("trace")
    assert recorded is not None
    assert [(one.prompt_tokens, one.output_tokens) for one in recorded.samples] == [(10, 2), (5, 4), (20, 3)]
    assert "TTFT" in capsys.readouterr().out
    out, picture = tmp_path / "compared.json", tmp_path / "plot.svg"
    assert await bench("compare", str(a), str(b), "--out", str(out), "--plot", str(picture)) == 0
    assert {one["scenario"] for one in json.loads(out.read_text())["compared"]} == set(SCENARIOS.split(","))
    assert "<svg" in picture.read_text()


@pytest.mark.emulator
async def test_a_server_without_our_limits_cannot_be_swept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    steps = tmp_path / "steps.yaml"
    steps.write_text("- {limits: {max_running_requests: 4}}")
    async with emulator_here() as url:
        assert await bench("sweep", "--url", url, "--steps", str(steps)) == 2
    assert "no limits that change" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "--url", "http://8.8.8.8"], "refused"),
        (["compare", "no-such-file", "b"], "No such file"),
        (["run", "--url", "http://127.0.0.1:9", "--scenarios", "all"], "no scenario"),
        (["run", "--url", "http://127.0.0.1:9", "--scenarios", "trace"], "needs --trace"),
        (["run", "--url", "http://127.0.0.1:9", "--scenarios", "single"], "Cannot connect"),
    ],
)
def test_what_cannot_be_measured_ends_with_2_and_a_sentence(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert said in capsys.readouterr().err


def test_a_trace_begins_at_zero_in_order_and_at_its_speed() -> None:
    arrivals = read_trace(TRACE, speed=2.0)
    assert [round(one.offset, 6) for one in arrivals] == [0.0, 0.1, 0.25]
    assert [len(ask.prompt) for ask in Recorded(arrivals=arrivals).asks()] == [10, 5, 20]
    assert arrivals[0] == Arrival(offset=0.0, prompt_tokens=10, output_tokens=2)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no column offset_seconds"),
        ("offset_seconds,prompt_tokens\n1,2\n", "no column output_tokens"),
        ("offset_seconds,prompt_tokens,output_tokens\n", "no arrivals"),
        ("offset_seconds,prompt_tokens,output_tokens\n1,x,2\n", "line 2"),
        ("offset_seconds,prompt_tokens,output_tokens\n0,1,2\n-1,1,2\n", "line 3"),
        ("offset_seconds,prompt_tokens,output_tokens\n0,nan,2\n", "cannot be"),
        ("offset_seconds,prompt_tokens,output_tokens\n0,1\n", "line 2"),
    ],
)
def test_a_trace_that_cannot_be_played_is_refused(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read_trace(text)


def test_bursts_are_those_of_a_gamma_process() -> None:
    args = parser().parse_args(["run", "--url", "http://127.0.0.1", "--rate", "5", "--burstiness", "2"])
    bursty, poisson = plan("bursty", args).traffic, plan("poisson", args).traffic
    assert (bursty.rate, bursty.burstiness, poisson.burstiness) == (5.0, 2.0, 1.0)
