"""Kernel times: near the measurements they were condensed from, never faster than memory and matrix units allow."""

from __future__ import annotations

import numpy as np
import pytest

from tests.unit.plan.performance.cases import point
from trimtab.catalogue.gpus import GPUS, Device, Processor, find_device
from trimtab.plan.performance import kernels
from trimtab.plan.performance.curves import attentions
from trimtab.plan.performance.formats import FORMATS, peak_of, runs_as
from trimtab.plan.performance.hardware import TABLES, Hardware, hardware_of
from trimtab.plan.performance.tables import token_grid

SIZES = np.array([4096.0, 28672.0])
WIDTHS = np.array([4096.0, 4096.0])


def hardware(gpu: str) -> Hardware:
    return hardware_of(find_device(gpu))


@pytest.mark.parametrize("gpu", sorted(GPUS))
@pytest.mark.parametrize("form", ["bf16", "fp8", "fp8_block", "nvfp4", "int8_wo", "int4_wo", "mxfp4"])
def test_every_catalogued_gpu_has_matrix_times_that_respect_its_bandwidth_and_peak(gpu: str, form: str) -> None:
    own = hardware(gpu)
    times = kernels.gemm(own, form, SIZES, WIDTHS)
    used = runs_as(form, own)
    read = SIZES * WIDTHS * FORMATS[used].weight / own.bandwidth * 1e6
    work = 2e6 * token_grid()[:, None] * SIZES * WIDTHS / peak_of(used, own)
    assert np.all(times >= read) and np.all(times >= work * (1 - 1e-12))
    assert np.all(times < 200 * np.maximum(read, work) + 200)


def test_a_matrix_takes_about_what_was_measured() -> None:
    """H100, bf16, m 1, n 4096, k 4096 in gemm.parquet: the fastest engine takes 14 us; the 32 MiB need 10 us."""
    time = kernels.gemm(hardware("H100"), "bf16", np.array([4096.0]), np.array([4096.0]))[0, 0]
    assert 10.0 < time < 20.0


def test_a_format_that_the_gpu_cannot_compute_is_read_and_computed_in_bf16() -> None:
    assert runs_as("fp8", hardware("A100")) == "int8_wo"
    assert runs_as("nvfp4", hardware("H100")) == "int4_wo"
    assert runs_as("fp8", hardware("H100")) == "fp8"


@pytest.mark.parametrize("gpu", TABLES)
@pytest.mark.parametrize("model", ["meta-llama/Llama-3.1-8B", "deepseek-ai/DeepSeek-R1", "google/gemma-3-27b-it"])
def test_attention_never_falls_with_context_or_batch_and_grows_in_the_end(gpu: str, model: str) -> None:
    found = attentions(point(model).model, find_device(gpu), 1, "bf16")
    assert np.all(np.diff(found.decode, axis=0) >= 0) and np.all(np.diff(found.decode, axis=1) >= 0)
    assert found.decode[-1, -1] > 100 * found.decode[0, 0]
    assert np.all(np.diff(found.prefill) >= 0)


def test_latent_attention_reads_the_same_cache_however_the_heads_are_split() -> None:
    own, batch, context = hardware("H200"), np.array([64.0]), np.array([8192.0])
    floor = 64 * 8192 * 576 * 2 / own.bandwidth * 1e6
    for heads in (128, 16):
        assert kernels.latent_decode(own, "bf16", heads, batch, context)[0] >= floor


def test_experts_of_a_shape_that_was_not_measured_lie_between_their_neighbours() -> None:
    own, tokens = hardware("H100"), np.array([64.0])

    def time(inter: int) -> float:
        found = kernels.experts(own, "bf16", tokens, hidden=4096, inter=inter, count=128, topk=8, tp=1, ep=1)
        return float(found[0])

    assert time(1536) < time(1800) < time(3072)


def test_one_gpu_exchanges_nothing_and_slower_links_take_longer() -> None:
    size = np.array([1e4, 1e7])
    assert np.all(kernels.all_reduce(hardware("H100"), "vllm", 1, size) == 0)
    fast, slow = (kernels.all_reduce(hardware(gpu), "vllm", 4, size) for gpu in ("H100", "L4"))
    assert np.all(slow > fast)
    across = kernels.all_reduce(hardware("H100"), "vllm", 16, size)
    assert np.all(across > kernels.all_reduce(hardware("H100"), "vllm", 8, size))


def test_a_device_whose_rates_are_not_known_is_refused_with_the_way_out() -> None:
    with pytest.raises(ValueError, match="not in the catalogue"):
        hardware_of(find_device("Voodoo-2"))
    with pytest.raises(ValueError, match="bandwidth"):
        hardware_of(find_device("cpu"))
    known = Device(cpu=True, processor=Processor(cores=2, memory_bytes=1 << 33, bandwidth=3e10, bf16_flops=3e11))
    assert hardware_of(known).cpu
