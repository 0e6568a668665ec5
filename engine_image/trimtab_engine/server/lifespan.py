"""The life of the server around the engine's application: what is begun, kept up to date and closed.

The ASGI specification's lifespan protocol: https://asgi.readthedocs.io/en/latest/specs/lifespan.html.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from trimtab_engine.asgi.answers import Receive, Scope, Send
from trimtab_engine.engines.vllm.ask import attention_of
from trimtab_engine.server.health import degradations
from trimtab_engine.server.keeper import TICK_SECONDS
from trimtab_engine.server.log import log_to_stderr

if TYPE_CHECKING:
    from trimtab_engine.server.gate import Gate

log = logging.getLogger("trimtab_engine.gate")


async def live(gate: Gate, scope: Scope, receive: Receive, send: Send) -> None:
    """Serves from the start of the engine's application to its end."""
    log_to_stderr()
    try:
        await gate.begin(scope)
        if gate.engine.name != "vllm":  # vLLM does it after us, for all that is there by then
            _freeze_heap()
    except Exception as error:  # the server would go on without us otherwise
        log.exception("The server does not start")
        await receive()
        await send({"type": "lifespan.startup.failed", "message": f"{type(error).__name__}: {error}"})
        return
    tasks = [asyncio.create_task(task) for task in _tasks(gate, scope)]
    try:
        await gate.app(scope, receive, send)
    finally:
        for task in tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        await gate.close()


def _tasks(gate: Gate, scope: Scope) -> Iterator[Coroutine[Any, Any, None]]:
    """What runs beside the requests."""
    looking = partial(_look, gate)
    yield _repeat(looking, gate.config.settings_interval_seconds, "The settings could not be looked at")
    yield _repeat(partial(_measure, gate), TICK_SECONDS, "What is measured could not be brought up to date")
    if gate.attention is None:
        yield _ask_for_attention(gate, scope["app"].state)
    if gate.cached is not None:
        yield gate.cached.cache.keep_up()


async def _repeat(action: Callable[[], Awaitable[None]], seconds: float, problem: str) -> None:
    while True:
        try:
            await action()
        except Exception:  # what fails now may work the next time; requests go on
            log.exception("%s", problem)
        await asyncio.sleep(seconds)


async def _look(gate: Gate) -> None:
    await asyncio.to_thread(gate.control.tick)
    gate.metrics.degraded(degradations(gate.facts()))
    if gate.salting is not None:
        gate.salting.sharing.tidy()


async def _measure(gate: Gate) -> None:
    await gate.keeper.tick(gate.state())
    gate.speculating.look(gate.clock())


async def _ask_for_attention(gate: Gate, state: Any) -> None:
    found = await attention_of(state)
    if found is not None:
        gate.take_attention(found)


def _freeze_heap() -> None:
    """What the start made is no garbage: looked at no more, it neither makes collections long nor puts them off.

    Python collects the oldest generation once a quarter of it is new (the `gc` module's documentation), and with a
    hundred thousand objects of imported libraries in it, closed connections would be kept for minutes.
    """
    gc.collect()
    gc.freeze()
