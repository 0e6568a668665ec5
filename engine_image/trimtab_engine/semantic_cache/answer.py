"""What is kept of an answer, and which answers are. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

JSON = "application/json"
EVENTS = "text/event-stream"
DONE = b"data: [DONE]"
_ENDS = frozenset({"stop", "length"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The bytes that a client got; `at` is the time of day, in seconds since the epoch."""

    content_type: str
    body: bytes
    at: float


def may_be_kept(content_type: str, body: bytes) -> bool:
    """Whether it is a whole answer that ended as it should: every choice by a stop or by the wanted length."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind == JSON:
        document = _json(body)
        return document is not None and _ended_well([document])
    if kind != EVENTS:
        return False
    *before, last = events(body) or [b""]
    if last.strip() != DONE:
        return False
    documents = [_json(event.removeprefix(b"data: ")) for event in before]
    return all(document is not None for document in documents) and _ended_well([d for d in documents if d])


def events(body: bytes) -> list[bytes]:
    """The events of a stream, each without the empty line after it."""
    return [event for event in body.split(b"\n\n") if event.strip()]


def _json(content: bytes) -> dict[str, Any] | None:
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def _ended_well(documents: list[dict[str, Any]]) -> bool:
    if any("error" in document for document in documents):
        return False
    found = [reason for document in documents for reason in _reasons(document) if reason is not None]
    return bool(found) and all(reason in _ENDS for reason in found)


def _reasons(document: dict[str, Any]) -> Iterator[object]:
    choices = document.get("choices")
    for choice in choices if isinstance(choices, list) else []:
        if isinstance(choice, dict):
            yield choice.get("finish_reason")
