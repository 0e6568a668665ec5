"""What an optimizer looks at: the request, the catalogue, the workload, and the effective value of each knob."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from trimtab.catalogue import Applies, Device, EngineCatalogue, Knob, find_device
from trimtab.model.bottleneck import BottleneckKind, Severity, TargetState
from trimtab.model.config import EngineConfig, KnobValue
from trimtab.model.plan import Change, Effect, Effort, Impact, Metric, Optimization, OptimizationType
from trimtab.model.reading import Known
from trimtab.model.slo import Latency
from trimtab.plan.request import Objective, PlanRequest
from trimtab.plan.rules import CPU_SLOPE, GPU_SLOPE, BatchModel, gain
from trimtab.plan.workload import Workload

_OBJECTIVE = {
    Objective.THROUGHPUT: Metric.THROUGHPUT,
    Objective.COST: Metric.THROUGHPUT,
    Objective.LATENCY: Metric.E2E,
}
_OF_LATENCY = {Latency.TTFT: Metric.TTFT, Latency.ITL: Metric.ITL, Latency.E2E: Metric.E2E}
LATENCY_OF = {metric: latency for latency, metric in _OF_LATENCY.items()}
# A finding less sure than this is not acted upon.
SURE = 0.5
# A metric that gets worse by more than this is named as traded.
_TRADED = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """Built once per proposal."""

    request: PlanRequest
    catalogue: EngineCatalogue
    device: Device
    workload: Workload
    knobs: Mapping[str, Knob]
    defaults: Mapping[str, KnobValue]
    effective: Mapping[str, KnobValue]
    by_arguments: Mapping[str, KnobValue | None]

    @classmethod
    def of(cls, request: PlanRequest, catalogue: EngineCatalogue, workload: Workload) -> Context:
        """Looks up what the request's engine, version and device stand for."""
        return cls(
            request=request,
            catalogue=catalogue,
            device=find_device(request.device),
            workload=workload,
            knobs=catalogue.knobs(request.version),
            defaults=catalogue.defaults(request.version, request.device),
            effective=catalogue.effective(request.version, request.device, request.config, request.arguments),
            by_arguments=catalogue.set_by_arguments(request.version, request.arguments),
        )

    @property
    def performs_as(self) -> tuple[str, str]:
        """Name and version of the engine as the performance model knows it."""
        return self.catalogue.performs_as(self.request.version)

    def value(self, knob: str) -> KnobValue | None:
        """The effective value, or None where it is not known."""
        return self.effective.get(knob)

    def number(self, knob: str) -> int | None:
        value = self.value(knob)
        return value if isinstance(value, int) and not isinstance(value, bool) else None

    def is_live(self, knob: str) -> bool:
        """Whether running pods take a new value of this knob."""
        return knob in self.knobs and self.knobs[knob].applies is Applies.LIVE

    def found(self, *kinds: BottleneckKind, least: Severity = Severity.MEDIUM) -> tuple[BottleneckKind, ...]:
        """Which of `kinds` were found, severe and sure enough to act upon."""
        return tuple(
            finding.kind
            for finding in self.request.health.bottlenecks
            if finding.kind in kinds and finding.severity >= least and finding.confidence >= SURE
        )

    def targets(self, metric: Metric) -> tuple[TargetState, ...]:
        latency = LATENCY_OF.get(metric)
        return tuple(state for state in self.request.health.targets if state.target.metric is latency)

    def violated(self, metric: Metric) -> TargetState | None:
        """The violated target of a latency that is furthest off."""
        states = [s for s in self.targets(metric) if s.met is False and isinstance(s.measured, Known)]
        return max(states, key=lambda s: s.measured.value / s.target.seconds, default=None)  # type: ignore[union-attr]

    @property
    def objective(self) -> Metric:
        return _OBJECTIVE[self.request.objective]

    @property
    def goals(self) -> tuple[Metric, ...]:
        """What an optimization must improve one of: the objective's metric, and every violated latency."""
        violated = [metric for metric in _OF_LATENCY.values() if self.violated(metric) is not None]
        return tuple(dict.fromkeys([self.objective, *violated]))

    def gain(self, effects: Iterable[Effect]) -> float:
        """The largest gain in a goal, as a share; 0 when no goal is improved."""
        return max((gain(effect) for effect in effects if effect.metric in self.goals), default=0.0)

    def batch_model(self) -> BatchModel | None:
        """The batching rule at what runs now; None when a figure that it needs is not known."""
        load = self.workload
        if load.itl is None or load.output is None or load.itl <= 0 or load.output <= 0:
            return None
        return BatchModel(
            slope=CPU_SLOPE if self.device.cpu else GPU_SLOPE,
            running=max(1.0, load.running),
            itl=load.itl,
            output=load.output,
            prefill=load.prefill or 0.0,
        )

    def refusal(self, knob: str, value: KnobValue | None) -> str | None:
        """Why a person's constraints or the catalogue do not allow this value; None when they do."""
        if knob not in self.knobs:
            return f"{self.catalogue.title} {self.request.version} has no {knob}"
        if knob in self.by_arguments:
            return f"{knob} is set by the engine arguments in the spec"
        if knob in self.request.locked:
            return f"{knob} is locked"
        if self.request.allowed and knob not in self.request.allowed:
            return f"{knob} is not among the knobs that may be tuned"
        bounds = self.request.bounds.get(knob)
        if bounds is None:
            return None
        number = self.defaults.get(knob) if value is None else value
        if not isinstance(number, int) or isinstance(number, bool):
            return f"{knob} has bounds, which {number!r} cannot be compared with"
        if bounds.minimum is not None and number < bounds.minimum:
            return f"{knob} {number} is below its lower bound {bounds.minimum}"
        if bounds.maximum is not None and number > bounds.maximum:
            return f"{knob} {number} is above its upper bound {bounds.maximum}"
        return None

    def remembered(self, changes: Mapping[str, KnobValue | None]) -> bool:
        """Whether the configuration that `changes` lead to has been tried and was bad."""
        return self.request.config.with_changes(changes) in self.request.tried

    def worst_tried(self, knob: str, above: int) -> int | None:
        """The smallest value of `knob` above `above` that was bad while everything else was as now."""
        others = self.request.config.with_changes({knob: None})
        values = [
            value
            for config in self.request.tried
            if config.with_changes({knob: None}) == others
            and isinstance(value := config.get(knob), int)
            and value > above
        ]
        return min(values, default=None)

    def optimization(
        self,
        type_: OptimizationType,
        *,
        title: str,
        description: str,
        changes: Mapping[str, tuple[KnobValue | None, str]],
        effects: tuple[Effect, ...],
        addresses: tuple[BottleneckKind, ...],
        risks: tuple[str, ...] = (),
        prerequisites: tuple[str, ...] = (),
        effort: Effort | None = None,
    ) -> Optimization:
        """Fills in what follows from the rest: current values, impact, metrics traded, whether outputs can change.

        Without an `effort` it is what the knobs need: none of running pods where they take all of the changes.
        """
        live = all(self.is_live(knob) for knob in changes)
        return Optimization(
            type=type_,
            title=title,
            description=description,
            changes=tuple(
                Change(knob, self.value(knob), value, reason) for knob, (value, reason) in sorted(changes.items())
            ),
            impact=_impact(self.gain(effects)),
            effects=effects,
            effort=effort or (Effort.LIVE if live else Effort.RESTART),
            addresses=addresses,
            risks=risks,
            prerequisites=prerequisites,
            trades=tuple(effect.metric for effect in effects if gain(effect) < -_TRADED),
            alters_outputs=any(self.knobs[knob].alters_outputs for knob in changes if knob in self.knobs),
        )


def hypothetical(context: Context, changes: Mapping[str, KnobValue | None]) -> EngineConfig:
    """The configuration after `changes`."""
    return context.request.config.with_changes(changes)


def _impact(gain_: float) -> Impact:
    if gain_ >= 1.0:
        return Impact.CRITICAL
    if gain_ >= 0.3:
        return Impact.HIGH
    return Impact.MEDIUM if gain_ >= 0.1 else Impact.LOW
