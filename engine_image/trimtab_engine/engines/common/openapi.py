"""What our own engines answer, as an OpenAPI document: made of the models that read the requests. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic.json_schema import models_json_schema

from trimtab_engine.engines.common.requests import ChatRequest, CompletionRequest

REFERENCE = "#/components/schemas/{model}"
ERROR: Mapping[str, Any] = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string", "minLength": 1},
                "type": {"type": "string", "minLength": 1},
                "param": {"type": ["string", "null"]},
                "code": {"type": "integer"},
            },
        }
    },
}
OBJECT: Mapping[str, Any] = {"type": "object"}
# Of every request that makes the engine compute; 429 and 504 come from admission and time-outs.
_REFUSALS = {
    400: "Something in the request is wrong; `param` names it.",
    404: "The model is not served here.",
    413: "The body is too long.",
    429: "There is no room; `Retry-After` tells when to come back.",
    500: "The engine failed.",
    504: "It took too long.",
}


def document() -> dict[str, Any]:
    """The whole of it, for one version of this code."""
    wanted = [(CompletionRequest, "validation"), (ChatRequest, "validation")]
    _, found = models_json_schema(wanted, ref_template=REFERENCE)  # type: ignore[arg-type]
    return {
        "openapi": "3.1.0",
        "info": {"title": "trimtab-engine", "version": "1"},
        "paths": {
            "/v1/completions": {"post": _computing("Completes a text.", "CompletionRequest")},
            "/v1/chat/completions": {"post": _computing("Answers a conversation.", "ChatRequest")},
            "/v1/models": {"get": operation("The model that is served.", {200: "The models."}, OBJECT)},
            "/health": {
                "get": operation("How the server is.", {200: "It serves.", 503: "It does not."}, OBJECT, plain={503})
            },
            "/metrics": {"get": _metrics()},
            "/v1/conversations/{conversation_id}": {"delete": _ending()},
        },
        "components": {"schemas": {**found["$defs"], "Error": dict(ERROR)}},
    }


def operation(
    summary: str,
    answers: Mapping[int, str],
    schema: Mapping[str, Any],
    *,
    plain: frozenset[int] | set[int] = frozenset(),
) -> dict[str, Any]:
    """An operation: `schema` is that of the answers below 300 and of those in `plain`; the others are errors."""

    def content(status: int) -> dict[str, Any]:
        error = {"$ref": REFERENCE.format(model="Error")}
        return {"application/json": {"schema": dict(schema) if status < 300 or status in plain else error}}

    responses = {str(status): {"description": text, "content": content(status)} for status, text in answers.items()}
    return {"summary": summary, "responses": responses}


def body(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A body in JSON that has to be there."""
    return {"required": True, "content": {"application/json": {"schema": dict(schema)}}}


def _computing(summary: str, model: str) -> dict[str, Any]:
    one = operation(summary, {200: "The answer, or its events with `stream`.", **_REFUSALS}, OBJECT)
    one["responses"]["200"]["content"]["text/event-stream"] = {}
    return {**one, "requestBody": body({"$ref": REFERENCE.format(model=model)})}


def _ending() -> dict[str, Any]:
    one = operation("Ends a conversation: what is kept of it is given up.", {200: "Whether there was one."}, OBJECT)
    name = {"name": "conversation_id", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
    salt = {"name": "cache_salt", "in": "query", "schema": {"type": "string"}}
    return {**one, "parameters": [name, salt]}


def _metrics() -> dict[str, Any]:
    text = {"description": "Prometheus' text.", "content": {"text/plain": {"schema": {"type": "string"}}}}
    return {"summary": "What is measured.", "responses": {"200": text}}
