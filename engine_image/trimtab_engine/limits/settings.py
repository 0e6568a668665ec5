"""All that may change while the engine serves, and how a document becomes it. A document with one problem is refused.

id: 271828
limits:
  max_running_requests: 16
classes:
  batch: {priority: 10, queue_percent: 50}
batching:
  target_token_seconds: 0.05
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from trimtab_engine.limits.batching import BATCHING, Batching
from trimtab_engine.limits.classes import MOST_CLASSES, RULES, Classes, Rule, is_name
from trimtab_engine.limits.limits import Capacity, Limits, within
from trimtab_engine.limits.parse import (
    Problem,
    Range,
    Refused,
    complaint,
    kind_of,
    name_of,
    read_fields,
    read_limits,
    unknown,
)

LARGEST_ID = 2**53 - 1  # what a metric, which is a double, still tells apart
KEYS = ("limits", "classes", "batching", "id")

CLASS_RANGES: Mapping[str, Range] = {
    "priority": Range(low=-1000, high=lambda _: 1000),
    "queue_percent": Range(low=0, high=lambda _: 100),
}
BATCHING_RANGES: Mapping[str, Range] = {
    "target_token_seconds": Range(low=0.001, high=lambda _: 600, whole=False, optional=True),
    "fewest_requests": Range(
        low=1, high=lambda capacity: capacity.running_requests, why=", the number that the engine was started for"
    ),
    "longest_hold_seconds": Range(low=0, high=lambda _: 86_400, whole=False),
}
_ID = Range(low=0, high=lambda _: LARGEST_ID)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """`id` is a number by which whoever wrote the document knows it again; 0 where it has none."""

    limits: Limits
    classes: Classes = field(default_factory=Classes)
    batching: Batching = field(default_factory=Batching)
    id: int = 0


def fitting(settings: Settings, capacity: Capacity) -> Settings:
    """What can be of these settings: limits below the capacity, no priorities and no adaptive batches where the engine
    has none."""
    rules, batching = settings.classes.rules, settings.batching
    if not capacity.adaptive:
        batching = replace(batching, target_token_seconds=None)
    batching = replace(batching, fewest_requests=min(batching.fewest_requests, capacity.running_requests))
    if not capacity.priorities:
        rules = {name: replace(rule, priority=0) for name, rule in rules.items()}
    limits = within(settings.limits, capacity)
    return replace(settings, limits=limits, classes=Classes(rules=dict(rules)), batching=batching)


def read_settings(document: object, *, base: Settings, capacity: Capacity) -> Settings | Refused:
    """`base` with what the document names, or everything that is wrong with the document.

    Limits and what is said of batching are named one by one; classes are named as a whole, so that one that is left out
    is gone.
    """
    if not isinstance(document, Mapping):
        message = f"must be a mapping with the key `limits`, `classes` or `batching`, and is {kind_of(document)}"
        return Refused(problems=(Problem(field="document", message=message),))
    problems = [unknown(name_of(name), KEYS, "") for name in document if name not in KEYS]
    if not document.keys() & {"limits", "classes", "batching"}:
        problems.append(Problem(field="limits", message="is missing"))
    limits = read_limits(document["limits"], base=base.limits, capacity=capacity) if "limits" in document else None
    classes = _read_classes(document["classes"], capacity) if "classes" in document else None
    batching = _read_batching(document["batching"], base.batching, capacity) if "batching" in document else None
    number = document.get("id", 0)
    wrong = complaint(number, _ID, capacity)
    problems += [
        problem for part in (limits, classes, batching) if isinstance(part, Refused) for problem in part.problems
    ]
    problems += [Problem(field="id", message=wrong)] if wrong else []
    if problems or isinstance(limits, Refused) or isinstance(classes, Refused) or isinstance(batching, Refused):
        return Refused(problems=tuple(problems))
    return Settings(
        limits=limits or base.limits,
        classes=base.classes if classes is None else classes,
        batching=batching or base.batching,
        id=number,
    )


def _read_batching(document: object, base: Batching, capacity: Capacity) -> Batching | Refused:
    if not isinstance(document, Mapping):
        return _refused("batching", f"must be a mapping with {', '.join(BATCHING)}, and is {kind_of(document)}")
    values, problems = read_fields(document, BATCHING_RANGES, "batching.", capacity)
    if not problems and values.get("target_token_seconds") is not None and not capacity.adaptive:
        message = "needs an engine with a batcher of ours (deepspeed, onnx, pytorch); vLLM batches by itself"
        problems.append(Problem(field="batching.target_token_seconds", message=message))
    return Refused(problems=tuple(problems)) if problems else replace(base, **values)


def _read_classes(document: object, capacity: Capacity) -> Classes | Refused:
    if not isinstance(document, Mapping):
        return _refused("classes", f"must be a mapping of classes, and is {kind_of(document)}")
    if len(document) > MOST_CLASSES:
        return _refused("classes", f"are {len(document)}, and at most {MOST_CLASSES} may be")
    problems = [problem for name, rule in document.items() for problem in _of_class(name, rule, capacity)]
    if problems:
        return Refused(problems=tuple(problems))
    return Classes(rules={str(name): Rule(**rule) for name, rule in document.items()})


def _of_class(name: object, rule: object, capacity: Capacity) -> list[Problem]:
    if not isinstance(name, str) or not is_name(name):
        message = f"has a class {name_of(name)[:80]!r}: a name has up to 63 lower-case letters, digits and dashes"
        return [Problem(field="classes", message=message)]
    place = f"classes.{name}"
    if not isinstance(rule, Mapping):
        return [Problem(field=place, message=f"must be a mapping with {' and '.join(RULES)}, and is {kind_of(rule)}")]
    _, problems = read_fields(rule, CLASS_RANGES, f"{place}.", capacity)
    if not problems and rule.get("priority") and not capacity.priorities:
        message = "needs an engine that takes requests by priority: start vLLM with --scheduling-policy priority"
        problems.append(Problem(field=f"{place}.priority", message=message))
    return problems


def _refused(field: str, message: str) -> Refused:
    return Refused(problems=(Problem(field=field, message=message),))
