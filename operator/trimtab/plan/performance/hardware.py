"""What a kernel's time depends on: peaks, bandwidth and links of one device, and the measured GPU it resembles.

Links: NVLink and Infinity Fabric rates per GPU and direction as the vendors publish them (NVIDIA H100, A100, HGX B200
and GB200 NVL72 data sheets; AMD CDNA 3 white paper); boards without them talk over PCIe.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from trimtab.catalogue.gpus import Device, Gpu

# A server CPU of two DDR5 channels' width per socket half, where nothing better is known: the order of magnitude of
# one socket of eight DDR4-3200 channels (8 x 25.6 GB/s) and of AVX-512 with bf16 on 32 cores.
_CPU_BANDWIDTH: Final = 150e9
_CPU_FLOPS: Final = 3e12

_NVLINK: Final = {"A100-SXM": 300e9, "A100-SXM-40GB": 300e9, "H100-SXM": 450e9, "H100-NVL": 300e9, "H200-SXM": 450e9}
_BLACKWELL_LINK: Final = 900e9
_FABRIC: Final = 448e9
_PCIE4: Final = 32e9
_PCIE5: Final = 64e9


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """Rates per second. `measured` names the GPU whose kernel tables stand for this one; `own`: they are its own."""

    name: str
    memory_bytes: int
    bandwidth: float
    bf16: float
    fp8: float | None
    int8: float | None
    fp4: float | None
    link: float
    node: int  # GPUs that the fast link joins
    measured: str
    own: bool
    cpu: bool = False

    def peak(self, unit: str) -> float | None:
        """Operations per second of a unit (`bf16`, `fp8`, `int8`, `fp4`), None where it does not exist."""
        return {"bf16": self.bf16, "fp8": self.fp8, "int8": self.int8, "fp4": self.fp4}[unit]


TABLES: Final = ("A100-SXM", "L40S", "H100-SXM", "H200-SXM", "B200-SXM", "GB200")


def hardware_of(device: Device) -> Hardware:
    """The rates of a device. Raises ValueError for a GPU that the catalogue does not know."""
    if device.cpu:
        return _cpu()
    if device.gpu is None:
        raise ValueError("The GPU is not in the catalogue; name one that is, or add a row to catalogue/gpus.py.")
    return _gpu(device.gpu)


def _gpu(gpu: Gpu) -> Hardware:
    # Where the catalogue holds no bf16 peak, fp16 units carry the work (T4: 65, V100: 125 Tera-operations/s).
    bf16 = gpu.bf16_flops or {70: 125e12, 75: 65e12}.get(gpu.compute_capability, gpu.bandwidth * 150)
    return Hardware(
        name=gpu.name,
        memory_bytes=gpu.memory_bytes,
        bandwidth=gpu.bandwidth,
        bf16=bf16,
        fp8=gpu.fp8_flops,
        int8=gpu.int8_ops,
        fp4=gpu.fp4_flops,
        link=_link(gpu),
        node=72 if gpu.name.startswith("GB") else 8,
        measured=gpu.name if gpu.name in TABLES else _resembles(gpu),
        own=gpu.name in TABLES,
    )


def _resembles(gpu: Gpu) -> str:
    capability = gpu.compute_capability
    if capability >= 100:
        return "B200-SXM"
    if capability >= 90 or capability == 0:
        return "H100-SXM"
    return "L40S" if capability in (86, 89) else "A100-SXM"


def _link(gpu: Gpu) -> float:
    if gpu.name in _NVLINK:
        return _NVLINK[gpu.name]
    if gpu.compute_capability >= 100:
        return _BLACKWELL_LINK
    if gpu.compute_capability == 0:
        return _FABRIC
    if gpu.name.startswith(("GH", "V100-SXM")):
        return _NVLINK["H100-SXM"] if gpu.name.startswith("GH") else 150e9
    return _PCIE5 if gpu.compute_capability >= 90 else _PCIE4


def _cpu() -> Hardware:
    return Hardware(
        name="cpu",
        memory_bytes=64 << 30,
        bandwidth=_CPU_BANDWIDTH,
        bf16=_CPU_FLOPS,
        fp8=None,
        int8=2 * _CPU_FLOPS,
        fp4=None,
        link=20e9,
        node=2,
        measured="A100-SXM",
        own=False,
        cpu=True,
    )
