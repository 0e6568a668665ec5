"""The measurements beside the predictions, as Markdown."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from tests.bench.engine.cases import Suite
from tests.bench.engine.measure import Measured, median
from tests.bench.engine.score import METRICS, Scores, Sign
from trimtab.catalogue.gpus import Processor


def table(suite: Suite, found: Scores, measured: Mapping[str, Sequence[Measured]], core: Processor) -> str:
    lines = [
        f"One core: {core.bandwidth / 1e9:.1f} GB/s, {core.bf16_flops / 1e9:.0f} GFLOP/s in bf16.",
        "",
        "| configuration, load | tokens/s: measured | before | after 3 | TTFT, ms: measured | after 3 "
        "| ITL p95, ms: measured | after 3 |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row, case in enumerate(suite.cases):
        true = {metric: median(measured[case.name], metric) for metric in METRICS}
        after = {metric: found.typical[metric][row] for metric in METRICS}
        lines.append(
            f"| {case.name} | {true['throughput']:.0f} | {found.before['throughput'][row]:.0f} "
            f"| {after['throughput']:.0f} | {true['ttft']:.0f} | {after['ttft']:.0f} "
            f"| {true['itl_p95']:.0f} | {after['itl_p95']:.0f} |"
        )
    lines += ["", "| knob | from, to | " + " | ".join(METRICS) + " |", "|---|---|---|---|---|"]
    for effect in suite.effects:
        cells = [next(s for s in found.signs if s.effect == effect and s.metric == metric) for metric in METRICS]
        lines.append(f"| {effect.knob} | {effect.old} -> {effect.new} | {' | '.join(map(_cell, cells))} |")
    return "\n".join([*lines, ""])


def _cell(sign: Sign) -> str:
    """Measured and predicted change; `within noise` is not counted."""
    both = f"{_change(sign.measured)}, {_change(sign.predicted)}"
    return f"{both}: {'within noise' if not sign.counts else 'right' if sign.right else 'WRONG'}"


def _change(log_ratio: float) -> str:
    return f"{100 * math.expm1(log_ratio):+.0f} %"
