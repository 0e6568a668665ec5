"""What a kernel's time depends on: peaks, bandwidth and links of one device, and the measured GPU it resembles."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from trimtab.catalogue.gpus import Device, Gpu, Processor


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """Rates per second. `measured` names the GPU whose kernel tables stand for this one.

    `near`: that one has the same architecture, or is this one.
    """

    name: str
    bandwidth: float
    bf16: float
    fp8: float | None
    int8: float | None
    fp4: float | None
    link: float
    linked: int  # GPUs that the fast link joins
    measured: str
    near: bool
    cpu: bool = False

    def peak(self, unit: str) -> float | None:
        """Operations per second of a unit (`bf16`, `fp8`, `int8`, `fp4`), None where it does not exist."""
        return {"bf16": self.bf16, "fp8": self.fp8, "int8": self.int8, "fp4": self.fp4}[unit]


TABLES: Final = ("A100-SXM", "L40S", "H100-SXM", "H200-SXM", "B200-SXM", "GB200")

# Matrix units that know fp16 but not bf16, operations/s: NVIDIA data sheets V100 and T4.
_HALF: Final = {70: 125e12, 75: 65e12}


@lru_cache(maxsize=64)
def hardware_of(device: Device) -> Hardware:
    """The rates of a device. Raises ValueError, with the way out, for one of which the rates are not known."""
    if device.cpu:
        if device.processor is None:
            raise ValueError("The CPU's figures are not known: give its bandwidth and bf16 operations per second.")
        return _cpu(device.processor)
    if device.gpu is None:
        raise ValueError("The GPU is not in the catalogue; name one that is, or add a row to catalogue/gpus.py.")
    return _gpu(device.gpu)


def _gpu(gpu: Gpu) -> Hardware:
    bf16 = gpu.bf16_flops or _HALF.get(gpu.compute_capability)
    if bf16 is None:
        raise ValueError(f"The catalogue has no bf16 or fp16 peak of {gpu.name}.")
    return Hardware(
        name=gpu.name,
        bandwidth=gpu.bandwidth,
        bf16=bf16,
        fp8=gpu.fp8_flops,
        int8=gpu.int8_ops,
        fp4=gpu.fp4_flops,
        link=gpu.link_bandwidth,
        linked=gpu.linked_gpus,
        measured=gpu.name if gpu.name in TABLES else _resembles(gpu),
        near=gpu.compute_capability in (80, 89, 90) or gpu.compute_capability >= 100,
    )


def _resembles(gpu: Gpu) -> str:
    capability = gpu.compute_capability
    if capability >= 100:
        return "B200-SXM"
    if capability >= 90 or capability == 0:
        return "H100-SXM"
    return "L40S" if capability in (86, 89) else "A100-SXM"


def _cpu(processor: Processor) -> Hardware:
    return Hardware(
        name="cpu",
        bandwidth=processor.bandwidth,
        bf16=processor.bf16_flops,
        fp8=None,
        int8=2 * processor.bf16_flops,
        fp4=None,
        link=processor.bandwidth,
        linked=1,
        measured="A100-SXM",
        near=False,
        cpu=True,
    )
