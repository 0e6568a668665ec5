"""The program: `vllm serve MODEL [flags]`."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Sequence

from . import ENGINE_VERSION
from .config import ConfigRefusedError, EngineConfig
from .faults import Faults, read_faults
from .flags import parse


def _log(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


async def _run(config: EngineConfig, faults: Faults) -> int:
    loop = asyncio.get_running_loop()
    stop, ready = asyncio.Event(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if await _stopped_within(stop, None if faults.hang_on_start else config.startup_seconds):
        return 0
    from .lifecycle import serve

    _log(f"INFO emulator of vLLM {ENGINE_VERSION}: {config.limits}")
    serving = asyncio.create_task(serve(config, faults, stop=stop, ready=ready))
    announced = asyncio.create_task(ready.wait())
    await asyncio.wait({serving, announced}, return_when=asyncio.FIRST_COMPLETED)
    if ready.is_set():
        _log(f"INFO Starting vLLM server on http://{config.host}:{config.port}\nINFO Application startup complete.")
    announced.cancel()
    await serving
    _log("INFO Application shutdown complete.")
    return 0


async def _stopped_within(stop: asyncio.Event, seconds: float | None) -> bool:
    try:
        await asyncio.wait_for(stop.wait(), seconds)
    except TimeoutError:
        return False
    return True


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the emulator; returns its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] in (["--version"], ["-v"]):
        print(ENGINE_VERSION)
        return 0
    try:
        config = parse(given)
        faults = read_faults(os.environ, config.flags)
    except ConfigRefusedError as refused:
        if refused.late:
            _wait_as_loading(given)
            _log(f"ERROR EngineCore failed to start.\n{refused}")
            _log("RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}")
        else:
            _log(str(refused))
        return 1
    if faults.crash_code is not None:
        _log(faults.crash_message or "EMULATOR_CRASH_ON_START")
        return faults.crash_code
    return asyncio.run(_run(config, faults))


def _wait_as_loading(arguments: Sequence[str]) -> None:
    """Late refusals take as long as a start does."""
    import time

    from .flags import build_parser, normalise

    namespace, _ = build_parser().parse_known_args(normalise(arguments))
    time.sleep(max(0.0, namespace.emulator_startup_seconds))


if __name__ == "__main__":
    sys.exit(main())
