"""The static-batch measurements: all prompts of a batch are prefilled together, then decoded in step to the end.

Source: argonne-lcf/LLM-Inference-Bench (BSD-3-Clause, arXiv 2411.00136): vLLM and TensorRT-LLM of 2024.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from tests.bench.planner.report import Result, results
from tests.bench.planner.spreads import UPPER, quantile, spread, weights
from trimtab.catalogue.gpus import find_device
from trimtab.catalogue.models import find_model
from trimtab.plan.performance.batch import Batch, batch_of
from trimtab.plan.performance.closed_loop import room
from trimtab.plan.performance.coefficients import Coefficients, Spread
from trimtab.plan.performance.roofline import Floats
from trimtab.plan.performance.step import Steps
from trimtab.plan.point import Layout, ServingPoint, Traffic

# Where the study ran: Polaris (A100-SXM with 40 GB), JLSE's H100 and AMD nodes.
_GPUS = {"A100": "A100-SXM-40GB", "H100": "H100-SXM"}
# The study names no versions; its year's are these.
_ENGINES = {"vLLM": ("vllm", "0.6.0"), "TensorRT-LLM": ("trtllm", "0.12.0")}
_FORMATS = {"fp16": "bf16", "fp8": "fp8", "int8": "int8_wo"}
_TOKENS_PER_STEP = 8192.0
# What is fitted on these measurements, with the prior's width in log space: versions of 2024, which no other row has.
_WIDTHS = {"early_rocm": 0.5, "early_step": 0.5, "early_sequence": 0.5}
_ERROR = 0.15
_INDEPENDENT = 40.0


@dataclass(frozen=True)
class Static:
    """Rows that the catalogue can describe, `skipped` are the others. Latencies in seconds."""

    batch: Batch
    admitted: Floats
    measured: Floats
    group: NDArray[np.str_]
    skipped: int

    def predict(self, coefficients: Coefficients) -> Floats:
        """From the batch's start to its last token. What the KV cache does not hold at once runs in waves."""
        batch, steps, shared = self.batch, Steps(self.batch, coefficients), coefficients.shared
        running = np.minimum(batch.clients, self.admitted)
        tokens = running * batch.prompt
        chunk = np.minimum(tokens, _TOKENS_PER_STEP)
        prefill = tokens / chunk * (shared.prefill_gemm * steps.curves.linear_ms(chunk) + shared.prefill_step)
        prefill = (prefill + running * steps.curves.prefill_ms(batch.prompt)) / steps.groups
        decode = batch.output * steps.decode(running, batch.prompt + batch.output / 2.0)
        return batch.clients / running * (prefill + decode) / 1e3


def static(rows: Sequence[Mapping[str, str]]) -> Static:
    cases = [(row, *case) for row in rows if (case := _case(row)) is not None]
    batch = batch_of([point for _, point, _ in cases], [load for _, _, load in cases])
    return Static(
        batch=batch,
        admitted=room(batch).admitted,
        measured=np.array([float(row["latency_s"]) for row, _, _ in cases]),
        group=np.array([f"{row['model']}|{row['gpu']}" for row, _, _ in cases]),
        skipped=len(rows) - len(cases),
    )


def _case(row: Mapping[str, str]) -> tuple[ServingPoint, Traffic] | None:
    """None for what the catalogue does not describe: a GPU, a model, or a hybrid layout that is not spelt out."""
    device, model = find_device(_GPUS.get(row["gpu"], row["gpu"])), find_model(row["model"])
    layout = _layout(row["parallelism"], int(row["num_gpus"]))
    if device.gpu is None or model is None or layout is None:
        return None
    engine, version = _ENGINES[row["engine"]]
    weights, cache = (part.split("=")[1].strip() for part in row["dtype"].split(","))
    point = ServingPoint(
        model=model,
        device=device,
        engine=engine,
        version=version,
        layout=layout,
        weights=_FORMATS[weights],
        kv_cache="bf16" if cache == "fp16" else "fp8",
        max_model_len=8192,
    )
    traffic = Traffic(prompt=float(row["isl"]), output=float(row["osl"]), concurrency=float(row["batch_size"]))
    return point, traffic


def _layout(text: str, gpus: int) -> Layout | None:
    if text in ("Tensor Parallelism", "TP"):
        return Layout(tensor=gpus)
    if text in ("Pipeline Parallelism", "PP"):
        return Layout(pipeline=gpus)
    if text == "EP":
        return Layout(tensor=gpus, expert=gpus)
    if text.startswith(("Hybird Tensor (2) and Pipeline (2)", "Hybrid TP = 2 and PP = 2")):
        return Layout(tensor=2, pipeline=2)
    return Layout(tensor=4, expert=2) if text == "Hybrid TP = 2 and EP = 2" else None


def fit_static(data: Static, base: Coefficients, keep: NDArray[np.bool_]) -> Coefficients:
    """`base` with the coefficients of early versions fitted to rows `keep`; a soft absolute loss on log errors."""
    prior, widths = base.shared, np.array(list(_WIDTHS.values()))

    def at(z: Floats) -> Coefficients:
        ratio = np.exp(z * widths)
        found = {name: getattr(prior, name) * float(r) for name, r in zip(_WIDTHS, ratio, strict=True)}
        return replace(base, shared=replace(prior, **found))

    def residuals(z: Floats) -> Floats:
        error = np.log(data.predict(at(z)) / data.measured)[keep] / _ERROR
        soft = np.sign(error) * np.sqrt(2.0 * (np.sqrt(1.0 + error * error) - 1.0))
        return np.concatenate([soft, z * np.sqrt(len(error) / _INDEPENDENT)])

    return at(least_squares(residuals, np.zeros(len(widths)), diff_step=1e-2, max_nfev=8).x)


def left_out_static(data: Static, base: Coefficients) -> Floats:
    """Seconds predicted for each (model, GPU) with coefficients of early versions fitted on the others."""
    predicted = np.empty_like(data.measured)
    for group in sorted(set(data.group)):
        out = data.group == group
        predicted[out] = data.predict(fit_static(data, base, ~out))[out]
    return predicted


def far_spreads(data: Static, base: Coefficients) -> dict[str, Spread]:
    """Widths for devices far from any that kernels were measured on, from the left-out rows of such devices."""
    error = np.log(data.measured / left_out_static(data, base))
    far = np.array([variant.kind == "far" for variant in data.batch.variants])[data.batch.of]
    weight = weights(data.group[far])
    # A static batch's latency is mostly decoding; first tokens are taken to err as much.
    own = spread(error[far], weight, quantile(error[far], weight, UPPER))
    return {"far/tpot": own, "far/ttft": own}


def static_accuracy(rows: Sequence[Mapping[str, str]], coefficients: Coefficients) -> list[Result]:
    data = static(rows)
    error = np.abs(left_out_static(data, coefficients) / data.measured - 1.0)
    near = np.array([variant.kind != "far" for variant in data.batch.variants])[data.batch.of]
    return results(
        ("static batch latency error, median", 100 * float(np.median(error)), "%", None),
        ("static batch latency error, mean", 100 * float(error.mean()), "%", None),
        ("static batch latency error, p90", 100 * float(np.percentile(error, 90)), "%", None),
        ("static batch latency error on A100, H100 and GH200, median", 100 * float(np.median(error[near])), "%", None),
        ("static batch rows that the catalogue does not describe", data.skipped, "", None),
    )
