"""PromQL as pure text. Values enter a query only through `quoted`; names are checked; the namespace is always matched.

The grammar is Prometheus' own: double-quoted strings with Go escapes, RE2 between anchors for `=~`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_METRIC = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_OPERATORS = frozenset({"=", "!=", "=~", "!~"})
_RE2_SPECIAL = re.compile(r"[\\.+*?()|\[\]{}^$]")

NAMESPACE, POD = "namespace", "pod"


def quoted(value: str) -> str:
    """`value` as a PromQL string. Raises ValueError for text that is not Unicode (lone surrogates)."""
    value.encode()
    return '"' + "".join(_escaped(character) for character in value) + '"'


def _escaped(character: str) -> str:
    if character in '\\"':
        return "\\" + character
    if character == "\n":
        return "\\n"
    code = ord(character)
    if 0x20 <= code < 0x7F:
        return character
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def re2_escaped(value: str) -> str:
    """`value` as a regular expression that matches it alone."""
    return _RE2_SPECIAL.sub(lambda found: "\\" + found.group(), value)


def metric_name(name: str) -> str:
    """`name`, or ValueError when it is no metric name."""
    if not _METRIC.fullmatch(name):
        raise ValueError(f"{name!r} is not a metric name")
    return name


def label_name(name: str) -> str:
    """`name`, or ValueError when it is no label name."""
    if not _LABEL.fullmatch(name):
        raise ValueError(f"{name!r} is not a label name")
    return name


@dataclass(frozen=True, slots=True)
class Matcher:
    """One label matcher. For `=~` and `!~` the value is a regular expression: build it with `one_of`."""

    label: str
    operator: str
    value: str

    def __str__(self) -> str:
        if self.operator not in _OPERATORS:
            raise ValueError(f"{self.operator!r} is not a matching operator")
        return f"{label_name(self.label)}{self.operator}{quoted(self.value)}"


def one_of(label: str, values: Iterable[str]) -> Matcher:
    """Matches exactly these values, in order of their names. Raises ValueError when there are none."""
    alternatives = sorted(set(values))
    if not alternatives:
        raise ValueError("a matcher needs a value")
    if len(alternatives) == 1:
        return Matcher(label, "=", alternatives[0])
    return Matcher(label, "=~", "|".join(re2_escaped(value) for value in alternatives))


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose series a query may see: these pods in these namespaces, by the labels that carry them."""

    namespaces: tuple[str, ...]
    pods: tuple[str, ...]
    namespace_label: str = NAMESPACE
    pod_label: str = POD

    def select(self, metric: str, matchers: Sequence[Matcher] = ()) -> str:
        """An instant selector; the namespace and the pod are always matched."""
        own = (one_of(self.namespace_label, self.namespaces), one_of(self.pod_label, self.pods))
        return f"{metric_name(metric)}{{{','.join(str(matcher) for matcher in (*own, *matchers))}}}"


def duration(seconds: float) -> str:
    """A range in whole seconds, at least one."""
    return f"{max(1, round(seconds))}s"


def over(function: str, selector: str, seconds: float) -> str:
    """`function` over a range of the selector: increase, rate, avg_over_time, max_over_time, count_over_time."""
    return f"{label_name(function)}({selector}[{duration(seconds)}])"


def grouped(aggregation: str, labels: Sequence[str], expression: str) -> str:
    """An aggregation by labels, e.g. `sum by (namespace, pod) (...)`."""
    return f"{label_name(aggregation)} by ({', '.join(label_name(label) for label in labels)}) ({expression})"


def tagged(expression: str, label: str, value: str) -> str:
    """The same series with one more label, so that several readings travel in one answer."""
    if "$" in value:
        raise ValueError("a tag is taken as it is and cannot refer to other labels")
    return f'label_replace({expression}, {quoted(label_name(label))}, {quoted(value)}, "", "")'


def renamed(expression: str, source: str, target: str) -> str:
    """The same series with the value of label `source` under `target`."""
    return f'label_replace({expression}, {quoted(label_name(target))}, "$1", {quoted(label_name(source))}, "(.+)")'


def either(expressions: Iterable[str]) -> str:
    """All series of all expressions; of series with equal labels those of the first."""
    parts = list(expressions)
    if not parts:
        raise ValueError("nothing to ask for")
    return parts[0] if len(parts) == 1 else " or ".join(f"({part})" for part in parts)
