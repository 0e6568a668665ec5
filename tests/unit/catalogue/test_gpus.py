"""GPUs by the names that people and node labels give them."""

from __future__ import annotations

import pytest

from trimtab.catalogue import GPUS, find_device, find_gpu


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
