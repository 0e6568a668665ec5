"""Results for people, by rich."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from trimtab_engine.bench.compare import Compared, Verdict
from trimtab_engine.bench.ladder import Rung
from trimtab_engine.bench.result import Result

_COLOURS = {Verdict.BETTER: "green", Verdict.WORSE: "red"}


def result_table(result: Result) -> Table:
    table = Table(title=f"{result.label}: {result.model} on {result.engine}")
    for name in (
        "scenario",
        "answered",
        "failed",
        "tokens/s",
        "requests/s",
        "TTFT ms p50, p95",
        "per token ms p50, p95",
    ):
        table.add_column(name, justify="left" if name == "scenario" else "right")
    for name in ("whole answer ms p50, p95", "memory MiB"):
        table.add_column(name, justify="right")
    for one in result.scenarios:
        pairs = [_pair(one.percentile(kind, 0.5), one.percentile(kind, 0.95)) for kind in ("ttft", "tpot", "e2e")]
        failed = str(len(one.samples) - len(one.answered))
        speeds = [f"{one.tokens_per_second:.1f}", f"{one.requests_per_second:.2f}"]
        memory = f"{one.memory_bytes / 2**20:.0f}" if one.memory_bytes else "-"
        table.add_row(one.name, str(len(one.answered)), failed, *speeds, *pairs, memory)
    return table


def compare_table(a: Result, b: Result, compared: Sequence[Compared], confidence: float) -> Table:
    table = Table(title=f"{b.label} over {a.label}, with {confidence:.0%} confidence")
    for name in ("scenario", "metric", a.label, b.label, "ratio", "from", "to", ""):
        table.add_column(name, justify="left" if name in ("scenario", "metric", "") else "right")
    for one in compared:
        scale = 1.0 if one.metric == "tokens per second" else 1e3
        unit = "" if scale == 1.0 else ", ms"
        values = (f"{scale * value:.1f}" for value in (one.a, one.b))
        colour = _COLOURS.get(one.verdict)
        verdict = f"[{colour}]{one.verdict.value}[/]" if colour else one.verdict.value
        bounds = (f"{value:.3f}" for value in (one.ratio, one.low, one.high))
        table.add_row(one.scenario, one.metric + unit, *values, *bounds, verdict)
    return table


def ladder_table(rungs: Sequence[Rung]) -> Table:
    table = Table(title="One optimization after the other")
    for name in ("step", "", "ratio", "from", "to", "applied in s", "taken back in s", "why"):
        table.add_column(name, justify="right" if name not in ("step", "", "why") else "left")
    for rung in rungs:
        bounds = ("-" if value is None else f"{value:.3f}" for value in (rung.ratio, rung.low, rung.high))
        back = "-" if rung.revert_seconds is None else f"{rung.revert_seconds:.1f}"
        kept = "[green]kept[/]" if rung.kept else "taken back"
        table.add_row(rung.step.name, kept, *bounds, f"{rung.apply_seconds:.1f}", back, rung.why)
    return table


def _pair(a: float | None, b: float | None) -> str:
    return "-" if a is None or b is None else f"{a:.0f}, {b:.0f}"
