"""A resource with fields of a newer version: read where pods do not depend on them, and refused where they do."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from pydantic import ValidationError

from trimtab.api.v1alpha1 import LLMDeployment

SPEC: dict[str, Any] = {
    "model": {"name": "m75", "source": "/models/m75"},
    "engine": {"name": "vllm", "version": "0.32.0", "image": "registry.example.com/vllm:0.32.0"},
    "tuning": {"windows": [{"days": ["Monday"], "start": "22:00", "durationMinutes": 60}]},
}


def resource(*way: str | int) -> dict[str, Any]:
    """The resource with a field that nobody knows yet at the end of this way into its spec."""
    raw: dict[str, Any] = {"metadata": {"name": "chat"}, "spec": copy.deepcopy(SPEC)}
    place: Any = raw["spec"]
    for part in way[:-1]:
        place = place.setdefault(part, {}) if isinstance(place, dict) else place[part]
    place[way[-1]] = {"and": "more"}
    return raw


@pytest.mark.parametrize(
    "way",
    [
        ("rollout", "newer"),
        ("rollout", "margins", "newerPercent"),
        ("tuning", "windows", 0, "newer"),
        ("slo", "newer"),
        ("quality", "newer"),
        ("workload", "newer"),
    ],
)
def test_a_field_that_shapes_no_pod_is_left_aside_by_name(way: tuple[str | int, ...]) -> None:
    raw = resource(*way)
    found = LLMDeployment.read(raw)
    assert found.left_aside == ("spec." + ".".join(str(part) for part in way),)
    assert raw == resource(*way), "what was given is not changed"
    assert "newer" not in str(found.to_json())


@pytest.mark.parametrize(
    "way", [("newer",), ("engine", "newer"), ("engine", "config", "newer"), ("pod", "newer"), ("model", "newer")]
)
def test_a_field_that_may_shape_pods_is_refused(way: tuple[str | int, ...]) -> None:
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        LLMDeployment.read(resource(*way))


def test_several_are_all_named_and_another_mistake_is_still_one() -> None:
    raw = resource("rollout", "newer")
    raw["spec"]["tuning"]["newer"] = 1
    assert set(LLMDeployment.read(raw).left_aside) == {"spec.rollout.newer", "spec.tuning.newer"}
    raw["spec"]["replicas"] = -1
    with pytest.raises(ValidationError, match="replicas"):
        LLMDeployment.read(raw)


def test_a_resource_without_such_fields_has_none() -> None:
    assert LLMDeployment.read({"metadata": {"name": "chat"}, "spec": SPEC}).left_aside == ()
