"""A knob: one neutral setting, its range, what changing it costs, and the engine flag that carries it by version."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import TypeAlias

from trimtab.catalogue.gpus import Device
from trimtab.model.config import KnobValue

Version: TypeAlias = tuple[int, int, int]

_VERSION = re.compile(r"v?(\d+)\.(\d+)(?:\.(\d+))?(?:[.+_-]?[a-z0-9][a-z0-9.+_-]*)?", re.IGNORECASE)
_SAFE_TEXT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:-]{0,252}")


def parse_version(text: str) -> Version | None:
    """`0.32.0`, `v0.32`, `0.32.0+cpu`, `0.5.10.post1` -> release numbers; None when it is no version."""
    match = _VERSION.fullmatch(text.strip())
    if match is None:
        return None
    major, minor, patch = match.groups()
    return int(major), int(minor), int(patch or 0)


class CatalogueError(ValueError):
    """A configuration cannot be expressed as flags; the message names the knob and the way out."""

    def __init__(self, knob: str, message: str) -> None:
        super().__init__(message)
        self.knob = knob


class UnknownKnob(CatalogueError):  # noqa: N818 - named like the condition that it becomes
    """The engine, in this version, has no such knob."""


class InvalidValue(CatalogueError):  # noqa: N818 - named like the condition that it becomes
    """The knob exists and this value is not one of its values."""


class KnobType(StrEnum):
    INTEGER = "integer"
    BOOLEAN = "boolean"
    TEXT = "text"


class Applies(StrEnum):
    """How a new value reaches a serving pod."""

    LIVE = "Live"
    RESTART = "Restart"


class Risk(IntEnum):
    """What can go wrong with a wrong value: LOW is slower, MEDIUM can refuse to start, HIGH can change answers."""

    LOW = 1
    MEDIUM = 2
    HIGH = 3


class Rendering(StrEnum):
    """How a value becomes command line tokens."""

    VALUE = "value"  # --flag 32
    SWITCH = "switch"  # --flag or --no-flag; vLLM refuses `--flag True`
    PRESENCE = "presence"  # --flag when true, nothing when false
    ABSENCE = "absence"  # --disable-flag when false, nothing when true
    PERCENT = "percent"  # 92 -> --flag 0.92
    MEBIBYTES = "mebibytes"  # 512 -> --flag 536870912
    JSON = "json"  # one key of a JSON object that several knobs share
    LIVE = "live"  # no token: a key of the limits in the settings file, which the engine watches
    LIVE_SECONDS = "live seconds"  # the same, 500 -> 0.5


@dataclass(frozen=True, slots=True)
class Flag:
    """An engine flag for the versions `since` <= v < `until`; None is open within what the catalogue covers."""

    name: str
    rendering: Rendering = Rendering.VALUE
    key: str = ""  # for JSON: the key in the object
    since: Version | None = None
    until: Version | None = None

    def covers(self, version: Version) -> bool:
        return (self.since is None or version >= self.since) and (self.until is None or version < self.until)

    @property
    def live(self) -> bool:
        """Whether the value stands in the settings file and not on the command line."""
        return self.rendering in (Rendering.LIVE, Rendering.LIVE_SECONDS)


@dataclass(frozen=True, slots=True)
class Choice:
    """One value of a closed list, for the versions `since` <= v < `until`."""

    value: str
    since: Version | None = None
    until: Version | None = None

    def covers(self, version: Version) -> bool:
        return (self.since is None or version >= self.since) and (self.until is None or version < self.until)


def choices(*values: str, since: Version | None = None, until: Version | None = None) -> tuple[Choice, ...]:
    """The values as choices of the same versions."""
    return tuple(Choice(value, since, until) for value in values)


Default: TypeAlias = Callable[[Version, Device], KnobValue | None]


def always(value: KnobValue | None) -> Default:
    """A default that depends on nothing."""
    return lambda _version, _device: value


_NO_DEFAULT: Default = always(None)


def by_version(*steps: tuple[Version, KnobValue]) -> Default:
    """The value of the last step that the version has reached; steps ascend and the first reaches back."""

    def pick(version: Version, _device: Device) -> KnobValue:
        reached = [value for since, value in steps if version >= since]
        return reached[-1] if reached else steps[0][1]

    return pick


@dataclass(frozen=True, slots=True, kw_only=True)
class Knob:
    """One neutral setting of an engine.

    `closed` says that the engine's own parser refuses a value that is not among `choices`. Without it the choices
    are what is known, and another value goes to the engine, which decides (a canary shows the answer).
    """

    name: str
    type: KnobType
    description: str
    flags: tuple[Flag, ...]
    minimum: int | None = None
    maximum: int | None = None
    choices: tuple[Choice, ...] = ()
    closed: bool = False
    unit: str = ""
    default: Default = _NO_DEFAULT
    applies: Applies = Applies.RESTART
    risk: Risk = Risk.LOW
    alters_outputs: bool = False
    gpu_only: bool = False

    def flag(self, version: Version) -> Flag | None:
        """The flag of this version, or None: then the knob does not exist in it."""
        return next((flag for flag in self.flags if flag.covers(version)), None)

    def values(self, version: Version) -> tuple[str, ...]:
        """The known choices of this version."""
        return tuple(choice.value for choice in self.choices if choice.covers(version))

    def refusal(self, version: Version, value: KnobValue) -> str | None:
        """Why `value` cannot be sent, as a sentence with the way out; None when it can."""
        if self.type is KnobType.BOOLEAN:
            return None if isinstance(value, bool) else f"{self.name} is true or false, not {value!r}."
        if self.type is KnobType.INTEGER:
            return self._integer_refusal(value)
        return self._text_refusal(version, value)

    def _integer_refusal(self, value: KnobValue) -> str | None:
        if isinstance(value, bool) or not isinstance(value, int):
            return f"{self.name} is a whole number{self._in_unit}, not {value!r}."
        if self.minimum is not None and value < self.minimum:
            return f"{self.name} is at least {self.minimum}{self._in_unit}, not {value}."
        if self.maximum is not None and value > self.maximum:
            return f"{self.name} is at most {self.maximum}{self._in_unit}, not {value}."
        return None

    def _text_refusal(self, version: Version, value: KnobValue) -> str | None:
        if not isinstance(value, str):
            return f"{self.name} is a text, not {value!r}."
        known = self.values(version)
        if self.closed and value not in known:
            return f"{self.name} is one of {', '.join(known)}, not {value!r}."
        if not _SAFE_TEXT.fullmatch(value):
            return f"{self.name} begins with a letter or digit and holds letters, digits and . _ / : - only."
        return None

    @property
    def _in_unit(self) -> str:
        return f" {self.unit}" if self.unit else ""
