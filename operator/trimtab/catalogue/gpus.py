"""GPUs: memory, bandwidth and dense peak rates, as their vendors publish them.

Source: the data sheet named in each row. Peaks are dense (no structured sparsity). `compute_capability` is NVIDIA's,
times ten (90: Hopper); 0 for others. Rates in bytes/s and operations/s, memory in bytes as printed on the data sheet.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

GIB: Final = 1 << 30
_T: Final = 10**12
_G: Final = 10**9


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One GPU. A peak of None: the unit does not exist there."""

    name: str
    memory_bytes: int
    bandwidth: float
    bf16_flops: float | None
    fp8_flops: float | None
    int8_ops: float | None
    compute_capability: int
    source: str
    fp4_flops: float | None = None

    @property
    def supports_fp8(self) -> bool:
        """fp8 matrix units."""
        return self.fp8_flops is not None


def _row(
    name: str,
    memory_gib: int,
    bandwidth_gb: float,
    peaks: tuple[float | None, float | None, float | None, float | None],
    capability: int,
    source: str,
) -> Gpu:
    """Memory in GiB, bandwidth in GB/s, peaks (bf16, fp8, int8, fp4) in Tera-operations/s."""
    bf16, fp8, int8, fp4 = (None if peak is None else peak * _T for peak in peaks)
    return Gpu(
        name=name,
        memory_bytes=memory_gib * GIB,
        bandwidth=bandwidth_gb * _G,
        bf16_flops=bf16,
        fp8_flops=fp8,
        int8_ops=int8,
        fp4_flops=fp4,
        compute_capability=capability,
        source=source,
    )


_NVIDIA = "NVIDIA data sheet"

_ROWS: tuple[Gpu, ...] = (
    _row("A10", 24, 600, (125, None, 250, None), 86, f"{_NVIDIA} A10"),
    _row("A100-PCIe-40GB", 40, 1555, (312, None, 624, None), 80, f"{_NVIDIA} A100"),
    _row("A100-PCIe-80GB", 80, 1935, (312, None, 624, None), 80, f"{_NVIDIA} A100"),
    _row("A100-SXM-40GB", 40, 1555, (312, None, 624, None), 80, f"{_NVIDIA} A100"),
    _row("A100-SXM", 80, 2039, (312, None, 624, None), 80, f"{_NVIDIA} A100"),
    _row("A40", 48, 696, (149.7, None, 299.3, None), 86, f"{_NVIDIA} A40"),
    _row("B200-SXM", 180, 7700, (2250, 4500, 4500, 9000), 100, f"{_NVIDIA} HGX B200"),
    _row("GB200", 185, 8000, (2500, 5000, 5000, 10000), 100, f"{_NVIDIA} GB200 NVL72"),
    _row("H100-NVL", 94, 3900, (835.5, 1670.5, 1670.5, None), 90, f"{_NVIDIA} H100"),
    _row("H100-PCIe", 80, 2000, (756, 1513, 1513, None), 90, f"{_NVIDIA} H100"),
    _row("H100-SXM", 80, 3350, (989, 1978, 1978, None), 90, f"{_NVIDIA} H100"),
    _row("H200-SXM", 141, 4800, (989, 1978, 1978, None), 90, f"{_NVIDIA} H200"),
    _row("L4", 24, 300, (121, 242.5, 242.5, None), 89, f"{_NVIDIA} L4"),
    _row("L40S", 48, 864, (362.05, 733, 733, None), 89, f"{_NVIDIA} L40S"),
    _row("MI300X", 192, 5300, (1307.4, 2614.9, 2614.9, None), 0, "AMD data sheet Instinct MI300X"),
    _row("MI325X", 256, 6000, (1307.4, 2614.9, 2614.9, None), 0, "AMD data sheet Instinct MI325X"),
    _row("T4", 16, 320, (None, None, 130, None), 75, f"{_NVIDIA} T4"),
    _row("V100-SXM2", 32, 900, (None, None, None, None), 70, f"{_NVIDIA} V100"),
)

GPUS: Final = MappingProxyType({gpu.name: gpu for gpu in sorted(_ROWS, key=lambda gpu: gpu.name)})


@dataclass(frozen=True, slots=True)
class Device:
    """What an engine runs on: a CPU, or a GPU that may not be in the table."""

    cpu: bool
    gpu: Gpu | None = None

    @property
    def supports_fp8(self) -> bool:
        return self.gpu is not None and self.gpu.supports_fp8


def find_device(text: str) -> Device:
    """`cpu` or empty is a CPU; anything else is a GPU, known or not."""
    return Device(cpu=True) if text.strip().lower() in ("", "cpu") else Device(cpu=False, gpu=find_gpu(text))


# The name that people write for the variant that clouds mostly mean by it.
_SHORT: Final = {"A100": "A100-SXM", "H100": "H100-SXM", "H200": "H200-SXM", "B200": "B200-SXM", "V100": "V100-SXM2"}


def find_gpu(text: str) -> Gpu | None:
    """The GPU that `text` names, as a person or a node label writes it: `H100`, `NVIDIA-H100-80GB-HBM3`, `nvidia-l4`.

    None when it is not in the table.
    """
    words = [re.sub(r"^SXM\d$", "SXM", word) for word in re.split(r"[^A-Z0-9]+", text.upper()) if word]
    exact = {_key(name): gpu for name, gpu in GPUS.items()} | {_key(s): GPUS[full] for s, full in _SHORT.items()}
    whole = exact.get("".join(word for word in words if word not in ("NVIDIA", "AMD")))
    if whole is not None:
        return whole
    model = next((word for word in words if word in exact), None)
    if model is None:
        return None
    variants = [
        gpu
        for gpu in GPUS.values()
        if _parts(gpu.name)[0] == model and all(part in words for part in _parts(gpu.name)[1:])
    ]
    return max(variants, key=lambda gpu: len(_parts(gpu.name)), default=exact[model])


def _key(name: str) -> str:
    return re.sub(r"[^A-Z0-9]", "", name.upper())


def _parts(name: str) -> list[str]:
    return name.upper().split("-")
