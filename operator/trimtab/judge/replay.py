"""`python -m trimtab.judge.replay`: judge recordings as the operator would, one JSON line for each file.

    python -m trimtab.judge.replay FILE.jsonl… --slo ttft.p95=500ms --slo itl.p95=60ms [--interval 15s]
        [--deadline 900s] [--margin itl=10%] [--trade itl] [--promise ttft=-15%] [--trace]

Exit code 0 when every file was judged, whatever the verdict; 2 when an argument or a file is wrong, with a sentence
that names the file, the line and the field. The only module of this room that reads files: it is a program, and what
it calls is pure.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from trimtab.judge.history import History
from trimtab.judge.recording import BadRecordingError, Recording, parse
from trimtab.judge.sequential.judge import judge_history
from trimtab.judge.sequential.policy import TRADED, Policy
from trimtab.model.plan import Metric
from trimtab.model.reason import Reason
from trimtab.model.slo import Latency, LatencyTarget, Slo
from trimtab.model.verdict import Call, Verdict

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)?", re.ASCII)
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_CHANGE = re.compile(r"([a-z0-9]+)=([+-]?\d+(?:\.\d+)?)%", re.ASCII)
_SHORTEST, _LONGEST = 1.0, 86_400.0  # seconds


@dataclass(frozen=True, slots=True)
class Outcome:
    """The deciding look, or the last one. `interval` counts from 0; -1 when there was none."""

    verdict: Verdict
    interval: int


def looks(history: History, policy: Policy) -> Iterator[Outcome]:
    """One verdict after each interval, until the first Good or Bad."""
    for place in range(history.looks):
        verdict = judge_history(history.until(place + 1), policy)
        yield Outcome(verdict, place)
        if verdict.call is not Call.UNKNOWN:
            return


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit code."""
    options = _options(arguments)
    policy = Policy(
        slo=Slo(latencies=tuple(options.slo)),
        margins=dict(options.margin),
        trades=frozenset(options.trade),
        promises=dict(options.promise),
    )
    wrong = False
    for file in options.files:
        try:
            history = _read(file).history(options.interval, options.deadline)
        except BadRecordingError as error:
            print(f"{file}: {error}", file=sys.stderr)
            wrong = True
            continue
        last = Outcome(_nothing(options.interval), -1)
        for last in looks(history, policy):
            if options.trace:
                print(_line(file, history, last), flush=True)
        if not options.trace or last.interval < 0:
            print(_line(file, history, last), flush=True)
    return 2 if wrong else 0


def _read(file: str) -> Recording:
    try:
        with Path(file).open(encoding="utf-8") as lines:
            return parse(lines)
    except OSError as error:
        raise BadRecordingError(f"cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise BadRecordingError("is no text in UTF-8") from None


def _line(file: str, history: History, outcome: Outcome) -> str:
    verdict = outcome.verdict
    at = history.began + (outcome.interval + 1) * history.interval
    body = {
        "file": file,
        "verdict": verdict.call.value,
        "interval": outcome.interval,
        "at": round(at, 3),
        "reason": verdict.reason.value,
        "message": verdict.message,
        "evidence": {name: float(f"{value:.6g}") for name, value in sorted(verdict.evidence.items())},
    }
    return json.dumps(body, ensure_ascii=False)


def _nothing(interval: float) -> Verdict:
    message = f"The recording is shorter than one interval of {interval:g} s."
    return Verdict(Call.UNKNOWN, Reason.TOO_FEW_SAMPLES, message)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m trimtab.judge.replay", description="Judge recordings of canaries.")
    parser.add_argument("files", nargs="+", metavar="FILE", help="a recording, one JSON object per line")
    parser.add_argument("--slo", action="append", default=[], type=_target, help="like ttft.p95=500ms; repeatable")
    parser.add_argument("--interval", default=15.0, type=_duration, help="between two looks (15s)")
    parser.add_argument("--deadline", default=900.0, type=_duration, help="from which on nothing is looked at (900s)")
    parser.add_argument(
        "--margin", action="append", default=[], type=_margin, help="like itl=10%%: how much worse is no regression"
    )
    parser.add_argument(
        "--trade", action="append", default=[], type=_trade, help="a metric that is judged by its objective alone"
    )
    parser.add_argument(
        "--promise", action="append", default=[], type=_promise, help="like ttft=-15%%: what the plan promised"
    )
    parser.add_argument("--trace", action="store_true", help="print every interval")
    return parser.parse_args(arguments)


def _target(text: str) -> LatencyTarget:
    try:
        return LatencyTarget.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _duration(text: str) -> float:
    found = _DURATION.fullmatch(text.strip().lower())
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no duration; write one like 15s")
    seconds = float(found.group(1)) * _SECONDS[found.group(2) or "s"]
    if not _SHORTEST <= seconds <= _LONGEST:
        raise argparse.ArgumentTypeError(f"{text!r} must be between {_SHORTEST:g} s and {_LONGEST:g} s")
    return seconds


def _latency_change(text: str) -> tuple[Latency, float]:
    known = ", ".join(latency.value for latency in Latency)
    found = _CHANGE.fullmatch(text.strip().lower())
    if found is None or found.group(1) not in set(Latency):
        raise argparse.ArgumentTypeError(f"{text!r} is no change; write one like itl=10% (of {known})")
    return Latency(found.group(1)), float(found.group(2)) / 100


def _margin(text: str) -> tuple[Latency, float]:
    latency, change = _latency_change(text)
    if not 0 < change <= 10:
        raise argparse.ArgumentTypeError(f"{text!r}: a margin must be greater than 0 % and at most 1000 %")
    return latency, change


def _promise(text: str) -> tuple[Latency, float]:
    latency, change = _latency_change(text)
    if not -1 < change < 0:
        raise argparse.ArgumentTypeError(f"{text!r}: a promise is a reduction, between -100 % and 0 %")
    return latency, change


def _trade(text: str) -> Metric:
    wanted = text.strip().lower()
    if wanted not in set(Latency):
        raise argparse.ArgumentTypeError(f"{text!r} cannot be traded; there are {', '.join(x.value for x in Latency)}")
    return TRADED[Latency(wanted)]


if __name__ == "__main__":
    sys.exit(main())
