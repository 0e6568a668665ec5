"""What a plan on paper looks like: tables for people, JSON for programs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from trimtab.model.plan import Effect
from trimtab.model.slo import LatencyTarget
from trimtab.model.wording import percent, seconds
from trimtab.plan.memory import Fits, limits_of
from trimtab.plan.paper import Figures, Infeasible, NothingFits, Option, PaperAnswer, PaperPlan, PaperRequest, Step
from trimtab.plan.paper.rejected import name_of
from trimtab.plan.point import ServingPoint, Traffic

__all__ = ["PaperPlan", "as_json", "figures_json", "console", "show", "show_point"]

_GIB = 1 << 30
_LEVELS = ("mean", "p50", "p95", "p99")


def console() -> Console:
    """Standard output, wide enough for the tables also where it is a file."""
    found = Console(highlight=False)
    return found if found.is_terminal else Console(highlight=False, width=150)


def show(console: Console, request: PaperRequest, answer: PaperAnswer) -> None:
    """The answer as a person reads it: the choice first, then how to get there, then what else there is."""
    console.print(f"{request.model.name} on {_device(request)}, {_load(request.traffic)}", style="bold")
    match answer:
        case NothingFits(message):
            console.print(message, soft_wrap=True)
        case Infeasible() as found:
            console.print(found.message, soft_wrap=True)
            console.print(_table([("nearest", found.nearest), *(("", option) for option in found.front)], request))
        case PaperPlan() as found:
            _show_plan(console, request, found)


def _show_plan(console: Console, request: PaperRequest, found: PaperPlan) -> None:
    rows = [("chosen", found.chosen)]
    rows += [("defaults", found.start)] if found.start is not None else []
    rows += [("", option) for option in found.front if option != found.chosen]
    console.print(_table(rows, request))
    console.print(
        f"{found.considered:,} configurations fit; the unnamed ones are the best trade-offs among them.", soft_wrap=True
    )
    for line in _steps(found.steps):
        console.print(line, soft_wrap=True)
    for item in found.rejected:
        console.print(f"rejected: {item.title}: {item.reason}", soft_wrap=True)


def _table(rows: Iterable[tuple[str, Option]], request: PaperRequest) -> Table:
    table = Table(
        box=SIMPLE,
        caption="formats: weights/KV cache; limits: maxNumSeqs/maxNumBatchedTokens; tokens/s: output, of all, per GPU, "
        "per user; latencies: prediction (bound that the SLO is held against).",
    )
    shown = request.targets or (LatencyTarget.parse("ttft.p95=1s"), LatencyTarget.parse("itl.p95=1s"))
    columns = ["", "layout", "formats", "limits", "tokens/s", "per GPU", "per user"]
    columns += [target.name for target in shown]
    columns += ["KV use", "SLO"] + (["per 1M tokens"] if request.price is not None else [])
    for column in columns:
        left = column in ("", "layout", "formats")
        table.add_column(column, justify="left" if left else "right", no_wrap=True)
    for label, option in rows:
        cells = [*_cells(label, option), *(_latency(option.figures, target.name) for target in shown)]
        cells += [percent(option.figures.kv_use), _met(option)]
        if request.price is not None:
            cells.append("" if option.price is None else f"{option.price:.2f}")
        table.add_row(*cells, style="bold" if label == "chosen" else None)
    return table


def _cells(label: str, option: Option) -> Iterator[str]:
    point, figures = option.point, option.figures
    yield label
    yield f"{option.replicas} x {name_of(point.layout)}"
    yield f"{point.weights}/{point.kv_cache}"
    limits = limits_of(point)
    yield f"{float(limits.sequences):.0f}/{float(limits.step_tokens):.0f}"
    yield f"{figures.throughput:,.0f}"
    yield f"{option.throughput_per_gpu:,.0f}"
    yield f"{option.tokens_per_user:.0f}"


def _met(option: Option) -> str:
    if option.figures.saturated:
        return "saturated"
    return "met" if option.meets else "not met"


def _latency(figures: Figures, name: str) -> str:
    return f"{seconds(figures.latencies[name])} ({seconds(figures.bounds[name])})"


def _steps(steps: Iterable[Step]) -> Iterator[str]:
    for number, step in enumerate(steps, start=1):
        changes = ", ".join(f"{knob} {old} -> {new}" for knob, (old, new) in step.changes.items())
        yield f"{number}. {step.title}: {changes}"
        yield "   " + ", ".join(_effect(effect) for effect in step.effects)


def _effect(effect: Effect) -> str:
    return f"{effect.metric.value} x {effect.ratio:.2f} ({effect.low:.2f} to {effect.high:.2f})"


def _device(request: PaperRequest) -> str:
    gpu = request.device.gpu
    return f"up to {request.gpus} x {gpu.name if gpu is not None else 'CPU'}"


def _load(traffic: Traffic) -> str:
    lengths = f"{traffic.prompt:g} tokens in, {traffic.output:g} out"
    if traffic.rate is not None:
        return f"{traffic.rate:g} requests/s, {lengths}"
    return f"{traffic.concurrency:g} clients, {lengths}"


def show_point(console: Console, point: ServingPoint, traffic: Traffic, room: Fits, figures: Figures) -> None:
    """One configuration: its memory, its load, its latencies."""
    gpu = point.device.gpu
    on = gpu.name if gpu is not None else "CPU"
    console.print(f"{point.model.name}, {name_of(point.layout)} on {on}, {_load(traffic)}", style="bold")
    console.print(
        f"Memory per GPU: weights {room.weights_bytes / _GIB:.1f} GiB, KV cache {room.kv_bytes / _GIB:.1f} GiB, "
        f"activations {room.activation_bytes / _GIB:.1f} GiB, reserve {room.reserve_bytes / _GIB:.1f} GiB. "
        f"The cache holds {room.kv_tokens:,} tokens, "
        f"{room.max_concurrency(traffic.prompt, traffic.output):.0f} requests of these lengths at once.",
        soft_wrap=True,
    )
    if figures.saturated:
        console.print(f"Saturated: at most {figures.most_requests:.3g} requests per second are served.")
    low, high = figures.throughput_interval
    console.print(
        f"{figures.throughput:,.0f} output tokens per second (90 %: {low:,.0f} to {high:,.0f}), "
        f"{figures.running:.1f} sequences run, {percent(figures.kv_use)} of the KV cache is used.",
        soft_wrap=True,
    )
    table = Table(box=SIMPLE, caption="Prediction, and the bound that an SLO is held against.")
    for column in ("", *_LEVELS):
        table.add_column(column, justify="right")
    for metric in ("ttft", "itl", "e2e"):
        table.add_row(metric, *(_latency(figures, f"{metric}.{level}") for level in _LEVELS))
    console.print(table)


def as_json(answer: PaperAnswer) -> dict[str, Any]:
    """The answer for programs; latencies in seconds."""
    match answer:
        case NothingFits(message):
            return {"answer": "NothingFits", "message": message}
        case Infeasible() as found:
            return {
                "answer": "Infeasible",
                "message": found.message,
                "reachable": dict(found.reachable),
                "nearest": _option_json(found.nearest),
                "front": [_option_json(option) for option in found.front],
                "considered": found.considered,
            }
        case PaperPlan() as found:
            return {
                "answer": "Plan",
                "chosen": _option_json(found.chosen),
                "start": _option_json(found.start) if found.start is not None else None,
                "steps": [_step_json(step) for step in found.steps],
                "front": [_option_json(option) for option in found.front],
                "rejected": [asdict(item) for item in found.rejected],
                "considered": found.considered,
            }


def _step_json(step: Step) -> dict[str, Any]:
    return {
        "title": step.title,
        "changes": {knob: {"from": old, "to": new} for knob, (old, new) in step.changes.items()},
        "effects": [{**asdict(effect), "metric": effect.metric.value} for effect in step.effects],
    }


def _option_json(option: Option) -> dict[str, Any]:
    return {
        "replicas": option.replicas,
        "gpus": option.gpus,
        "layout": asdict(option.point.layout),
        "weights": option.point.weights,
        "kvCache": option.point.kv_cache,
        "config": dict(option.config),
        "meetsSlo": option.meets,
        "pricePerMillionTokens": option.price,
        "throughputPerGpu": option.throughput_per_gpu,
        **figures_json(option.figures),
    }


def figures_json(figures: Figures) -> dict[str, Any]:
    """The predictions of one option; a figure that is not finite (saturated) is null."""
    return {
        "latencies": {name: _finite(value) for name, value in figures.latencies.items()},
        "bounds": {name: _finite(value) for name, value in figures.bounds.items()},
        "throughput": figures.throughput,
        "throughputInterval": [_finite(value) for value in figures.throughput_interval],
        "kvUse": figures.kv_use,
        "running": figures.running,
        "saturated": figures.saturated,
        "mostRequestsPerSecond": _finite(figures.most_requests),
    }


def _finite(value: float) -> float | None:
    return value if value == value and abs(value) != float("inf") else None
