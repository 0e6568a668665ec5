"""Answers of ours, in the shape that clients of OpenAI's API know."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

DISCONNECT: Message = {"type": "http.disconnect"}


def error_body(status: int, message: str, *, kind: str, field: str | None = None) -> dict[str, Any]:
    """The body of an error. `kind` is for programs, `field` names what is wrong in the request."""
    return {"error": {"message": message, "type": kind, "param": field, "code": status}}


async def answer(send: Send, status: int, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> None:
    """One whole answer in JSON."""
    content = json.dumps(body).encode()
    lines = {"content-type": "application/json", "content-length": str(len(content)), **(headers or {})}
    raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in lines.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": content, "more_body": False})


def header(message: Mapping[str, Any], name: str) -> str | None:
    """A header of a request's scope or of the start of an answer; `name` is in lower case."""
    wanted = name.encode("latin-1")
    for key, value in message.get("headers") or ():
        if key.lower() == wanted:
            return bytes(value).decode("latin-1")
    return None
