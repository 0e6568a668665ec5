"""The two resources as the API server hands them out."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, Self

from pydantic import ConfigDict, Field, PrivateAttr, ValidationError, field_validator

from trimtab.api.instants import from_rfc3339
from trimtab.api.v1alpha1.base import API_VERSION, ApiModel
from trimtab.api.v1alpha1.plan import PlanSpec, PlanStatus
from trimtab.api.v1alpha1.spec import Spec
from trimtab.api.v1alpha1.status import Status
from trimtab.model.rollout import Retry

PAUSED = "trimtab.dev/paused"
ROLLBACK = "trimtab.dev/rollback"
RETRY = "trimtab.dev/retry"
# Parts of the spec that no pod is rendered from.
_NOT_OF_PODS = frozenset({"workload", "slo", "tuning", "quality", "rollout"})


class Metadata(ApiModel):
    """The part of the object's metadata that is used."""

    model_config = ConfigDict(extra="ignore")
    name: str
    namespace: str = "default"
    uid: str = ""
    generation: int = 0
    resource_version: str = ""
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None
    owner_references: tuple[Mapping[str, Any], ...] = ()

    @field_validator("labels", "annotations", "owner_references", mode="before")
    @classmethod
    def _absent(cls, value: object) -> object:
        return {} if value is None else value


class LLMDeployment(ApiModel):
    """An LLM that is served, with its service level objective and the bounds of its tuning.

    `status` is kept as the API server gave it: a status that cannot be understood must not hide the spec.
    `trimtab.api.convert.rollout_state_from` reads the part that matters.
    """

    model_config = ConfigDict(extra="ignore")
    api_version: str = API_VERSION
    kind: str = "LLMDeployment"
    metadata: Metadata
    spec: Spec
    status: dict[str, Any] = Field(default_factory=dict)
    _left_aside: tuple[str, ...] = PrivateAttr(default=())

    @classmethod
    def read(cls, raw: Mapping[str, Any]) -> Self:
        """What the API server holds. Raises ValidationError where it is not understood.

        Fields that this version does not know are left aside where they do not shape pods: the definitions of a newer
        version fill in its defaults before the operator is upgraded, and a trial must be judged meanwhile.
        """
        try:
            return cls.model_validate(raw)
        except ValidationError as error:
            ways = [found["loc"] for found in error.errors() if found["type"] == "extra_forbidden"]
            if not ways or any(way[:1] != ("spec",) or way[1] not in _NOT_OF_PODS for way in ways):
                raise
            known = copy.deepcopy(dict(raw))
            for way in ways:
                _remove(known, way)
            made = cls.model_validate(known)
            made._left_aside = tuple(".".join(str(part) for part in way) for way in ways)
            return made

    @property
    def left_aside(self) -> tuple[str, ...]:
        """Fields of a newer version, by their way."""
        return self._left_aside

    @property
    def key(self) -> str:
        return f"{self.metadata.namespace}/{self.metadata.name}"

    @property
    def paused(self) -> bool:
        return self.metadata.annotations.get(PAUSED, "").lower() == "true"

    @property
    def rollback(self) -> str:
        """The revision that a person asked to abort or to roll back; empty when nobody did."""
        return self.metadata.annotations.get(ROLLBACK, "")

    @property
    def retry(self) -> Retry | None:
        """The failed revision that a person wants tried once more; None without one, or for a text of another form."""
        revision, _, instant = self.metadata.annotations.get(RETRY, "").partition("@")
        try:
            return Retry(revision, from_rfc3339(instant)) if revision else None
        except ValueError:
            return None

    @property
    def deleting(self) -> bool:
        return self.metadata.deletion_timestamp is not None

    @property
    def adopted(self) -> bool:
        return self.spec.target_ref is not None


class OptimizationPlan(ApiModel):
    """A proposal for one LLMDeployment."""

    model_config = ConfigDict(extra="ignore")
    api_version: str = API_VERSION
    kind: str = "OptimizationPlan"
    metadata: Metadata
    spec: PlanSpec
    status: dict[str, Any] = Field(default_factory=dict)


# The schemas of status, for the CRDs.
STATUS: dict[str, type[Status] | type[PlanStatus]] = {"LLMDeployment": Status, "OptimizationPlan": PlanStatus}


def _remove(document: Any, way: Sequence[int | str]) -> None:
    *parts, last = way
    for part in parts:
        document = document[part]
    del document[last]
