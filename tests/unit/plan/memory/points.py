"""Points for the tests of the memory model."""

from __future__ import annotations

from typing import Any

from trimtab.catalogue import find_device
from trimtab.catalogue.models import ModelShape, find_model
from trimtab.plan.memory import DoesNotFit, Fits, fit
from trimtab.plan.point import Layout, ServingPoint

GIB = 1 << 30


def shape(name: str) -> ModelShape:
    found = find_model(name)
    assert found is not None, name
    return found


def point(model: str, gpu: str = "H100", *, tensor: int = 1, **fields: Any) -> ServingPoint:
    """A model on a GPU, in the format of its checkpoint and served by vLLM unless said otherwise."""
    found = shape(model)
    known: dict[str, Any] = {
        "engine": "vllm",
        "weights": found.native,
        "experts": found.native_experts,
        "layout": Layout(tensor=tensor),
    }
    return ServingPoint(model=found, device=find_device(gpu), **(known | fields))


def fits(asked: ServingPoint) -> Fits:
    result = fit(asked)
    assert isinstance(result, Fits), result
    return result


def refusal(asked: ServingPoint) -> str:
    result = fit(asked)
    assert isinstance(result, DoesNotFit), result
    return result.reason
