"""The Pareto plot: speed per user against throughput per GPU, the usual picture of a serving trade-off."""

from __future__ import annotations

from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from trimtab.plan.paper import Infeasible, Option, PaperAnswer, PaperPlan, PaperRequest
from trimtab.plan.paper.rejected import name_of
from trimtab.plan.paper.sweep import sweep


def write(request: PaperRequest, answer: PaperAnswer, path: Path) -> None:
    """A curve per layout and format over the number of clients, the front of all of them, and the answer's options."""
    figure = Figure(figsize=(9, 6), layout="constrained")
    axes = figure.subplots()
    curves = sweep(request)
    axes.set_prop_cycle(color=matplotlib.colormaps["tab20"].colors)  # type: ignore[attr-defined]
    for curve in curves:
        axes.plot(curve.speeds, curve.throughputs, lw=1, alpha=0.6, label=curve.name)
    for label, option, marker in _marked(answer):
        point = (option.tokens_per_user, option.throughput_per_gpu)
        axes.plot(*point, marker, ms=12, color="black", fillstyle="none" if label != "chosen" else "full")
        axes.annotate(
            f"{label}: {option.replicas} x {name_of(option.point.layout)}", point, (8, 8), textcoords="offset points"
        )
    for target in request.targets:
        if target.metric.value == "itl":
            axes.axvline(1.0 / target.seconds, ls="--", lw=1, color="grey")
            axes.annotate(
                f"{target.name} {target.seconds * 1e3:g} ms", (1.0 / target.seconds, 1.0), rotation=90, va="bottom"
            )
    axes.set_xlabel("speed per user, output tokens per second")
    axes.set_ylabel("throughput, output tokens per second and GPU")
    axes.set_yscale("log")
    gpu = request.device.gpu
    axes.set_title(
        f"{request.model.name} on {gpu.name if gpu is not None else 'CPU'}, "
        f"{request.traffic.prompt:g} tokens in, {request.traffic.output:g} out"
    )
    axes.legend(fontsize=8)
    axes.grid(alpha=0.3)
    figure.savefig(path)


def _marked(answer: PaperAnswer) -> list[tuple[str, Option, str]]:
    match answer:
        case PaperPlan() as plan:
            rows = [("chosen", plan.chosen, "*")]
            return rows if plan.start is None else [*rows, ("defaults", plan.start, "o")]
        case Infeasible() as found:
            return [("nearest", found.nearest, "X")]
        case _:
            return []
