"""The endpoints of ours in the engine's OpenAPI document, whichever the engine is. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from trimtab_engine.engines.common.openapi import ERROR, OBJECT, body, operation
from trimtab_engine.limits.classes import MOST_CLASSES, NAME
from trimtab_engine.limits.limits import Capacity
from trimtab_engine.limits.parse import RANGES, Range
from trimtab_engine.limits.settings import BATCHING_RANGES, CLASS_RANGES, LARGEST_ID

PREFIX = "/v1/optimization/"
_SHUT = {401: "The token or the API key is missing or wrong."}
_TOLD = {
    "status": "The limits: wanted, in force, possible.",
    "metrics": "Percentiles of a sliding window.",
    "report": "Minutes, recommendations and a grade.",
    "tuner": "The tuner's decisions.",
    "alerts": "What is raised.",
}


def merged(engine: bytes | None, capacity: Capacity) -> dict[str, Any]:
    """The engine's document with ours; ours alone where the engine has none that can be read."""
    try:
        document: Any = json.loads(engine) if engine else None
    except ValueError:
        document = None
    own = _ours(capacity)
    if not isinstance(document, dict):
        return own
    parts = document.get("components") or {}
    document["paths"] = {**(document.get("paths") or {}), **own["paths"]}
    document["components"] = {
        **parts,
        "schemas": {**own["components"]["schemas"], **(parts.get("schemas") or {})},
        "securitySchemes": {**(parts.get("securitySchemes") or {}), **own["components"]["securitySchemes"]},
    }
    return document


def _ours(capacity: Capacity) -> dict[str, Any]:
    off = {**_SHUT, 404: "It is off in the configuration."}
    paths = {f"{PREFIX}{name}": {"get": operation(text, {200: text, **off}, OBJECT)} for name, text in _TOLD.items()}
    refused = {**_SHUT, 403: "The server has no token."}
    for name, text in (("start", "Starts the tuner."), ("stop", "Stops the tuner.")):
        paths[f"{PREFIX}{name}"] = {"post": _guarded(operation(text, {200: text, **refused, **off}, OBJECT))}
    answers = {200: "The status.", 400: "Nothing changed; each problem is named.", 503: "They cannot be stored."}
    reset = operation("Gives up what is kept of texts.", {200: "Done.", 409: "Requests run.", **refused}, OBJECT)
    paths[f"{PREFIX}reset_prefix_cache"] = {"post": _guarded(reset)}
    configure = operation("Changes limits and classes.", {**answers, **refused}, OBJECT)
    paths[f"{PREFIX}configure"] = {"post": {**_guarded(configure), "requestBody": body(_settings(capacity))}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "trimtab-engine", "version": "1"},
        "paths": paths,
        "components": {
            "schemas": {"Error": dict(ERROR)},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _guarded(one: dict[str, Any]) -> dict[str, Any]:
    return {**one, "security": [{"token": []}]}


def _settings(capacity: Capacity) -> dict[str, Any]:
    """What a document of settings may hold, as far as a schema can tell."""
    limits = {name: _number(allowed, capacity) for name, allowed in RANGES.items()}
    rule = {name: _number(allowed, capacity) for name, allowed in CLASS_RANGES.items()}
    classes = {
        "type": "object",
        "maxProperties": MOST_CLASSES,
        "propertyNames": {"pattern": NAME},
        "additionalProperties": _closed(rule),
    }
    batching = {name: _number(allowed, capacity) for name, allowed in BATCHING_RANGES.items()}
    identity = {"type": "integer", "minimum": 0, "maximum": LARGEST_ID}
    fields = {"limits": _closed(limits), "classes": classes, "batching": _closed(batching)}
    return {**_closed({**fields, "id": identity}), "anyOf": [{"required": [name]} for name in fields]}


def _closed(properties: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": dict(properties), "additionalProperties": False}


def _number(allowed: Range, capacity: Capacity) -> dict[str, Any]:
    kind = "integer" if allowed.whole else "number"
    bounds = {"minimum": allowed.low, "maximum": allowed.high(capacity)}
    return {"type": [kind, "null"] if allowed.optional else kind, **bounds}
