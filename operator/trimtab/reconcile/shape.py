"""The shape of the model that a resource serves: from its config.json in the spec, or by its name."""

from __future__ import annotations

import json
from functools import lru_cache

from trimtab.api.v1alpha1 import LLMDeployment
from trimtab.catalogue.models import ConfigError, ModelShape, find_model, read_config


def shape_of(deployment: LLMDeployment) -> ModelShape | None:
    """None where the registry does not know the name, and where the config.json cannot be read."""
    model = deployment.spec.model
    if model.config_json is None:
        return find_model(model.source or model.name)
    found = _read(model.config_json, model.name)
    return found if isinstance(found, ModelShape) else None


def shape_problem(deployment: LLMDeployment) -> str | None:
    """What is wrong with `spec.model.configJson`, as a sentence; None when nothing is, or it is not set."""
    model = deployment.spec.model
    found = None if model.config_json is None else _read(model.config_json, model.name)
    return found if isinstance(found, str) else None


@lru_cache(maxsize=256)
def _read(text: str, name: str) -> ModelShape | str:
    try:
        held = json.loads(text)
    except ValueError as error:
        return f"it is no JSON ({error}). Copy the model's config.json as it is, or remove it."
    if not isinstance(held, dict):
        return "it is no JSON object. Copy the model's config.json as it is, or remove it."
    try:
        return read_config(held, name=name).shape
    except (ConfigError, RecursionError) as error:
        return f"{error}"
