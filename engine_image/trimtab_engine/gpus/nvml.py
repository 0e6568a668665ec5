"""Reads the GPUs by NVML and says what it saw, a line of JSON for each look: `python -m trimtab_engine.gpus.nvml 2`.

A process of its own, since a call of NVML may wait for a driver that does not answer, and nothing else can end such a
call: the server that started it only waits for its lines, as long as it wants to. It ends when nobody reads them.

A look comes every so many seconds, and at once when the driver reports an error (NVML's events of the kinds Xid and
double-bit ECC, which are the ones that NVIDIA's device plugin for Kubernetes listens to).
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from trimtab_engine.gpus.reading import THROTTLE, Reading, Snapshot

# nvmlDeviceGpuRecoveryAction_t (nvml.h).
ADVICE = {
    1: "gpu_reset",
    2: "node_reboot",
    3: "drain_p2p",
    4: "drain_and_reset",
    5: "recover_imex_domain",
    6: "bus_reset",
    7: "system_reboot",
}
# What more the driver reports after an error comes within this time: one look for all of it.
_MORE_MILLISECONDS = 100


def main(arguments: Sequence[str]) -> int:
    interval = float(arguments[0])
    try:
        import pynvml
    except ImportError as error:
        return _say(Snapshot(absent=f"nvidia-ml-py is not installed ({error})"))
    try:
        pynvml.nvmlInit()
        count = int(pynvml.nvmlDeviceGetCount())
    except pynvml.NVMLError as error:
        return _say(Snapshot(absent=f"NVML cannot be used: {error}"))
    if not count:
        return _say(Snapshot(absent="NVML knows of no GPU"))
    reader = Reader(pynvml, count)
    while True:
        _say(Snapshot(gpus=reader.look()))
        reader.wait(interval)


def _say(snapshot: Snapshot) -> int:
    print(json.dumps(snapshot.as_json()), flush=True)
    return 0


class _LostError(Exception):
    """The GPU does not answer at all."""


@dataclass(frozen=True, kw_only=True)
class _Device:
    """A GPU as NVML knows it from its start on: the set of GPUs does not change until NVML is started anew."""

    index: int
    uuid: str
    name: str
    handle: Any
    lost: str = ""


class Reader:
    """Asks NVML, through the bindings `nvml`."""

    def __init__(self, nvml: Any, count: int) -> None:
        self._nvml = nvml
        # Questions that this driver or this GPU has no answer to.
        self._no_answer = {
            nvml.NVML_ERROR_NOT_SUPPORTED,
            nvml.NVML_ERROR_FUNCTION_NOT_FOUND,
            nvml.NVML_ERROR_NO_PERMISSION,
            nvml.NVML_ERROR_NO_DATA,
            nvml.NVML_ERROR_INVALID_ARGUMENT,
            nvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH,
            nvml.NVML_ERROR_DEPRECATED,
            nvml.NVML_ERROR_VGPU_ECC_NOT_SUPPORTED,
            nvml.NVML_ERROR_NOT_READY,
        }
        self._gone = {nvml.NVML_ERROR_GPU_IS_LOST, nvml.NVML_ERROR_RESET_REQUIRED}
        self._devices = [self._find(index) for index in range(count)]
        self._xids: dict[str, list[int]] = {}
        self._events = self._listen()

    def look(self) -> tuple[Reading, ...]:
        """All GPUs now, with the errors since the last look."""
        errors, self._xids = self._xids, {}
        return tuple(self._read(device, tuple(errors.get(device.uuid, ()))) for device in self._devices)

    def wait(self, seconds: float) -> None:
        """Until it is time for the next look, or the driver reports something."""
        until = time.monotonic() + seconds
        milliseconds = int(1000 * seconds)
        while self._events is not None and milliseconds > 0:
            try:
                event = self._nvml.nvmlEventSetWait_v2(self._events, milliseconds)
            except self._nvml.NVMLError as error:
                if error.value == self._nvml.NVML_ERROR_TIMEOUT:
                    return
                break  # as when a GPU is lost: the look tells which
            self._note(event)
            until = min(until, time.monotonic() + _MORE_MILLISECONDS / 1000)
            milliseconds = int(1000 * (until - time.monotonic()))
        time.sleep(max(0.0, until - time.monotonic()))

    def _note(self, event: Any) -> None:
        if event.eventType != self._nvml.nvmlEventTypeXidCriticalError:
            return  # a double-bit error is in the counters
        place = _address(event.device)
        for device in self._devices:
            if device.handle is not None and _address(device.handle) == place:
                self._xids.setdefault(device.uuid, []).append(int(event.eventData))

    def _listen(self) -> Any:
        """An event set for all GPUs; None where this driver has no events."""
        wanted = self._nvml.nvmlEventTypeXidCriticalError | self._nvml.nvmlEventTypeDoubleBitEccError
        registered = False
        try:
            events = self._nvml.nvmlEventSetCreate()
        except self._nvml.NVMLError:
            return None
        for device in self._devices:
            try:
                kinds = wanted & self._nvml.nvmlDeviceGetSupportedEventTypes(device.handle) if device.handle else 0
                if kinds:
                    self._nvml.nvmlDeviceRegisterEvents(device.handle, kinds, events)
                    registered = True
            except self._nvml.NVMLError:
                continue
        return events if registered else None

    def _find(self, index: int) -> _Device:
        try:
            handle = self._nvml.nvmlDeviceGetHandleByIndex(index)
            uuid = _text(self._nvml.nvmlDeviceGetUUID(handle))
            name = _text(self._nvml.nvmlDeviceGetName(handle))
        except self._nvml.NVMLError as error:
            return _Device(index=index, uuid=f"unknown-{index}", name="", handle=None, lost=str(error))
        return _Device(index=index, uuid=uuid, name=name, handle=handle)

    def _read(self, device: _Device, xids: tuple[int, ...]) -> Reading:
        bare: dict[str, Any] = {"index": device.index, "uuid": device.uuid, "name": device.name, "xids": xids}
        if device.handle is None:
            return Reading(**bare, lost=device.lost)
        troubles: list[str] = []
        try:
            values = self._values(device.handle, troubles)
        except _LostError as error:
            return Reading(**bare, lost=str(error))
        return Reading(**bare, **values, trouble=troubles[0] if troubles else "")

    def _values(self, handle: Any, troubles: list[str]) -> dict[str, Any]:
        nvml = self._nvml

        def ask(question: Callable[..., Any], *words: Any) -> Any:
            return self._ask(troubles, question, handle, *words)

        memory = ask(nvml.nvmlDeviceGetMemoryInfo)
        use = ask(nvml.nvmlDeviceGetUtilizationRates)
        heat = ask(nvml.nvmlDeviceGetTemperatureV, nvml.NVML_TEMPERATURE_GPU)
        if heat is None:  # drivers before R575
            heat = ask(nvml.nvmlDeviceGetTemperature, nvml.NVML_TEMPERATURE_GPU)
        clocks = ask(nvml.nvmlDeviceGetCurrentClocksEventReasons)
        if clocks is None:  # drivers before R535
            clocks = ask(nvml.nvmlDeviceGetCurrentClocksThrottleReasons)
        power = ask(nvml.nvmlDeviceGetPowerUsage)
        rows = ask(nvml.nvmlDeviceGetRemappedRows)
        pending = [ask(nvml.nvmlDeviceGetRetiredPagesPendingStatus), rows[2] if rows else None]
        causes = range(nvml.NVML_PAGE_RETIREMENT_CAUSE_COUNT)
        retired = [pages for cause in causes if (pages := ask(nvml.nvmlDeviceGetRetiredPages, cause)) is not None]
        return {
            "memory_used_bytes": memory and int(memory.used),
            "memory_total_bytes": memory and int(memory.total),
            "utilization": use and use.gpu / 100,
            "temperature_celsius": heat,
            "slowdown_celsius": ask(nvml.nvmlDeviceGetTemperatureThreshold, nvml.NVML_TEMPERATURE_THRESHOLD_SLOWDOWN),
            "power_watts": None if power is None else power / 1000,
            "throttle": tuple(name for bit, name in THROTTLE.items() if (clocks or 0) & bit),
            "ecc_uncorrected": ask(
                nvml.nvmlDeviceGetTotalEccErrors, nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, nvml.NVML_VOLATILE_ECC
            ),
            "retired_pages": sum(len(pages) for pages in retired) if retired else None,
            "remapped_rows": rows[0] + rows[1] if rows else None,
            "repair_pending": None if pending == [None, None] else any(pending),
            "repair_failed": bool(rows[3]) if rows else None,
            "advice": self._advice(troubles, handle),
        }

    def _advice(self, troubles: list[str], handle: Any) -> str:
        """What the driver recommends (from R570 on)."""
        fields = self._ask(
            troubles, self._nvml.nvmlDeviceGetFieldValues, handle, [self._nvml.NVML_FI_DEV_GET_GPU_RECOVERY_ACTION]
        )
        if not fields or fields[0].nvmlReturn != self._nvml.NVML_SUCCESS:
            return ""
        return ADVICE.get(int(fields[0].value.uiVal), "")

    def _ask(self, troubles: list[str], question: Callable[..., Any], *words: Any) -> Any:
        """The answer, or None where there is none; what should not be is noted as trouble."""
        try:
            return question(*words)
        except self._nvml.NVMLError as error:
            if error.value in self._gone:
                raise _LostError(str(error)) from error
            if error.value not in self._no_answer:
                troubles.append(str(error))
            return None


def _address(handle: Any) -> int | None:
    return ctypes.cast(handle, ctypes.c_void_p).value


def _text(text: str | bytes) -> str:
    return text.decode(errors="replace") if isinstance(text, bytes) else text


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except BrokenPipeError:  # nobody reads any more, and Python would try once more at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
