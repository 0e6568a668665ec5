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

# Where the API server of vLLM 0.32 stands when its engine does not come up.
_FRAMES = (
    ("entrypoints/cli/main.py", 95, "main", "args.dispatch_function(args)"),
    ("entrypoints/cli/serve.py", 126, "cmd", "uvloop.run(run_server(args))"),
    (
        "entrypoints/launchers/api_server/entry.py",
        177,
        "run_server",
        "await run_server_worker(listen_address, sock, args)",
    ),
    ("entrypoints/launchers/api_server/entry.py", 195, "run_server_worker", "async with build_async_engine_client("),
    (
        "entrypoints/launchers/api_server/entry.py",
        61,
        "build_async_engine_client",
        "async with build_async_engine_client_(",
    ),
    (
        "entrypoints/launchers/api_server/entry.py",
        95,
        "build_async_engine_client_",
        "async_llm = AsyncLLM.from_vllm_config(",
    ),
    ("v1/engine/async_llm.py", 255, "from_vllm_config", "return cls("),
    ("v1/engine/async_llm.py", 184, "__init__", "self.engine_core = EngineCoreClient.make_async_mp_client("),
    ("tracing/otel.py", 175, "sync_wrapper", "return func(*args, **kwargs)"),
    ("v1/engine/core_client.py", 151, "make_async_mp_client", "return AsyncMPClient(*client_args)"),
    ("tracing/otel.py", 175, "sync_wrapper", "return func(*args, **kwargs)"),
    ("v1/engine/core_client.py", 1120, "__init__", "super().__init__("),
    ("v1/engine/core_client.py", 682, "__init__", "with launch_core_engines("),
    ("v1/engine/utils.py", 1351, "launch_core_engines", "wait_for_engine_startup("),
    ("v1/engine/utils.py", 1431, "wait_for_engine_startup", "raise RuntimeError("),
)


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
        config = parse(given, os.environ)
        faults = read_faults(os.environ, config.flags)
    except ConfigRefusedError as refused:
        if refused.late:
            _wait_as_loading(given)
            _log(_late_refusal(str(refused)))
        else:
            _log(f"Traceback (most recent call last):\n{refused}")
        return 1
    if faults.crash_code is not None:
        _log(faults.crash_message or "EMULATOR_CRASH_ON_START")
        return faults.crash_code
    return asyncio.run(_run(config, faults))


def _late_refusal(cause: str) -> str:
    """The engine's log of a failed start: the cause, and then so many frames that a pod's termination message, which
    is the end of the log, has lost it.
    """
    inner = "\n".join(f"(EngineCore pid=2) ERROR [core.py:1510] {line}" for line in cause.splitlines())
    frames = "\n".join(
        f'  File "/opt/engine/lib/python3.11/site-packages/vllm/{place}", line {line}, in {name}\n    {text}'
        for place, line, name, text in _FRAMES
    )
    last = (
        "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {'EngineCore': 1}"
    )
    return (
        f"(EngineCore pid=2) ERROR [core.py:1510] EngineCore failed to start.\n{inner}\n"
        f"Traceback (most recent call last):\n{frames}\n{last}"
    )


def _wait_as_loading(arguments: Sequence[str]) -> None:
    """Late refusals take as long as a start does."""
    import time

    from .flags import build_parser, from_environment, normalise

    namespace, _ = build_parser().parse_known_args(normalise(arguments))
    given = namespace.emulator_startup_seconds
    time.sleep(max(0.0, from_environment(os.environ).get("emulator_startup_seconds", 1.0) if given is None else given))


if __name__ == "__main__":
    sys.exit(main())
