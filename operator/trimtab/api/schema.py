"""From pydantic's JSON schema to the structural OpenAPI schema that Kubernetes wants."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

_DROPPED = ("title", "$defs")


def structural(model: type[BaseModel]) -> dict[str, Any]:
    """The schema of a model: references resolved, optional fields merely absent, objects defaulted as a whole.

    Raises ValueError for what cannot be said structurally, such as a choice between two kinds of value.
    """
    document = model.model_json_schema(by_alias=True, mode="validation")
    return _converted(document, document.get("$defs", {}))


def without_defaults(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema of a status: what a writer leaves out stays out."""
    document = {key: value for key, value in schema.items() if key != "default"}
    for name in ("items", "additionalProperties"):
        if isinstance(document.get(name), dict):
            document[name] = without_defaults(document[name])
    if "properties" in document:
        document["properties"] = {name: without_defaults(child) for name, child in document["properties"].items()}
    return document


def _converted(node: Mapping[str, Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    node = _resolved(node, definitions)
    if node.get("x-kubernetes-int-or-string"):
        return _int_or_string(node)
    result = {key: value for key, value in node.items() if key not in (*_DROPPED, "properties", "items", "anyOf")}
    if "anyOf" in node:
        raise ValueError(f"a choice cannot be said structurally: {node}")
    if "const" in result:
        result["enum"] = [result.pop("const")]
    if "description" in result:
        result["description"] = " ".join(str(result["description"]).split())
    if isinstance(result.get("default"), dict):
        # The server fills in the fields of `{}` by their own defaults, but checks rules on the default as it stands.
        result["default"] = _without_nulls(result["default"]) if "x-kubernetes-validations" in result else {}
    elif result.get("default") in ([], "", None):
        result.pop("default", None)
    if "items" in node:
        result["items"] = _converted(node["items"], definitions)
    if "properties" in node:
        result["properties"] = {
            name: _converted(child, definitions) for name, child in sorted(node["properties"].items())
        }
        result.pop("additionalProperties", None)
        result["required"] = sorted(result.get("required", []))
        if not result["required"]:
            del result["required"]
    elif isinstance(node.get("additionalProperties"), dict):
        result["additionalProperties"] = _converted(node["additionalProperties"], definitions)
        result.pop("default", None)
    return result


def _resolved(node: Mapping[str, Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    """Follows `$ref`, and takes the one alternative that is not null; what stands beside them wins."""
    merged = dict(node)
    while "$ref" in merged or "anyOf" in merged or "allOf" in merged:
        if "$ref" in merged:
            target = definitions[str(merged.pop("$ref")).rpartition("/")[2]]
        else:
            key = "anyOf" if "anyOf" in merged else "allOf"
            choices = [choice for choice in merged[key] if choice.get("type") != "null"]
            if len(choices) != 1:
                return merged
            del merged[key]
            target = choices[0]
        merged = {**target, **merged}
    return merged


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return value


def _int_or_string(node: Mapping[str, Any]) -> dict[str, Any]:
    texts = [choice for choice in node["anyOf"] if choice.get("type") == "string"]
    return {
        "anyOf": [{"type": "integer"}, {"type": "string"}],
        "x-kubernetes-int-or-string": True,
        **{key: texts[0][key] for key in ("pattern", "maxLength") if key in texts[0]},
    }
