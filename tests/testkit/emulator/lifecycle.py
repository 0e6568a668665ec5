"""Starting and ending the emulated server, and the faults that have a time."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

from aiohttp import web

from .config import EngineConfig
from .engine import Engine
from .faults import Faults
from .server import Api


async def serve(config: EngineConfig, faults: Faults, *, stop: asyncio.Event, ready: asyncio.Event) -> None:
    """Serves until `stop` is set, then ends as vLLM 0.32 was recorded to end on SIGTERM.

    With `--shutdown-timeout S` it answers new requests with 500, finishes those inside for at most S seconds, and
    /health and /metrics go on answering meanwhile. Without, the engine stops at once and the port closes; requests in
    flight get nothing more, and the process ends when their clients have gone (or it is killed).

    `ready` is set when the port is open.
    """
    api = Api(config, faults)
    runner = web.AppRunner(api.application(), handler_cancellation=True, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    site = web.TCPSite(runner, config.host, config.port, backlog=2048)
    await site.start()
    stepping = asyncio.create_task(api.engine.run())
    trouble = asyncio.create_task(play(api.engine, faults))
    live = [asyncio.create_task(api.live.keep_ticking())] if api.live is not None else []
    try:
        ready.set()
        await stop.wait()
        if config.shutdown_timeout:
            api.engine.drain()
            await api.engine.drained(config.shutdown_timeout)
        api.engine.hang()
        await site.stop()
        await api.engine.drained(None)
    finally:
        for task in (stepping, trouble, *live):
            task.cancel()
        await runner.cleanup()


async def play(engine: Engine, faults: Faults) -> None:
    """Plays the faults that have a time, counted from now."""
    due: list[tuple[float, Callable[[], None]]] = []
    if faults.hang_after is not None:
        due.append((faults.hang_after, engine.hang))
    if faults.die_after is not None:
        due.append((faults.die_after, lambda: os._exit(faults.die_code)))
    if faults.oom_after is not None:
        due.append((faults.oom_after, lambda: eat_memory(faults.oom_limit_bytes)))
    loop = asyncio.get_running_loop()
    began = loop.time()
    for seconds, act in sorted(due, key=lambda item: item[0]):
        await asyncio.sleep(max(0.0, began + seconds - loop.time()))
        act()


def eat_memory(limit: int) -> None:
    """Takes real memory until the kernel ends the process; at `limit` bytes it ends itself with the same code."""
    piece = 16 << 20
    hoard = [bytearray(b"\x01") * piece for _ in range(0, limit, piece)]
    os._exit(137 if hoard else 1)
