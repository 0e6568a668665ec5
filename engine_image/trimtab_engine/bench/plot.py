"""Results as a picture, by matplotlib: what the file's name ends with is what it becomes (PNG, SVG, PDF)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from trimtab_engine.bench.compare import tokens_by_second
from trimtab_engine.bench.result import Result

_TITLES = {"ttft": "Time to first token", "e2e": "Whole answer"}


def plot(results: Sequence[Result], path: Path) -> None:
    """Throughput over time, and how the latencies are distributed, of all scenarios of all results.

    Raises:
        ImportError: matplotlib is not installed (the extra `engine-bench`).
        ValueError: matplotlib does not know the file's ending.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 3, figsize=(15, 4.5), layout="constrained")
    for result in results:
        for scenario in result.scenarios:
            name = f"{result.label}, {scenario.name}"
            speeds = tokens_by_second(scenario)
            middles = (np.arange(len(speeds)) + 0.5) * scenario.seconds / len(speeds)
            axes[0].plot(middles, speeds, label=name)
            for place, kind in zip(axes[1:], _TITLES, strict=True):
                values = np.sort(scenario.latencies(kind))
                if len(values):
                    place.step(values, np.arange(1, len(values) + 1) / len(values), where="post", label=name)
    axes[0].set(xlabel="seconds", ylabel="output tokens per second", title="Throughput", ylim=(0, None))
    for place, title in zip(axes[1:], _TITLES.values(), strict=True):
        place.set(xlabel="seconds", ylabel="share of the requests", title=title, xscale="log", ylim=(0, 1))
    for place in axes:
        place.grid(alpha=0.3)
        if place.get_legend_handles_labels()[0]:
            place.legend(fontsize="small")
    try:
        figure.savefig(path)
    finally:
        pyplot.close(figure)
