"""GPUs: memory, bandwidth, dense peak rates and links, as their vendors publish them.

Source: the data sheet named in each row. Peaks are dense (no structured sparsity). `compute_capability` is NVIDIA's,
times ten (90: Hopper); 0 for others. Rates in bytes/s and operations/s, memory in bytes as printed on the data sheet.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

GIB: Final = 1 << 30
_MIB: Final = 1 << 20
_T: Final = 10**12
_G: Final = 10**9


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One GPU, as engines and Kubernetes count them. A peak of None: the unit does not exist there.

    `link_bandwidth` is what one GPU sends to the others of its node at most, one way: NVLink, Infinity Fabric, or PCIe
    where there is neither. (Bridges that pair PCIe cards are not counted.) `linked_gpus` are joined that way: those of
    one node, or of a rack. `l2_bytes` is the last cache before the memory, `power_watts` the default limit.
    """

    name: str
    memory_bytes: int
    bandwidth: float
    bf16_flops: float | None
    fp8_flops: float | None
    int8_ops: float | None
    compute_capability: int
    source: str
    fp4_flops: float | None = None
    link_bandwidth: float
    gpus_per_node: int
    linked_gpus: int
    l2_bytes: int
    power_watts: int
    ecc_in_memory: bool = False

    @property
    def usable_bytes(self) -> int:
        """What a process sees as the GPU's memory: GDDR gives a sixteenth to its error correction, HBM does not.

        The driver keeps up to 1 % besides (81,559 MiB of 80 GiB on an H100, as nvidia-smi shows).
        """
        return self.memory_bytes * 15 // 16 if self.ecc_in_memory else self.memory_bytes * 99 // 100

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
    *,
    link_gb: float,
    l2_mib: int,
    watts: int,
    node: int = 8,
    linked: int = 0,
    gddr: bool = False,
) -> Gpu:
    """Memory in GiB, bandwidths in GB/s, peaks (bf16, fp8, int8, fp4) in Tera-operations/s; `linked` 0: as `node`."""
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
        link_bandwidth=link_gb * _G,
        gpus_per_node=node,
        linked_gpus=linked or node,
        l2_bytes=l2_mib * _MIB,
        power_watts=watts,
        ecc_in_memory=gddr,
    )


_NVIDIA = "NVIDIA data sheet"

# One way: PCIe 3, 4 and 5 with 16 lanes.
_PCIE_3, _PCIE_4, _PCIE_5 = 16, 32, 64

_A100 = (312, None, 624, None)
_HOPPER = (989, 1978, 1978, None)
_MI300 = (1307.4, 2614.9, 2614.9, None)

_ROWS: tuple[Gpu, ...] = (
    _row("A10", 24, 600, (125, None, 250, None), 86, f"{_NVIDIA} A10", link_gb=_PCIE_4, l2_mib=6, watts=150, gddr=True),
    _row("A100-PCIe-40GB", 40, 1555, _A100, 80, f"{_NVIDIA} A100", link_gb=_PCIE_4, l2_mib=40, watts=250),
    _row("A100-PCIe-80GB", 80, 1935, _A100, 80, f"{_NVIDIA} A100", link_gb=_PCIE_4, l2_mib=40, watts=300),
    _row("A100-SXM-40GB", 40, 1555, _A100, 80, f"{_NVIDIA} A100", link_gb=300, l2_mib=40, watts=400),
    _row("A100-SXM", 80, 2039, _A100, 80, f"{_NVIDIA} A100", link_gb=300, l2_mib=40, watts=400),
    _row(
        "A40",
        48,
        696,
        (149.7, None, 299.3, None),
        86,
        f"{_NVIDIA} A40",
        link_gb=_PCIE_4,
        l2_mib=6,
        watts=300,
        gddr=True,
    ),
    _row(
        "B200-SXM",
        180,
        7700,
        (2250, 4500, 4500, 9000),
        100,
        f"{_NVIDIA} HGX B200",
        link_gb=900,
        l2_mib=126,
        watts=1000,
    ),
    # Blackwell Ultra trades int8 units for fp4 ones.
    _row(
        "B300-SXM", 268, 8000, (2250, 4500, 125, 13125), 103, f"{_NVIDIA} HGX B300", link_gb=900, l2_mib=126, watts=1100
    ),
    _row(
        "GB200",
        185,
        8000,
        (2500, 5000, 5000, 10000),
        100,
        f"{_NVIDIA} GB200 NVL72",
        link_gb=900,
        l2_mib=126,
        watts=1200,
        node=4,
        linked=72,
    ),
    # Rates of the rack over 72; 2.5, 5 and 15 PFLOP/s dense, 0.165 POP/s in int8, 279 GB to use (Verda, 2025) agree.
    _row(
        "GB300",
        268,
        8000,
        (2500, 5000, 165, 15000),
        103,
        f"{_NVIDIA} GB300 NVL72",
        link_gb=900,
        l2_mib=126,
        watts=1400,
        node=4,
        linked=72,
    ),
    # The power is that of GPU, CPU and memory together.
    _row("GH200", 96, 4000, _HOPPER, 90, f"{_NVIDIA} GH200", link_gb=450, l2_mib=50, watts=1000, node=1),
    _row(
        "H100-NVL",
        94,
        3900,
        (835.5, 1670.5, 1670.5, None),
        90,
        f"{_NVIDIA} H100",
        link_gb=_PCIE_5,
        l2_mib=50,
        watts=400,
    ),
    _row("H100-PCIe", 80, 2000, (756, 1513, 1513, None), 90, f"{_NVIDIA} H100", link_gb=_PCIE_5, l2_mib=50, watts=350),
    _row("H100-SXM", 80, 3350, _HOPPER, 90, f"{_NVIDIA} H100", link_gb=450, l2_mib=50, watts=700),
    # NVIDIA publishes no data sheet of it: the figures that sellers and reviewers agree in.
    _row(
        "H20", 96, 4000, (148, 296, 296, None), 90, "NVIDIA H20, as sellers print it", link_gb=450, l2_mib=60, watts=400
    ),
    _row("H200-SXM", 141, 4800, _HOPPER, 90, f"{_NVIDIA} H200", link_gb=450, l2_mib=50, watts=700),
    _row(
        "L4", 24, 300, (121, 242.5, 242.5, None), 89, f"{_NVIDIA} L4", link_gb=_PCIE_4, l2_mib=48, watts=72, gddr=True
    ),
    _row(
        "L40S",
        48,
        864,
        (362.05, 733, 733, None),
        89,
        f"{_NVIDIA} L40S",
        link_gb=_PCIE_4,
        l2_mib=96,
        watts=350,
        gddr=True,
    ),
    # One of the module's two dies, which engines and Kubernetes count as a GPU each.
    _row(
        "MI250",
        64,
        1638.4,
        (181, None, 181, None),
        0,
        "AMD data sheet Instinct MI250, halved",
        link_gb=150,
        l2_mib=8,
        watts=250,
    ),
    _row("MI300X", 192, 5300, _MI300, 0, "AMD data sheet Instinct MI300X", link_gb=448, l2_mib=256, watts=750),
    _row("MI325X", 256, 6000, _MI300, 0, "AMD data sheet Instinct MI325X", link_gb=448, l2_mib=256, watts=1000),
    # 256 compute units at 2.4 GHz with 8,192 fp8 operations a cycle (AMD at ISSCC 2026); 256 MiB (ROCm, GPU
    # specifications); seven links of 153.6 GB/s both ways.
    _row(
        "MI355X",
        288,
        8000,
        (2516.6, 5033.2, 5033.2, 10066.3),
        0,
        "AMD data sheet Instinct MI355X",
        link_gb=537,
        l2_mib=256,
        watts=1400,
    ),
    _row("T4", 16, 320, (None, None, 130, None), 75, f"{_NVIDIA} T4", link_gb=_PCIE_3, l2_mib=4, watts=70, gddr=True),
    _row("V100-SXM2", 32, 900, (None, None, None, None), 70, f"{_NVIDIA} V100", link_gb=150, l2_mib=6, watts=300),
)

GPUS: Final = MappingProxyType({gpu.name: gpu for gpu in sorted(_ROWS, key=lambda gpu: gpu.name)})


@dataclass(frozen=True, slots=True, kw_only=True)
class Processor:
    """A CPU as far as an engine uses it. There is no table of these: the figures are measured, or a person gives them.

    `memory_bytes` is what the engine's process may use, `bandwidth` in bytes/s what its cores read from memory
    together, `bf16_flops` what they compute in bf16 matrix products.
    """

    cores: int
    memory_bytes: int
    bandwidth: float
    bf16_flops: float


@dataclass(frozen=True, slots=True)
class Device:
    """What an engine runs on: a CPU, whose figures may not be known, or a GPU that may not be in the table."""

    cpu: bool
    gpu: Gpu | None = None
    processor: Processor | None = None

    @property
    def supports_fp8(self) -> bool:
        return self.gpu is not None and self.gpu.supports_fp8


def find_device(text: str) -> Device:
    """`cpu` or empty is a CPU; anything else is a GPU, known or not."""
    return Device(cpu=True) if text.strip().lower() in ("", "cpu") else Device(cpu=False, gpu=find_gpu(text))


# The name that people write for the variant that clouds mostly mean by it.
_SHORT: Final = {
    "A100": "A100-SXM",
    "B200": "B200-SXM",
    "B300": "B300-SXM",
    "H100": "H100-SXM",
    "H200": "H200-SXM",
    "V100": "V100-SXM2",
}


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
