"""The recordings of real vLLM (`tests.bench.judge.record`), as cases for the judges.

Of canaries that are stable's equals, each pod in turn is taken for the canary, which makes four cases of one recording.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

from tests.bench.judge.record import CANARY, FOLDER, KINDS, STABLE
from tests.bench.judge.rivals import careful_limits, fixed_thresholds, mann_whitney
from trimtab.judge.history import History
from trimtab.judge.recording import parse
from trimtab.judge.replay import looks
from trimtab.judge.sequential import Policy
from trimtab.model.slo import Latency, LatencyTarget, Slo
from trimtab.model.verdict import Call

INTERVAL = 6.0  # seconds
# Wide: what is asked is whether the canary is worse than stable, not whether this machine is fast.
POLICY = Policy(slo=Slo((LatencyTarget(Latency.TTFT, 95, 30.0), LatencyTarget(Latency.ITL, 95, 5.0))), warm_up=INTERVAL)


@dataclass(frozen=True, slots=True)
class Case:
    """`changed`: whether the canary has another configuration than stable. `canary`: the pod that is taken for it."""

    name: str
    changed: bool
    canary: str
    history: History


def there() -> bool:
    """Whether every kind has been recorded: `python -m tests.bench.judge.record` does it, in half an hour."""
    return all((FOLDER / f"{name}.jsonl.gz").is_file() for name in KINDS)


def cases() -> Iterator[Case]:
    """Every case of the recordings that were kept."""
    for name, kind in KINDS.items():
        text = gzip.decompress((FOLDER / f"{name}.jsonl.gz").read_bytes()).decode()
        for canary in (CANARY,) if kind.canary else (CANARY, *STABLE):
            history = parse(_with_canary(text, canary)).history(INTERVAL, 900.0)
            yield Case(name, bool(kind.canary), canary, history)


def judged(history: History) -> tuple[Call, int]:
    """The first Good or Bad of ours and after how many intervals, or Unknown after all of them."""
    *_, last = looks(history, POLICY)
    return last.verdict.call, last.interval + 1


def table() -> tuple[list[str], list[tuple[str, float]]]:
    """A line for each kind, and what it comes to: the per cent of equals called Bad, and of changed ones promoted."""
    lines = [
        "| real vLLM | cases | Bad, Good | thresholds: Bad, Good | Mann-Whitney: Bad, Good |",
        "|---|---|---|---|---|",
    ]
    calls: dict[bool, list[Call]] = {False: [], True: []}
    for name, group in groupby(cases(), key=lambda case: case.name):
        found = list(group)
        ours = [judged(case.history)[0] for case in found]
        calls[found[0].changed] += ours
        limits = [fixed_thresholds(careful_limits([case.history]))(case.history)[0] for case in found]
        ranks = [mann_whitney(case.history)[0] for case in found]
        lines.append(f"| {name} | {len(found)} | " + " | ".join(_counts(each) for each in (ours, limits, ranks)) + " |")
    wrong = [
        ("real vLLM, A/A: called Bad", _percent(calls[False], Call.BAD)),
        ("real vLLM, A/B: promoted", _percent(calls[True], Call.GOOD)),
    ]
    return lines, wrong


def _counts(calls: list[Call]) -> str:
    return f"{calls.count(Call.BAD)}, {calls.count(Call.GOOD)}"


def _percent(calls: list[Call], call: Call) -> float:
    return 100 * calls.count(call) / len(calls)


def _with_canary(text: str, canary: str) -> Iterator[str]:
    for line in text.splitlines():
        sample = json.loads(line)
        yield json.dumps({**sample, "role": "canary" if sample["pod"] == canary else "stable"})
