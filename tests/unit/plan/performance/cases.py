"""Points that the tests of the performance model ask about."""

from __future__ import annotations

from dataclasses import replace

from trimtab.catalogue.gpus import find_device
from trimtab.catalogue.models import find_model
from trimtab.plan.point import Layout, ServingPoint, Traffic


def point(
    model: str = "meta-llama/Llama-3.1-8B", gpu: str = "H100", engine: str = "vllm", tensor: int = 1, **fields: object
) -> ServingPoint:
    shape = find_model(model)
    assert shape is not None, model
    plain = ServingPoint(model=shape, device=find_device(gpu), engine=engine, layout=Layout(tensor=tensor))
    return replace(plain, **fields)  # type: ignore[arg-type]


def closed(concurrency: float, prompt: float = 1024, output: float = 256, **fields: float) -> Traffic:
    return Traffic(
        prompt=prompt, output=output, concurrency=concurrency, prompt_variation=0.1, output_variation=0.1, **fields
    )


def opened(rate: float, prompt: float = 1024, output: float = 256, **fields: float) -> Traffic:
    return Traffic(prompt=prompt, output=output, rate=rate, prompt_variation=0.1, output_variation=0.1, **fields)
