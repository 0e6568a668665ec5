"""The recording as a picture: memory with its fit, answers and latency, files and threads, all over time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tests.bench.soak.fit import Recording, slope


def draw(run: Recording, path: Path) -> None:
    """A PNG or an SVG, by the name."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(3, 1, figsize=(10, 9), sharex=True, layout="constrained")
    _memory(axes[0], run)
    minutes = np.asarray([one["minute"] + 0.5 for one in run.minutes])
    axes[1].plot(minutes, [one["succeeded"] / 60 for one in run.minutes], label="answers per second")
    axes[1].plot(minutes, [one["failed"] / 60 for one in run.minutes], label="failed per second")
    axes[1].set(ylabel="requests per second", ylim=(0, None))
    right = axes[1].twinx()
    right.plot(minutes, [one["ttft_ms"]["p95"] for one in run.minutes], color="tab:red", label="TTFT p95")
    right.set(ylabel="TTFT p95, ms", ylim=(0, None))
    times = [look.at / 60 for look in run.looks]
    axes[2].plot(times, [look.files for look in run.looks], label="open files")
    axes[2].plot(times, [look.threads for look in run.looks], label="threads")
    axes[2].set(xlabel="minutes", ylim=(0, None))
    for place in axes:
        place.axvspan(0, run.warm_up / 60, color="0.9")
        place.grid(alpha=0.3)
        place.legend(loc="lower right", fontsize="small")
    figure.suptitle(f"{run.engine}: {run.sent} requests at {run.rate:.1f} per second, 80 % of what it can")
    try:
        figure.savefig(path)
    finally:
        pyplot.close(figure)


def _memory(axes: Any, run: Recording) -> None:
    times = np.asarray([look.at for look in run.looks])
    held = np.asarray([look.total for look in run.looks]) / 1e6
    axes.plot(times / 60, held, ".", markersize=3, label="all processes")
    settled = run.settled
    x = np.asarray([look.at for look in settled])
    y = np.asarray([look.total for look in settled]) / 1e6
    rise = slope(x.tolist(), y.tolist())
    middle = float(np.median(y - rise * x))
    axes.plot(x / 60, middle + rise * x, label=f"{3600 * rise:+.2f} MB in an hour")
    axes.set(ylabel="memory, MB", ylim=(0, 1.2 * float(held.max())))
