"""`timeline.png`: throughput and TTFT over time, with the acts marked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt

from tests.e2e.demo.samples import Sample

_SHADES = {"Baseline": "#f2f2f2", "Act 1": "#e3f1e3", "Tuned": "#d2ead2", "Act 2": "#fbe8d3", "Act 3": "#f6dcdc"}


@dataclass(frozen=True, kw_only=True)
class Mark:
    """Something that happened at one moment."""

    at: float
    text: str


def stretches(samples: Sequence[Sample]) -> list[tuple[str, float, float]]:
    """(act, begin, end) of each stretch of samples with the same act; each ends where the next one begins."""
    found: list[tuple[str, float, float]] = []
    for sample in samples:
        if found:
            found[-1] = (*found[-1][:2], sample.at)
        if not found or found[-1][0] != sample.act:
            found.append((sample.act, sample.at, sample.at))
    return found


def draw(samples: Sequence[Sample], marks: Sequence[Mark], path: Path) -> None:
    """Writes the picture. Times are seconds since the first sample with load."""
    loaded = [sample for sample in samples if sample.load is not None]
    if not loaded:
        return
    zero = loaded[0].at
    at = [sample.at - zero for sample in loaded]
    rates = [sample.load.output_tokens_per_s for sample in loaded if sample.load]
    figure, (upper, lower) = plt.subplots(
        2, 1, sharex=True, figsize=(12, 7), height_ratios=(1, 1), layout="constrained"
    )
    upper.plot(at, rates, color="#1b6e3c", linewidth=1.8)
    upper.set_ylabel("output tokens per second")
    upper.set_ylim(bottom=0, top=1.5 * max(1.0, *rates))
    for name, colour, pick in (("p95", "#b3402a", "ttft_p95_ms"), ("p50", "#e0a030", "ttft_p50_ms")):
        values = [getattr(sample.load, pick) for sample in loaded]
        points = [(x, y / 1000) for x, y in zip(at, values, strict=True) if y is not None]
        lower.plot(*zip(*points, strict=True), label=f"TTFT {name}", color=colour, linewidth=1.5)
    lower.set_yscale("log")
    lower.set_ylabel("time to first token, seconds")
    lower.set_xlabel("seconds")
    lower.legend(loc="upper right")
    for act, begin, end in stretches(loaded):
        for axes in (upper, lower):
            axes.axvspan(begin - zero, end - zero, color=_SHADES.get(act.partition(":")[0], "#ffffff"), zorder=0)
        name = act.partition(":")[0]
        upper.annotate(name, ((begin + end) / 2 - zero, 1.0), xycoords=("data", "axes fraction"), ha="center",
                       va="bottom", fontsize=9)  # fmt: skip
    for index, mark in enumerate(sorted(marks, key=lambda mark: mark.at)):
        for axes in (upper, lower):
            axes.axvline(mark.at - zero, color="#555555", linewidth=0.8, linestyle=":")
        late = mark.at - zero > 0.85 * at[-1]
        upper.annotate(
            mark.text,
            (mark.at - zero, 0.97 - 0.06 * (index % 4)),
            xycoords=("data", "axes fraction"),
            fontsize=7.5,
            ha="right" if late else "left",
            va="top",
            xytext=(-2 if late else 2, 0),
            textcoords="offset points",
        )
    for axes in (upper, lower):
        axes.grid(visible=True, axis="y", linewidth=0.4)
        axes.set_xlim(0, at[-1] or 1)
    figure.savefig(path, dpi=110)
    plt.close(figure)
