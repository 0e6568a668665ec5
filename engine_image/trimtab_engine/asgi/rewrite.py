"""A request whose body is written anew on its way to the engine: its priority, its salt."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from trimtab_engine.asgi.answers import App, Message, Receive, Scope, Send

# The endpoints of vLLM 0.32 whose requests have a priority (`vllm/entrypoints/openai/*/protocol.py`).
PRIORITISED = frozenset({"/v1/completions", "/v1/chat/completions", "/v1/responses"})

Change = Callable[[Mapping[str, Any]], Mapping[str, Any]]


def prioritised(priority: int) -> Change:
    """This priority in the place of the one that the request has."""
    return lambda document: {**document, "priority": priority}


def rewritten(app: App, changes: Sequence[Change]) -> App:
    """`app`, told what the changes make of each body that is a JSON object."""
    if not changes:
        return app

    async def changed(scope: Scope, receive: Receive, send: Send) -> None:
        content = await _whole(receive)
        if content is None:
            await app(scope, receive, send)  # the client has gone, and `receive` says so again
            return
        body = _written(content, changes)
        headers = [pair for pair in scope.get("headers") or () if pair[0].lower() != b"content-length"]
        headers.append((b"content-length", str(len(body)).encode()))
        await app({**scope, "headers": headers}, _given(body, receive), send)

    return changed


async def _whole(receive: Receive) -> bytes | None:
    """The body; None where the client goes before it has sent it."""
    pieces: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        pieces.append(message.get("body") or b"")
        if not message.get("more_body", False):
            return b"".join(pieces)


def _written(content: bytes, changes: Sequence[Change]) -> bytes:
    """A body that is no JSON object is the engine's to refuse, and stays as it is."""
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        return content
    if not isinstance(document, dict):
        return content
    for change in changes:
        document = change(document)
    return json.dumps(document).encode()


def _given(body: bytes, receive: Receive) -> Callable[[], Awaitable[Message]]:
    """Gives the body once, and then whatever comes."""
    left: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def given() -> Message:
        return left.pop() if left else await receive()

    return given
