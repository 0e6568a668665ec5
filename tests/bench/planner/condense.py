"""Condenses the kernel measurements into the table that ships with the package.

Source: github.com/ai-dynamo/aiconfigurator, commit 095f58a51c4ca8e61b66ec108d86f223f8d559ce (Apache-2.0, Copyright
NVIDIA CORPORATION & AFFILIATES), as tidied in the folder `kernels` of the shared data. What is stored: the natural
logarithm of measured over roofline time (`trimtab.plan.performance.roofline`), of the fastest engine at each key, as
float16. Rows that the data's own notes tell to distrust are left out here, each with the reason beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tests.bench.planner import cells
from trimtab.catalogue.gpus import find_device
from trimtab.plan.performance import roofline
from trimtab.plan.performance.formats import FORMATS, peak_of
from trimtab.plan.performance.hardware import TABLES, Hardware, hardware_of

Columns: TypeAlias = dict[str, NDArray[Any]]

M_GRID = (
    1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072,
    4096, 8192, 16384, 32768,
)  # fmt: skip
N_GRID = (
    32, 64, 128, 256, 512, 768, 1024, 1536, 2048, 2560, 3072, 3584, 4096, 5120, 6144, 7168, 8192, 10240, 12288, 16384,
    51200, 65536,
)  # fmt: skip
TOKENS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768)
PREFILL = (16, 32, 64, 128, 256, 512, 1024, 1536, 2048, 3072, 4096, 6144, 8192, 10240, 12288, 16384)
CONTEXT = tuple(2**i for i in range(1, 18))
MESSAGES = tuple(2**i for i in range(9, 30))
ENGINES = ("nccl", "sglang", "trtllm", "vllm")

# The data's names of formats, by ours.
GEMM = {
    "bf16": "bfloat16", "fp8": "fp8", "fp8_block": "fp8_block", "nvfp4": "nvfp4",
    "int8_wo": "int8_wo", "int4_wo": "int4_wo",
}  # fmt: skip
MOE = {
    "bf16": "bfloat16", "fp8": "fp8", "fp8_block": "fp8_block", "nvfp4": "nvfp4", "int4_wo": "int4_wo",
    "mxfp4": "w4a16_mxfp4", "mxfp4_mxfp8": "w4a8_mxfp4_mxfp8",
}  # fmt: skip


def condense(kernels: Path, out: Path) -> int:
    """Writes the table and returns its size in bytes. Same input, same bytes."""
    arrays: dict[str, NDArray[Any]] = {
        "m": np.array(M_GRID, np.float64),
        "n": np.array(N_GRID, np.float64),
        "tokens": np.array(TOKENS, np.float64),
        "prefill": np.array(PREFILL, np.float64),
        "context": np.array(CONTEXT, np.float64),
        "messages": np.array(MESSAGES, np.float64),
    }
    for gpu in TABLES:
        hardware = hardware_of(find_device(gpu))
        arrays |= _gemm(kernels, gpu, hardware)
        arrays |= _decode(kernels, gpu, hardware)
        arrays |= _prefill(kernels, gpu, hardware)
        arrays |= _latent(kernels, gpu, hardware)
        arrays |= _moe(kernels, gpu, hardware)
        arrays |= _collectives(kernels, gpu)
    out.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(out, **arrays)  # type: ignore[arg-type]  # stubs of numpy know no keyword arrays
    return out.stat().st_size


def _read(path: Path, gpu: str, **equal: str | int) -> Columns:
    table = pq.read_table(path)
    mask = pc.equal(table["gpu"].cast("string"), gpu)
    for column, value in equal.items():
        found = table[column].cast("string") if isinstance(value, str) else table[column]
        mask = pc.and_(mask, pc.equal(found, value))
    table = table.filter(mask)
    columns: Columns = {}
    for name in table.column_names:
        column = table[name]
        text = not (str(column.type).startswith(("int", "uint", "float", "double")))
        columns[name] = np.array(column.cast("string").to_pylist()) if text else column.to_numpy().astype(np.float64)
    return columns


def _pick(columns: Columns, keep: NDArray[np.bool_]) -> Columns:
    return {name: values[keep] for name, values in columns.items()}


def _gemm(kernels: Path, gpu: str, hardware: Hardware) -> Mapping[str, NDArray[Any]]:
    found: dict[str, NDArray[Any]] = {}
    for name, dtype in GEMM.items():
        rows = _read(kernels / "gemm.parquet", gpu, dtype=dtype)
        # vLLM's fp8_block timings hold host launch time.
        rows = _pick(rows, ~((rows["engine"] == "vllm") & (dtype == "fp8_block")))
        if not len(rows["m"]):
            continue
        grid = cells.smallest(rows, {"m": None, "n": N_GRID, "k": N_GRID}, "latency_us")
        every_m = np.unique(rows["m"])
        # A larger m may always be padded up to, so time never falls with m.
        grid = np.fmin.accumulate(grid[::-1], axis=0)[::-1]
        times = cells.resample(grid, every_m, np.array(M_GRID, np.float64))
        m, n, k = np.meshgrid(M_GRID, N_GRID, N_GRID, indexing="ij")
        kind = FORMATS[name]
        base = roofline.gemm_us(
            m.astype(float), n.astype(float), k.astype(float), weight=kind.weight, activation=kind.activation,
            flops=peak_of(name, hardware), bandwidth=hardware.bandwidth,
        )  # fmt: skip
        found[f"gemm/{gpu}/{name}"] = cells.filled(np.log(times / base)).astype(np.float16)
    return found


def _decode(kernels: Path, gpu: str, hardware: Hardware) -> Mapping[str, NDArray[Any]]:
    found: dict[str, NDArray[Any]] = {}
    for cache, bytes_ in (("bfloat16", 2.0), ("fp8", 1.0)):
        rows = _read(kernels / "attention_decode.parquet", gpu, kv_dtype=cache, window=0)
        if not len(rows["batch"]):
            continue
        read = rows["batch"] * (rows["kv_len"] + 1) * rows["num_kv_heads"] * rows["head_dim"] * 2 * bytes_
        # Physically impossible rows of this table.
        rows = _pick(rows, ~((gpu == "A100-SXM") & (rows["engine"] == "trtllm") & (read > 80e6)))
        rows = cells.fastest(rows, ("batch", "kv_len", "num_q_heads", "num_kv_heads", "head_dim"), "latency_us")
        group = rows["num_q_heads"] / rows["num_kv_heads"]
        base = roofline.decode_attention_us(
            rows["batch"], rows["kv_len"] + 1, rows["num_kv_heads"], group, cache=bytes_,
            head_dim=rows["head_dim"], hw=(hardware.bf16, hardware.bandwidth),
        )  # fmt: skip
        ratio = np.log(rows["latency_us"] / base)
        for head_dim in (64, 128, 256):
            keep = rows["head_dim"] == head_dim
            if keep.any():
                units = np.round(np.log2(rows["batch"] * rows["num_kv_heads"]))[keep]
                length = np.round(np.log2(rows["kv_len"] + 1))[keep] - 1
                by_group = np.digitize(group[keep], (2.0, 6.0, 12.0))
                cube = cells.median((units, length, by_group), (14, 17, 4), ratio[keep])
                found[f"decode/{gpu}/{'bf16' if bytes_ == 2 else 'fp8'}/{head_dim}"] = cells.filled(cube).astype(
                    np.float16
                )
    return found


def _prefill(kernels: Path, gpu: str, hardware: Hardware) -> Mapping[str, NDArray[Any]]:
    found: dict[str, NDArray[Any]] = {}
    rows = _read(kernels / "attention_prefill.parquet", gpu, dtype="bfloat16", window=0)
    rows = cells.fastest(rows, ("batch", "seq_len", "num_q_heads", "head_dim"), "latency_us")
    pairs = rows["batch"] * rows["seq_len"] * (rows["seq_len"] + 1) / 2
    base = roofline.prefill_attention_us(pairs, rows["num_q_heads"], head_dim=rows["head_dim"], flops=hardware.bf16)
    ratio = np.log(rows["latency_us"] / base)
    for head_dim in (64, 128, 256):
        keep = (rows["head_dim"] == head_dim) & (rows["seq_len"] >= PREFILL[0])
        if keep.any():
            units = np.round(np.log2(rows["batch"] * rows["num_q_heads"]))[keep]
            length = np.searchsorted(PREFILL, rows["seq_len"][keep])
            cube = cells.median((units, length), (13, len(PREFILL)), ratio[keep])
            found[f"prefill/{gpu}/{head_dim}"] = cells.filled(cube).astype(np.float16)
    return found


def _latent(kernels: Path, gpu: str, hardware: Hardware) -> Mapping[str, NDArray[Any]]:
    found: dict[str, NDArray[Any]] = {}
    for cache, bytes_ in (("bfloat16", 2.0), ("fp8", 1.0)):
        rows = _read(kernels / "mla_decode.parquet", gpu, kv_dtype=cache)
        if not len(rows["batch"]):
            continue
        rows = cells.fastest(rows, ("batch", "kv_len", "num_heads"), "latency_us")
        base = roofline.latent_decode_us(
            rows["batch"], rows["kv_len"] + 1, rows["num_heads"], cache=bytes_, hw=(hardware.bf16, hardware.bandwidth)
        )
        where = tuple(np.round(np.log2(rows[name] + (name == "kv_len"))) for name in ("num_heads", "batch", "kv_len"))
        cube = cells.median((where[0], where[1], where[2] - 1), (8, 11, 17), np.log(rows["latency_us"] / base))
        found[f"latent_decode/{gpu}/{'bf16' if bytes_ == 2 else 'fp8'}"] = cells.filled(cube).astype(np.float16)
    rows = _read(kernels / "mla_prefill.parquet", gpu)
    if len(rows["batch"]):
        rows = cells.fastest(rows, ("batch", "seq_len", "num_heads"), "latency_us")
        rows = _pick(rows, (rows["seq_len"] >= PREFILL[0]) & (rows["seq_len"] <= PREFILL[-1]))
        pairs = rows["batch"] * rows["seq_len"] * (rows["seq_len"] + 1) / 2
        ratio = np.log(rows["latency_us"] / roofline.latent_prefill_us(pairs, rows["num_heads"], flops=hardware.bf16))
        units = np.round(np.log2(rows["batch"] * rows["num_heads"]))
        cube = cells.median((units, np.searchsorted(PREFILL, rows["seq_len"])), (13, len(PREFILL)), ratio)
        found[f"latent_prefill/{gpu}"] = cells.filled(cube).astype(np.float16)
    return found


def _moe(kernels: Path, gpu: str, hardware: Hardware) -> Mapping[str, NDArray[Any]]:
    found: dict[str, NDArray[Any]] = {}
    for name, dtype in MOE.items():
        rows = _read(kernels / "moe.parquet", gpu, dtype=dtype)
        # Real routing is skewed; the min-latency kernel beats the memory bound; other activations are other models.
        skewed = np.char.startswith(rows["distribution"].astype(str), "power")
        odd = [word in ("moe_torch_flow_min_latency", "moe_torch_flow_nongated") for word in rows["kernel"]]
        keep = skewed & ~np.array(odd, bool)
        keep &= ~np.char.endswith(rows["kernel"].astype(str), "situ_as_silu")
        rows = _pick(rows, keep)
        if not len(rows["topk"]):
            continue
        for engine in ("", *ENGINES[1:]):
            own = rows if not engine else _pick(rows, rows["engine"] == engine)
            if len(own["topk"]):
                shapes, curves = _moe_curves(own, name, hardware)
                key = f"moe/{gpu}/{name}/{engine or 'best'}"
                found[f"{key}/shapes"], found[f"{key}/curves"] = shapes, curves
    return found


def _moe_curves(rows: Columns, form: str, hardware: Hardware) -> tuple[NDArray[np.int32], NDArray[np.float16]]:
    """One row per shape: the shape, and the logarithm of measured over roofline time at TOKENS."""
    shape = ("hidden_size", "inter_size", "num_experts", "topk", "moe_tp_size", "moe_ep_size")
    rows = cells.fastest(rows, (*shape, "distribution", "num_tokens"), "latency_us")
    keys, index = np.unique(np.stack([rows[c] for c in shape], 1), axis=0, return_inverse=True)
    kind, curves = FORMATS[form], []
    for number, key in enumerate(keys):
        own = _pick(rows, index.ravel() == number)
        every = np.unique(own["num_tokens"])
        times = np.array([np.exp(np.mean(np.log(own["latency_us"][own["num_tokens"] == t]))) for t in every])
        base = roofline.experts_us(
            np.array(TOKENS, float), hidden=key[0], inter=key[1], experts=key[2], topk=key[3], tp=key[4],
            ep=key[5], weight=kind.weight, activation=kind.activation, flops=peak_of(form, hardware),
            bandwidth=hardware.bandwidth,
        )  # fmt: skip
        curve = np.exp(np.interp(np.log(TOKENS), np.log(every), np.log(times)))
        curves.append(np.log(curve / base))
    return keys.astype(np.int32), np.array(curves).astype(np.float16)


def _collectives(kernels: Path, gpu: str) -> Mapping[str, NDArray[Any]]:
    """Microseconds over (engine, 2 / 4 / 8 GPUs, message bytes); NaN where nothing was measured."""
    reduce = np.full((len(ENGINES), 3, len(MESSAGES)), np.nan)
    rows = _read(kernels / "allreduce.parquet", gpu)
    rows = _pick(rows, (rows["mode"] != "eager") & (rows["dtype"] != "int8"))
    for e, engine in enumerate(ENGINES):
        for g, gpus in enumerate((2, 4, 8)):
            own = _pick(rows, (rows["engine"] == engine) & (rows["num_gpus"] == gpus))
            if len(own["num_gpus"]):
                reduce[e, g] = cells.along(own["message_bytes"], own["latency_us"], np.array(MESSAGES, float))
    others = np.full((3, 3, len(MESSAGES)), np.nan)
    rows = _read(kernels / "collectives.parquet", gpu, dtype="half")
    for c, kind in enumerate(("all_gather", "reduce_scatter", "all_to_all")):
        for g, gpus in enumerate((2, 4, 8)):
            own = _pick(rows, (rows["collective"] == kind) & (rows["num_gpus"] == gpus))
            if len(own["num_gpus"]):
                others[c, g] = cells.along(own["message_bytes"], own["latency_us"], np.array(MESSAGES, float))
    # A longer message may always be padded to, so time never falls with size.
    reduce, others = (np.fmin.accumulate(grid[..., ::-1], axis=-1)[..., ::-1] for grid in (reduce, others))
    return {
        f"allreduce/{gpu}": np.log(reduce).astype(np.float16),
        f"collectives/{gpu}": np.log(others).astype(np.float16),
    }
