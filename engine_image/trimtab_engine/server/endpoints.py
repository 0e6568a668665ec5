"""The endpoints under /v1/optimization."""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from trimtab_engine.asgi.answers import Receive, Scope, Send, answer, error_body, header
from trimtab_engine.limits.parse import LARGEST_TEXT, Problem, Refused
from trimtab_engine.server.health import degradations
from trimtab_engine.server.token import Door, matches, may_change

if TYPE_CHECKING:
    from trimtab_engine.server.gate import Gate

METHODS = {
    **dict.fromkeys(("status", "metrics", "report", "tuner", "alerts"), "GET"),
    **dict.fromkeys(("configure", "start", "stop", "reset_prefix_cache"), "POST"),
}


async def serve(gate: Gate, name: str, scope: Scope, receive: Receive, send: Send) -> None:
    """`name` is what follows /v1/optimization/ in the path."""
    method = METHODS.get(name)
    if method is None:
        await answer(send, 404, error_body(404, "There is no such endpoint.", kind="not_found"))
    elif scope["method"] != method:
        body = error_body(405, f"This endpoint takes {method}.", kind="method_not_allowed")
        await answer(send, 405, body, {"allow": method})
    elif method == "GET":
        await _tell(gate, name, scope, send)
    elif name == "configure":
        await _configure(gate, scope, receive, send)
    elif name == "reset_prefix_cache":
        await _reset(gate, scope, send)
    else:
        await _switch(gate, name, scope, send)


def status_of(gate: Gate) -> dict[str, Any]:
    """What GET /v1/optimization/status tells."""
    load, facts = gate.inside.load(), gate.facts()
    return {
        "engine": gate.engine.name,
        "passed_over": [asdict(passed) for passed in gate.chain.passed],
        "engines": gate.chain.states(gate.config.engines.preference),
        "speculation": gate.speculating.shown(),
        "model_check": gate.model_check.shown(),
        **gate.control.status(),
        "load": {
            "inside": load.inside,
            "running": load.running,
            "waiting": load.waiting,
            "kv_usage": round(gate.control.notice.kv_usage, 4),
            "steps": gate.control.notice.steps,
        },
        "gpus": gate.gpus.shown(),
        "degraded": {reason.value: text for reason, text in degradations(facts).items()},
    }


async def _switch(gate: Gate, name: str, scope: Scope, send: Send) -> None:
    """Starts or stops the tuner."""
    if not await _opened(gate, scope, send):
        return
    tuning = gate.keeper.tuning
    if tuning is None:
        await _off(send, "The tuner is off: tuner.enabled is false.")
        return
    if name == "start":
        tuning.start()
    else:
        tuning.stop()
    await answer(send, 200, tuning.shown())


async def _reset(gate: Gate, scope: Scope, send: Send) -> None:
    """Keys and values of earlier requests are not used again."""
    if not await _opened(gate, scope, send):
        return
    if await gate.forget(scope):
        await answer(send, 200, {"reset": True})
    else:
        await answer(send, 409, error_body(409, "The cache is in use: try again when no request runs.", kind="in_use"))


async def _off(send: Send, message: str) -> None:
    await answer(send, 404, error_body(404, message, kind="endpoint_off"))


def _shown(gate: Gate, name: str) -> dict[str, Any] | str:
    """What is told, or why it is not."""
    keeper = gate.keeper
    if name == "status":
        return status_of(gate)
    if name == "tuner":
        return keeper.tuning.shown() if keeper.tuning else "The tuner is off: tuner.enabled is false."
    if name == "alerts":
        return keeper.alerting.shown() if keeper.alerting else "Alerts are off: alerts.enabled is false."
    if not gate.config.monitor.enabled:
        return "Nothing is measured: monitor.enabled is false."
    if name == "metrics":
        return keeper.shown(gate.state())
    return keeper.report(gate.state(), gate.speculating.shown())


async def _tell(gate: Gate, name: str, scope: Scope, send: Send) -> None:
    """Open as /metrics is; where vLLM asks for an API key under /v1, this asks for it or for our token, too."""
    given = header(scope, "authorization")
    door, _ = may_change(gate.config.server.token_file, given)
    if door is not Door.OPEN and not may_ask(scope):
        await answer(send, 401, error_body(401, "The API key is missing or wrong.", kind="unauthorized"))
        return
    shown = _shown(gate, name)
    if isinstance(shown, str):
        await _off(send, shown)
    else:
        await answer(send, 200, shown)


async def _opened(gate: Gate, scope: Scope, send: Send) -> bool:
    """Whether the caller may change something; who may not has been answered."""
    door, why = may_change(gate.config.server.token_file, header(scope, "authorization"))
    if door is not Door.OPEN:
        status, kind = (403, "endpoint_off") if door is Door.OFF else (401, "unauthorized")
        await answer(send, status, error_body(status, why, kind=kind))
    return door is Door.OPEN


async def _configure(gate: Gate, scope: Scope, receive: Receive, send: Send) -> None:
    if not await _opened(gate, scope, send):
        return
    document = await _document(receive)
    try:
        outcome = (
            document if isinstance(document, Refused) else await asyncio.to_thread(gate.control.configure, document)
        )
    except OSError as error:
        message = f"The limits stay as they are; the new ones cannot be stored: {error.strerror}."
        await answer(send, 503, error_body(503, message, kind="not_stored"))
        return
    if isinstance(outcome, Refused):
        body = error_body(400, outcome.sentence(), kind="invalid_settings", field=outcome.problems[0].field)
        body["problems"] = [{"field": problem.field, "message": problem.message} for problem in outcome.problems]
        await answer(send, 400, body)
    else:
        await answer(send, 200, status_of(gate))


async def _document(receive: Receive) -> object | Refused:
    """The JSON of the body."""
    content = b""
    while len(content) <= LARGEST_TEXT:
        message = await receive()
        content += message.get("body") or b""
        if not message.get("more_body"):
            break
    if len(content) > LARGEST_TEXT:
        return _bad(f"is longer than {LARGEST_TEXT} bytes")
    try:
        document: object = json.loads(content)
    except (ValueError, RecursionError) as error:
        return _bad(f"is not JSON: {' '.join(str(error).split())[:200]}")
    return document


def _bad(message: str) -> Refused:
    return Refused(problems=(Problem(field="document", message=message),))


def may_ask(scope: Scope) -> bool:
    """Whether the caller has an API key of vLLM's, where it asks for one."""
    keys, given = _api_keys(scope), header(scope, "authorization")
    return not keys or any(matches(given, key) for key in keys)


def _api_keys(scope: Scope) -> list[str]:
    """The keys that vLLM itself asks for (`vllm/entrypoints/serve/middleware/register.py`)."""
    arguments = getattr(getattr(scope.get("app"), "state", None), "args", None)
    keys = getattr(arguments, "api_key", None) or [os.environ.get("VLLM_API_KEY")]
    return [key for key in keys if key]
