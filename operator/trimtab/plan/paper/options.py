"""Every configuration that a plan on paper may choose: layouts, replicas, formats and limits, as far as they fit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

import numpy as np

from trimtab.catalogue.models.shape import Experts, Latent, ModelShape
from trimtab.model.config import KnobValue
from trimtab.plan.memory import DoesNotFit, fit
from trimtab.plan.paper.request import PaperError, PaperRequest
from trimtab.plan.point import Layout, ServingPoint, Traffic
from trimtab.plan.request import Bounds
from trimtab.plan.search.space import Axis, Space
from trimtab.plan.starting import starting

SEQUENCES: Final = (1, 2, 4, 8, 16, 32, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
BUDGETS: Final = (1024, 2048, 4096, 8192, 16384)
_NODES: Final = 2  # of one replica, at most


@dataclass(frozen=True, slots=True)
class Options:
    """The rows of `space` that fit, and the serving point and traffic of each."""

    space: Space
    points: tuple[ServingPoint, ...]
    traffic: tuple[Traffic, ...]
    replicas: tuple[int, ...]

    @property
    def count(self) -> int:
        return self.space.count


def native_formats(model: ModelShape) -> tuple[str, str]:
    """The formats of the checkpoint's own matrices and experts."""
    return model.native, model.native_experts or model.native


def smallest(request: PaperRequest) -> ServingPoint | None:
    """The engine's defaults in the layout with the fewest GPUs that the model fits into; None when there is none."""
    points = [point_of(request, layout, weights="native", cache="native") for layout in layouts(request)]
    fitting = [point for point in points if not isinstance(fit(point), DoesNotFit)]
    return min(fitting, key=lambda point: (point.layout.gpus, point.layout.pipeline, point.layout.data), default=None)


def why_nothing_fits(request: PaperRequest) -> str:
    """The sentence of the largest layout, which comes nearest."""
    found = layouts(request)
    if not found:
        return (
            f"The fixed knobs leave no layout of {request.gpus} GPUs or fewer. Free tensorParallelSize or raise gpus."
        )
    answer = fit(point_of(request, max(found, key=lambda layout: layout.gpus), weights="native", cache="native"))
    return answer.reason if isinstance(answer, DoesNotFit) else "The bounds of the knobs leave nothing that fits."


def layouts(request: PaperRequest) -> list[Layout]:
    """Tensor, pipeline, data and expert parallelism within the GPUs and the fixed knobs."""
    gpu = request.device.gpu
    per_node = gpu.gpus_per_node if gpu is not None else 1
    most = min(request.gpus, _NODES * per_node)
    mixture = any(isinstance(block.feed_forward, Experts) for block in request.model.blocks)
    latent = any(isinstance(block.attention, Latent) for block in request.model.blocks)
    # Pipelines pay between nodes and where tensor parallelism has no heads left; data-parallel attention where all
    # GPUs of a tensor-parallel group would hold the same cache.
    found = [
        Layout(tensor=tensor, pipeline=pipeline, data=data, expert=expert)
        for tensor in _powers(min(most, per_node))
        for pipeline in _powers(most // tensor)
        for data in (_powers(most // tensor // pipeline) if latent and pipeline == 1 else (1,))
        for expert in ((1, tensor * data) if mixture and tensor * data > 1 else (1,))
    ]
    return [layout for layout in found if _agrees(request, layout)]


def _powers(most: int) -> Iterator[int]:
    size = 1
    while size <= most:
        yield size
        size *= 2


def _agrees(request: PaperRequest, layout: Layout) -> bool:
    has = layout_knobs(layout)
    return all(request.fixed.get(knob, value) == value for knob, value in has.items()) and all(
        _within(value, request.bounds.get(knob)) for knob, value in has.items() if not isinstance(value, bool)
    )


def layout_knobs(layout: Layout) -> dict[str, KnobValue]:
    """The knobs that make a layout."""
    return {
        "tensorParallelSize": layout.tensor,
        "pipelineParallelSize": layout.pipeline,
        "dataParallelSize": layout.data,
        "enableExpertParallel": layout.expert > 1,
    }


def options(request: PaperRequest) -> Options:
    """All that fit; possibly none. Raises PaperError when a fixed knob or a bound leaves a knob without values."""
    found = layouts(request)
    if not found:
        return Options(Space((), np.zeros((0, 0), np.intp)), (), (), ())
    space = _space(request, found)
    configs = [space.config(row) for row in range(space.count)]
    replicas = tuple(int(config["replicas"]) for config in configs)
    return Options(
        space=space,
        points=tuple(_configured(request, found, config) for config in configs),
        traffic=tuple(shared(request.traffic, count) for count in replicas),
        replicas=replicas,
    )


def _space(request: PaperRequest, found: list[Layout]) -> Space:
    """Every combination within the GPUs that the engine would start with. `layout` is a position in `found`."""
    space = Space.of(
        (
            Axis("layout", tuple(range(len(found)))),
            Axis("replicas", tuple(_replicas(request, found))),
            Axis("weights", request.weights or ("native",)),
            Axis("kvCacheDtype", request.caches or ("native",)),
            Axis("maxNumSeqs", _values(request, "maxNumSeqs", SEQUENCES)),
            Axis("maxNumBatchedTokens", _values(request, "maxNumBatchedTokens", BUDGETS)),
        )
    )
    gpus = np.array([layout.gpus for layout in found])[space.choices("layout")] * space.numbers("replicas")
    space = space.where((gpus <= request.gpus) & (space.numbers("maxNumSeqs") <= space.numbers("maxNumBatchedTokens")))
    knobs = ("layout", "weights", "kvCacheDtype")
    return space.where(starting(space, knobs, lambda row: _unlimited(request, found, space.config(row))))


def _configured(request: PaperRequest, found: list[Layout], config: Mapping[str, KnobValue]) -> ServingPoint:
    """The serving point of one row."""
    sequences, tokens = int(config["maxNumSeqs"]), int(config["maxNumBatchedTokens"])
    return replace(_unlimited(request, found, config), max_num_seqs=sequences, max_num_batched_tokens=tokens)


def _unlimited(request: PaperRequest, found: list[Layout], config: Mapping[str, KnobValue]) -> ServingPoint:
    """The same with the engine's own limits of a batch."""
    return point_of(request, found[int(config["layout"])], str(config["weights"]), str(config["kvCacheDtype"]))


@lru_cache(maxsize=64)
def shared(traffic: Traffic, replicas: int) -> Traffic:
    """What one of `replicas` gets. Splitting a stream at random makes it more regular: Poisson stays Poisson."""
    return replace(
        traffic,
        concurrency=None if traffic.concurrency is None else max(1.0, traffic.concurrency / replicas),
        rate=None if traffic.rate is None else traffic.rate / replicas,
        burstiness=1.0 + (traffic.burstiness - 1.0) / replicas,
    )


def _replicas(request: PaperRequest, found: list[Layout]) -> list[int]:
    """Powers of two, and for each layout as many as there are GPUs for."""
    return sorted({request.gpus // layout.gpus for layout in found} | set(_powers(request.gpus)))


def _values(request: PaperRequest, knob: str, usual: tuple[int, ...]) -> tuple[int, ...]:
    fixed = request.fixed.get(knob)
    if isinstance(fixed, int) and not isinstance(fixed, bool):
        return (fixed,)
    bounds = request.bounds.get(knob)
    edges = {} if bounds is None else {bounds.minimum, bounds.maximum} - {None}
    values = sorted(value for value in {*usual, *edges} if value is not None and _within(value, bounds))
    if not values:
        raise PaperError(knob, "No value lies within its bounds. Widen them.")
    return tuple(values)


def _within(value: KnobValue, bounds: Bounds | None) -> bool:
    if bounds is None or not isinstance(value, int):
        return True
    low, high = bounds.minimum, bounds.maximum
    return (low is None or value >= low) and (high is None or value <= high)


def point_of(request: PaperRequest, layout: Layout, weights: str, cache: str) -> ServingPoint:
    """A replica with the engine's own limits; `native` formats are the checkpoint's."""
    own, experts = native_formats(request.model)
    chosen = (own, experts) if weights == "native" else (weights, weights)
    return ServingPoint(
        model=request.model,
        device=request.device,
        engine=request.engine,
        version=request.version,
        layout=layout,
        weights=chosen[0],
        experts=chosen[1],
        kv_cache="bf16" if cache == "native" else cache,
        max_model_len=request.max_model_len,
        memory_utilization=request.memory_utilization,
    )
