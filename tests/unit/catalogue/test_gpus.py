"""GPUs by the names that people and node labels give them."""

from __future__ import annotations

import pytest

from trimtab.catalogue import GPUS, Device, Processor, find_device, find_gpu


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("H100", "H100-SXM"),
        ("NVIDIA-H100-80GB-HBM3", "H100-SXM"),
        ("NVIDIA H100 NVL", "H100-NVL"),
        ("NVIDIA-H100-PCIe", "H100-PCIe"),
        ("NVIDIA-A100-SXM4-40GB", "A100-SXM-40GB"),
        ("NVIDIA-A100-SXM4-80GB", "A100-SXM"),
        ("nvidia-l4", "L4"),
        ("Tesla-T4", "T4"),
        ("A10", "A10"),
        ("MI300X", "MI300X"),
        ("B300-SXM", "B300-SXM"),
        ("NVIDIA B300", "B300-SXM"),
        ("NVIDIA-GH200-480GB", "GH200"),
        ("AMD Instinct MI250", "MI250"),
    ],
)
def test_a_gpu_is_found_by_the_name_that_is_written_on_it(written: str, name: str) -> None:
    found = find_gpu(written)
    assert found is not None and found.name == name


def test_a_gpu_that_is_not_in_the_table_is_no_gpu_of_it_and_no_cpu_either() -> None:
    assert find_gpu("TPU-v5e") is None
    assert not find_device("TPU-v5e").cpu
    assert find_device("cpu").cpu and find_device("").cpu


def test_fp8_units_came_with_ada_and_hopper() -> None:
    with_fp8 = {name for name, gpu in GPUS.items() if gpu.supports_fp8}
    assert {"H100-SXM", "L4", "L40S", "B200-SXM", "MI300X"} <= with_fp8
    assert with_fp8.isdisjoint({"A100-SXM", "T4", "V100-SXM2", "A10"})


def test_every_row_names_its_source_and_has_plausible_figures() -> None:
    assert list(GPUS) == sorted(GPUS)
    for gpu in GPUS.values():
        assert gpu.source
        assert 10 * 2**30 <= gpu.memory_bytes <= 400 * 2**30
        assert 2e11 <= gpu.bandwidth <= 1e13
        assert 1.6e10 <= gpu.link_bandwidth <= 9e11
        assert 1 <= gpu.gpus_per_node <= gpu.linked_gpus
        assert gpu.link_bandwidth < gpu.bandwidth
        assert gpu.l2_bytes < gpu.memory_bytes / 50
        assert 70 <= gpu.power_watts <= 1400


def test_links_reach_beyond_the_node_only_in_a_rack() -> None:
    assert {name for name, gpu in GPUS.items() if gpu.linked_gpus > gpu.gpus_per_node} == {"GB200", "GB300"}


def test_no_peak_is_below_that_of_a_wider_format() -> None:
    for gpu in GPUS.values():
        rates = [rate for rate in (gpu.bf16_flops, gpu.fp8_flops, gpu.fp4_flops) if rate is not None]
        assert rates == sorted(rates)


def test_the_processor_of_a_cpu_is_what_a_person_measured() -> None:
    processor = Processor(cores=2, memory_bytes=8 * 2**30, bandwidth=2e10, bf16_flops=1e11)
    assert Device(cpu=True, processor=processor).processor == processor
    assert find_device("cpu").processor is None


@pytest.mark.parametrize(
    ("name", "mebibytes"), [("H100-SXM", 81559), ("H200-SXM", 143771), ("L40S", 46068), ("L4", 23034)]
)
def test_the_usable_memory_is_what_nvidia_smi_shows(name: str, mebibytes: int) -> None:
    assert GPUS[name].usable_bytes == pytest.approx(mebibytes * 2**20, rel=0.01)
