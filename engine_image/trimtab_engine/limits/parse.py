"""From a text to a document, and from its `limits` to limits, or to the problems that they have."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import yaml

from trimtab_engine.limits.limits import Capacity, Limits

LARGEST_TEXT = 64 * 1024  # characters
# Settings need a few dozen. PyYAML takes a second for some thousands, one in the other, and a minute for all that fit.
MOST_BRACKETS = 512


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What is wrong with which field; `field` is the way to it, such as `limits.max_running_requests`."""

    field: str
    message: str

    def sentence(self) -> str:
        return f"{self.field}: {self.message}"


@dataclass(frozen=True, kw_only=True)
class Refused:
    """Nothing changes, because of these problems."""

    problems: tuple[Problem, ...]

    def sentence(self) -> str:
        return "; ".join(problem.sentence() for problem in self.problems)


@dataclass(frozen=True, kw_only=True)
class Range:
    """What one field may hold. The upper bound comes from the capacity, with the words that explain it."""

    low: float
    high: Callable[[Capacity], float]
    why: str = ""
    whole: bool = True
    optional: bool = False


RANGES: Mapping[str, Range] = {
    "max_running_requests": Range(
        low=1, high=lambda capacity: capacity.running_requests, why=", the number that the engine was started for"
    ),
    "max_tokens_per_step": Range(
        low=1, high=lambda capacity: capacity.tokens_per_step, why=", the tokens that the engine was started for"
    ),
    "long_prompt_tokens_per_step": Range(
        low=0, high=lambda capacity: capacity.longest_context, why=", the longest context of the model"
    ),
    "kv_headroom_percent": Range(low=0, high=lambda _: 90),
    "max_queued_requests": Range(low=0, high=lambda _: 1_000_000, optional=True),
    "max_wait_seconds": Range(low=0.1, high=lambda _: 86_400, whole=False, optional=True),
}


def read_text(text: str) -> object | Refused:
    """The document of a settings text (YAML, and so JSON)."""
    if len(text) > LARGEST_TEXT:
        return _refused("document", f"is longer than {LARGEST_TEXT} characters")
    if text.count("[") + text.count("{") > MOST_BRACKETS:
        return _refused("document", f"has more than {MOST_BRACKETS} brackets")
    try:
        document: object = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        return _refused("document", f"is not YAML: {_first_line(error)}")
    if document is None:
        return _refused("document", "is empty")
    return document


def read_limits(wanted: object, *, base: Limits, capacity: Capacity) -> Limits | Refused:
    """`base` with the fields that are named, or everything that is wrong with them."""
    if not isinstance(wanted, Mapping):
        return _refused("limits", f"must be a mapping of limits, and is {kind_of(wanted)}")
    values, problems = read_fields(wanted, RANGES, "limits.", capacity)
    if problems:
        return Refused(problems=tuple(problems))
    limits = replace(base, **values)  # each value was held against its range
    return _goes_on(limits, capacity)


def read_fields(
    document: Mapping[Any, Any], ranges: Mapping[str, Range], prefix: str, capacity: Capacity
) -> tuple[dict[str, Any], list[Problem]]:
    """The known fields of a mapping, and what is wrong with each of its fields, which are told by `prefix` and name."""
    problems = [unknown(name_of(name), tuple(ranges), prefix) for name in document if name not in ranges]
    values = {str(name): value for name, value in document.items() if name in ranges}
    found = ((name, complaint(value, ranges[name], capacity)) for name, value in values.items())
    problems += [Problem(field=f"{prefix}{name}", message=message) for name, message in found if message]
    return values, problems


def _goes_on(limits: Limits, capacity: Capacity) -> Limits | Refused:
    """Refuses a step so small that a request could wait in it for ever."""
    tokens = limits.max_tokens_per_step
    needed = limits.max_running_requests * capacity.tokens_per_request
    if tokens < needed:
        each = "" if capacity.tokens_per_request == 1 else f" at {capacity.tokens_per_request} tokens each"
        return _refused(
            "limits.max_tokens_per_step",
            f"{tokens} is too few for limits.max_running_requests {limits.max_running_requests}{each}:"
            f" at least {needed}",
        )
    if tokens < capacity.smallest_step:
        return _refused(
            "limits.max_tokens_per_step",
            f"{tokens} is too few: this engine computes some prompts in steps of {capacity.smallest_step}",
        )
    return limits


def complaint(value: object, allowed: Range, capacity: Capacity) -> str | None:
    if value is None:
        return None if allowed.optional else "must be a number, and is null"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return f"must be a number, and is {kind_of(value)}"
    if isinstance(value, float) and (allowed.whole or not math.isfinite(value)):
        return f"must be {'a whole' if allowed.whole else 'an ordinary'} number, and is {value}"
    high = allowed.high(capacity)
    if not allowed.low <= value <= high:
        return f"must be {allowed.low:g} to {high:g}{allowed.why}, and is {_short(value)}"
    return None


def name_of(key: object) -> str:
    """A key as a text; YAML's may be numbers, of more digits than Python writes."""
    return _short(key) if isinstance(key, int | float) else str(key)


def unknown(name: str, known: tuple[str, ...], prefix: str) -> Problem:
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {prefix}{near[0]}?" if near else f"; known: {', '.join(known)}"
    return Problem(field=f"{prefix}{name[:80] or repr(name)}", message=f"is not known{hint}")


def _refused(field: str, message: str) -> Refused:
    return Refused(problems=(Problem(field=field, message=message),))


def kind_of(value: object) -> str:
    names = {dict: "a mapping", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(value), f"of the type {type(value).__name__}")


def _short(value: float) -> str:
    text = repr(value) if abs(value) < 1e30 else f"{value:.3g}" if isinstance(value, float) else "a huge number"
    return text[:40]


def _first_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
