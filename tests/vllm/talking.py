"""Conversations with a server: each turn sends all that was said before, and is measured until its first token."""

from __future__ import annotations

import json
import random
import time
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.testkit.client import MODEL_NAME, EngineClient

LETTERS = "abcdefghijklmnopqrstuvwxyz "


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One answer: its text, seconds until its first token, tokens of the prompt, and those that were there already."""

    text: str
    ttft: float
    prompt_tokens: int
    cached_tokens: int


def ask(server: EngineClient, prompt: str, *, headers: Mapping[str, str] | None = None, answer: int = 16) -> Turn:
    """A completion without temperature, as a stream."""
    body: dict[str, Any] = {
        "model": MODEL_NAME,
        "prompt": prompt,
        "max_tokens": answer,
        "ignore_eos": True,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    request = urllib.request.Request(
        f"{server.url}/v1/completions",
        data=json.dumps(body).encode(),
        headers={"content-type": "application/json", **(headers or {})},
    )
    text, first = "", 0.0
    usage: dict[str, Any] = {}
    began = time.perf_counter()
    with urllib.request.urlopen(request, timeout=300) as response:
        for line in response:
            if not line.startswith(b"data: {"):
                continue
            event = json.loads(line.removeprefix(b"data: "))
            pieces = [choice["text"] for choice in event["choices"]]
            if any(pieces) and not first:
                first = time.perf_counter() - began
            text += "".join(pieces)
            usage = event.get("usage") or usage
    cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
    return Turn(text=text, ttft=first, prompt_tokens=usage["prompt_tokens"], cached_tokens=cached)


def words(seed: int, length: int) -> str:
    """So many characters that no other seed begins with."""
    return "".join(random.Random(seed).choices(LETTERS, k=length))


def end(server: EngineClient, conversation: str, headers: Mapping[str, str] | None = None) -> bool:
    """Ends a conversation; whether the server had kept anything of it."""
    request = urllib.request.Request(
        f"{server.url}/v1/conversations/{conversation}", method="DELETE", headers=dict(headers or {})
    )
    with urllib.request.urlopen(request, timeout=30) as response:
        return bool(json.loads(response.read())["deleted"])


def counter(server: EngineClient, name: str) -> float:
    """The sum of a metric's samples."""
    lines = [line for line in server.get("/metrics").splitlines() if line.startswith((name + "{", name + " "))]
    assert lines, name
    return sum(float(line.rpartition(" ")[2]) for line in lines)
