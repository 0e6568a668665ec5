"""How each GPU fares: ok, degraded or failed, with a reason and a sentence. Pure.

What makes a GPU failed is what NVIDIA's own tools take a GPU out of use for: it is lost or waits for a reset (return
codes of NVML; Xid 79), its memory had an uncorrectable error or could not be repaired (health checks of DCGM,
https://docs.nvidia.com/datacenter/dcgm/latest/learn/modules/health-monitoring.html; memory error management,
https://docs.nvidia.com/deploy/a100-gpu-mem-error-mgmt/), the driver asks for a reset (NVML's GPU recovery action), or
reported an error whose remedy is a reset (catalogue of Xid errors,
https://docs.nvidia.com/deploy/xid-errors/analyzing-xid-catalog.html). Errors of applications are ignored as NVIDIA's
device plugin for Kubernetes does (`internal/rm/health.go`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from trimtab_engine.gpus.reading import Reading, Snapshot

# Xids after which the GPU needs a reset: stopped, halted microcontroller, failed repair of memory, off the bus,
# uncontained memory error, fault of the security engine, its system processor not answering (119, 120), unrecovered
# memory error. The catalogue's immediate action for them is RESET_GPU, or a restart of the machine for 79.
FATAL_XIDS = frozenset({46, 62, 64, 79, 95, 110, 119, 120, 140})
# An uncorrectable memory error; where it could be contained, 94 follows: what computed on it ends, and may begin again
# on the same GPU, which replaces the row at its next reset.
UNCORRECTABLE_XID = 48
CONTAINED_XID = 94
# Errors of an application, by the device plugin's list; 109 stands there, too, and asks for a reset in the catalogue.
APPLICATION_XIDS = frozenset({13, 31, 43, 45, 68})
# Information alone: a page or row was replaced (see `repair_pending`), corrected errors, a new advice (see `advice`).
QUIET_XIDS = frozenset({63, 92, 154})
# Heat and the power supply; a cap of the power is no fault, and `hw_slowdown` alone comes with changes of clocks, too.
FAULTY_THROTTLE = frozenset({"hw_thermal_slowdown", "sw_thermal_slowdown", "hw_power_brake"})
# What the driver may recommend for a GPU that cannot be used as it is.
RESETS = frozenset({"gpu_reset", "node_reboot", "bus_reset", "system_reboot"})


class Verdict(StrEnum):
    """Whether a GPU can be computed on."""

    OK = "ok"
    DEGRADED = "degraded"
    FAILED = "failed"


class Reason(StrEnum):
    """Why a GPU is degraded or failed."""

    NONE = "none"
    LOST = "lost"
    XID = "xid"
    ECC = "ecc_uncorrected"
    REPAIR_FAILED = "memory_repair_failed"
    REPAIR_PENDING = "memory_repair_pending"
    RESET_ADVISED = "reset_advised"
    UNREADABLE = "unreadable"
    THROTTLED = "throttled"
    HOT = "hot"


@dataclass(frozen=True, kw_only=True)
class Assessment:
    """What was found of a GPU."""

    verdict: Verdict = Verdict.OK
    reason: Reason = Reason.NONE
    message: str = ""

    def sentence(self, gpu: Reading) -> str:
        """What is wrong with this GPU."""
        how = "has failed" if self.verdict is Verdict.FAILED else "is degraded"
        return f"{gpu.label()} {how}: {self.message}."


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """A GPU as it is known: its last reading, the uncorrected errors it had at first, all Xids since then without
    those of applications, and how it fares. One that failed stays so: only a reset, which ends this server, helps.
    `settling`: an uncorrectable error came with the last look, and whether it was contained is told within moments."""

    reading: Reading
    ecc_at_first: int = 0
    xids: tuple[int, ...] = ()
    settling: bool = False
    assessment: Assessment = field(default_factory=Assessment)

    @property
    def usable(self) -> bool:
        return self.assessment.verdict is not Verdict.FAILED

    @property
    def contained(self) -> int:
        """How often an error of its memory was contained."""
        return self.xids.count(CONTAINED_XID)

    def sentence(self) -> str:
        """What is wrong with it."""
        return self.assessment.sentence(self.reading)


Gpus = Mapping[str, Gpu]
_MOST_XIDS = 100


def after(known: Gpus, snapshot: Snapshot) -> dict[str, Gpu]:
    """What is known of each GPU, by its UUID, after one more look. None is ever forgotten."""
    seen = {reading.uuid: reading for reading in snapshot.gpus}
    gone = "NVML does not list it any more"
    now = dict(known)
    for uuid, gpu in known.items():
        if snapshot.absent:
            # NVML itself does not answer, which says nothing of a single GPU.
            now[uuid] = _looked_at(gpu, replace(gpu.reading, xids=(), trouble=snapshot.absent))
        elif uuid not in seen:
            now[uuid] = _looked_at(gpu, replace(gpu.reading, xids=(), lost=gone))
    for uuid, reading in seen.items():
        now[uuid] = _looked_at(known.get(uuid) or _first_seen(reading), reading)
    return now


def _first_seen(reading: Reading) -> Gpu:
    return Gpu(reading=reading, ecc_at_first=reading.ecc_uncorrected or 0)


def _looked_at(gpu: Gpu, reading: Reading) -> Gpu:
    fresh = tuple(xid for xid in reading.xids if xid not in APPLICATION_XIDS | QUIET_XIDS)
    lost_memory = (reading.ecc_uncorrected or 0) > max(gpu.reading.ecc_uncorrected or 0, gpu.ecc_at_first)
    settling = (UNCORRECTABLE_XID in fresh or lost_memory) and not gpu.settling  # for one look, whatever comes then
    gpu = replace(gpu, reading=reading, xids=(*gpu.xids, *fresh)[-_MOST_XIDS:], settling=settling)
    return gpu if not gpu.usable else replace(gpu, assessment=assess(gpu))


def assess(gpu: Gpu) -> Assessment:
    """The first of the checks that finds something: those that make a GPU failed stand before the others."""
    for check in CHECKS:
        found = check(gpu)
        if found is not None:
            return found
    return Assessment()


def _failed(reason: Reason, message: str) -> Assessment:
    return Assessment(verdict=Verdict.FAILED, reason=reason, message=message)


def _degraded(reason: Reason, message: str) -> Assessment:
    return Assessment(verdict=Verdict.DEGRADED, reason=reason, message=message)


def _is_lost(gpu: Gpu) -> Assessment | None:
    lost = gpu.reading.lost
    return _failed(Reason.LOST, f"it does not answer: {lost}") if lost else None


def _has_a_fatal_error(gpu: Gpu) -> Assessment | None:
    fatal = next((xid for xid in gpu.xids if xid in FATAL_XIDS), None)
    if fatal is None and UNCORRECTABLE_XID in gpu.xids and not gpu.contained and not gpu.settling:
        fatal = UNCORRECTABLE_XID
    if fatal is None:
        return None
    return _failed(Reason.XID, f"the driver reported Xid {fatal}, after which it needs a reset")


def _lost_memory(gpu: Gpu) -> Assessment | None:
    count = (gpu.reading.ecc_uncorrected or 0) - gpu.ecc_at_first
    if count <= 0 or gpu.contained or gpu.settling:
        return None
    return _failed(Reason.ECC, f"{count} uncorrectable memory {_errors(count)} since the server began")


def _cannot_be_repaired(gpu: Gpu) -> Assessment | None:
    message = "a row of its memory could not be remapped"
    return _failed(Reason.REPAIR_FAILED, message) if gpu.reading.repair_failed else None


def _needs_a_reset(gpu: Gpu) -> Assessment | None:
    advice = gpu.reading.advice
    return _failed(Reason.RESET_ADVISED, f"the driver recommends: {advice}") if advice in RESETS else None


def _does_not_tell(gpu: Gpu) -> Assessment | None:
    trouble = gpu.reading.trouble
    return _degraded(Reason.UNREADABLE, f"it cannot be read: {trouble}") if trouble else None


def _waits_for_repair(gpu: Gpu) -> Assessment | None:
    message = "a part of its memory is replaced at its next reset"
    return _degraded(Reason.REPAIR_PENDING, message) if gpu.reading.repair_pending else None


def _should_be_drained(gpu: Gpu) -> Assessment | None:
    advice = gpu.reading.advice
    return _degraded(Reason.RESET_ADVISED, f"the driver recommends: {advice}") if advice else None


def _had_lost_memory(gpu: Gpu) -> Assessment | None:
    count = gpu.ecc_at_first
    if not count:
        return None
    return _degraded(Reason.ECC, f"{count} uncorrectable memory {_errors(count)} before the server began")


def _had_an_error(gpu: Gpu) -> Assessment | None:
    return _degraded(Reason.XID, f"the driver reported Xid {gpu.xids[-1]}") if gpu.xids else None


def _is_throttled(gpu: Gpu) -> Assessment | None:
    found = sorted(FAULTY_THROTTLE.intersection(gpu.reading.throttle))
    return _degraded(Reason.THROTTLED, f"its clocks are lowered: {', '.join(found)}") if found else None


def _is_hot(gpu: Gpu) -> Assessment | None:
    heat, bound = gpu.reading.temperature_celsius, gpu.reading.slowdown_celsius
    if heat is None or bound is None or heat < bound:
        return None
    return _degraded(Reason.HOT, f"it has {heat:g} °C, and slows down from {bound:g} °C on")


def _errors(count: int) -> str:
    return "error" if count == 1 else "errors"


CHECKS: tuple[Callable[[Gpu], Assessment | None], ...] = (
    _is_lost,
    _has_a_fatal_error,
    _lost_memory,
    _cannot_be_repaired,
    _needs_a_reset,
    _does_not_tell,
    _waits_for_repair,
    _should_be_drained,
    _had_lost_memory,
    _had_an_error,
    _is_throttled,
    _is_hot,
)
