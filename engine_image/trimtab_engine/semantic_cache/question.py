"""Whether a request may be answered from the cache, and which part of it is compared. Pure.

The last thing that the user says is compared by its meaning. All else must be the same to the letter: who asks, the
model, what was said before, every other field, and the numbers in the text, which embeddings tell apart badly.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

COMPLETIONS = "/v1/completions"
CHAT = "/v1/chat/completions"
# The default of OpenAI's API. A server may have another one, which a request does not tell.
DEFAULT_TEMPERATURE = 1.0
_ROLES = frozenset({"system", "developer", "user", "assistant"})
_TOOLS = ("tools", "tool_choice", "functions", "function_call")
_NUMBER = re.compile(r"\d+(?:[.,:]\d+)*")


class Why(StrEnum):
    """Why a request goes past the cache, as a label of the metric."""

    OPTED_OUT = "opted_out"
    TENANT = "no_tenant"
    TEMPERATURE = "temperature"
    TOOLS = "tools"
    LENGTH = "length"
    SHAPE = "shape"


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What the configuration says. `scope` names what answers: another model's answers are none of ours."""

    scope: str
    largest_temperature: float
    longest_text_characters: int
    require_tenant: bool


@dataclass(frozen=True, kw_only=True)
class Asker:
    """Of the headers: the values that tell tenants apart (None where one is absent), and `Cache-Control`."""

    tenant: Sequence[str | None]
    cache_control: str | None = None


@dataclass(frozen=True, kw_only=True)
class Question:
    """`partition` is a digest of all that must be the same; `text` is compared by its meaning."""

    partition: str
    text: str


def question(path: str, body: bytes, asker: Asker, rules: Rules) -> Question | Why:
    """The question of a request, or why it is none for the cache."""
    directives = {part.strip().lower() for part in (asker.cache_control or "").split(",")}
    if directives & {"no-store", "no-cache"}:
        return Why.OPTED_OUT
    if rules.require_tenant and not any(asker.tenant):
        return Why.TENANT
    document = _document(body)
    if document is None:
        return Why.SHAPE
    if any(document.get(name) for name in _TOOLS):
        return Why.TOOLS
    if not _cool(document.get("temperature"), rules.largest_temperature):
        return Why.TEMPERATURE
    taken = _take_prompt(document) if path == COMPLETIONS else _take_last_message(document) if path == CHAT else None
    if isinstance(taken, Why):
        return taken
    if taken is None or not taken.strip() or _several(document):
        return Why.SHAPE
    if len(taken) > rules.longest_text_characters:
        return Why.LENGTH
    same = [rules.scope, path, list(asker.tenant), document, sorted(_NUMBER.findall(taken))]
    digest = hashlib.sha256(json.dumps(same, sort_keys=True).encode()).hexdigest()
    return Question(partition=digest, text=" ".join(taken.split()))


def _document(body: bytes) -> dict[str, Any] | None:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def _cool(given: object, largest: float) -> bool:
    temperature = DEFAULT_TEMPERATURE if given is None else given
    if isinstance(temperature, bool) or not isinstance(temperature, int | float):
        return False
    return 0.0 <= temperature <= largest


def _several(document: dict[str, Any]) -> bool:
    """Whether several answers are asked for."""
    return any(document.get(name) not in (None, 1) for name in ("n", "best_of"))


def _take_prompt(document: dict[str, Any]) -> str | None:
    prompt = document.pop("prompt", None)
    return prompt if isinstance(prompt, str) else None


def _take_last_message(document: dict[str, Any]) -> str | Why | None:
    """Takes the last message's text out of the document. All messages must be texts of people and models."""
    messages = document.get("messages")
    if not isinstance(messages, list) or not messages:
        return None
    for message in messages:
        if not isinstance(message, dict):
            return None
        if message.get("role") in {"tool", "function"} or message.get("tool_calls") or message.get("function_call"):
            return Why.TOOLS
        if message.get("role") not in _ROLES or not isinstance(message.get("content"), str):
            return None
    if messages[-1]["role"] != "user":
        return None
    return str(messages[-1].pop("content"))
