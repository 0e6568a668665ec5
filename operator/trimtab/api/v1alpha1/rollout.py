"""`LLMDeployment.spec.rollout`: how a change of configuration is tried and taken over."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from trimtab.api.v1alpha1.base import ApiModel, Name, rules

Margin = Annotated[int, Field(strict=True, ge=2, le=300)]  # per cent


class Strategy(StrEnum):
    AUTO = "Auto"
    CANARY = "Canary"
    BLUE_GREEN = "BlueGreen"
    IN_PLACE = "InPlace"


class FieldConflicts(StrEnum):
    REFUSE = "Refuse"
    OVERRIDE = "Override"


class Route(ApiModel):
    """An HTTPRoute of the Gateway API that shares the traffic by weight.

    Each of its rules that names the Service NAME-stable must name NAME-canary beside it, and no other backend; NAME is
    the LLMDeployment's. Trimtab makes the two Services and changes these weights, nothing else of the route.
    """

    name: Name
    """The HTTPRoute, in the same namespace."""
    field_conflicts: FieldConflicts = FieldConflicts.REFUSE
    """What happens when a repository or another field manager owns the route's rules: Refuse reports it, Override
    changes the weights all the same; the owner must then ignore them."""


class Margins(ApiModel):
    """How much slower than stable a candidate may be."""

    itl_percent: Margin = 10
    """Of the mean time between two tokens."""
    ttft_percent: Margin = 20
    """Of the mean time until the first token."""
    e2e_percent: Margin = 20
    """Of the mean time until the end of a request."""


class Rollout(ApiModel):
    """How a change of configuration is tried and taken over."""

    model_config = rules(
        (
            "!has(self.steps) || "
            "(self.steps.isSorted() && self.steps.all(s, self.steps.filter(t, t == s).size() == 1))",
            "steps must rise",
            ".steps",
        ),
        (
            "!has(self.steps) || self.steps.size() == 0 || self.strategy in ['Auto', 'Canary']",
            "steps belong to the strategies Canary and Auto",
            ".steps",
        ),
        (
            "!has(self.minAvailable) || self.strategy in ['Auto', 'InPlace']",
            "minAvailable belongs to the strategies InPlace and Auto: the others keep all replicas",
            ".minAvailable",
        ),
    )
    strategy: Strategy = Strategy.AUTO
    """Canary: a few pods beside the stable ones, then replicas move. BlueGreen: as many pods as serve, then all traffic
    is switched. InPlace: one pod at a time gives its room to a new one. Auto: Canary where there is room for it, else
    InPlace where the load allows it."""
    steps: Annotated[tuple[Annotated[int, Field(strict=True, ge=1, le=99)], ...], Field(max_length=10)] | None = None
    """Canary: shares of the replicas in per cent, rising; the candidate is judged at each before it takes over. With a
    route they are shares of the traffic as well."""
    step_seconds: Annotated[int, Field(strict=True, ge=0, le=604_800)] = 60
    """The least time at each step."""
    route: Route | None = None
    """Traffic by weight; without it every ready pod has the same share. All requests must come through the route: the
    steps are then shares of the traffic, and the judge reckons with them."""
    min_available: Annotated[int, Field(strict=True, ge=0, le=1000)] | None = None
    """InPlace: the pods that must stay ready; all but one, and at least one, when it is absent."""
    canary_replicas: Annotated[int, Field(strict=True, ge=1, le=100)] = 1
    """Pods of a trial; never more than there are replicas."""
    minimum_requests: Annotated[int, Field(strict=True, ge=1, le=1_000_000)] = 30
    """Requests that a trial must have served before it may be called good."""
    margins: Margins = Margins()
    """How much slower than stable a candidate may be. Wider ones let more pass, and come to a verdict where pods alike
    differ by much. A latency that a plan trades is held to its objective alone."""
    ready_deadline_seconds: Annotated[int, Field(strict=True, ge=10, le=86_400)] = 600
    """A trial that is not ready by then is abandoned."""
    judge_deadline_seconds: Annotated[int, Field(strict=True, ge=10, le=604_800)] = 900
    """A trial that cannot be judged by then is rolled back."""
    watch_seconds: Annotated[int, Field(strict=True, ge=0, le=604_800)] = 120
    """How long a promoted configuration is watched while it can still be rolled back."""
    drain_seconds: Annotated[int, Field(strict=True, ge=1, le=86_400)] = 120
    """The longest time that a pod which is to end may take to answer what it has accepted."""
