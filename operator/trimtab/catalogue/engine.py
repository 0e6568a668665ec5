"""An engine's catalogue: its knobs by version, the flags that carry a configuration, and what the engine refuses."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from trimtab.catalogue.arguments import set_by_arguments
from trimtab.catalogue.gpus import find_device
from trimtab.catalogue.knob import (
    Applies,
    CatalogueError,
    InvalidValue,
    Knob,
    Rendering,
    UnknownKnob,
    Version,
    parse_version,
)
from trimtab.model.config import EngineConfig, KnobValue

CPU: Final = "cpu"


class Problem(str):
    """A sentence about a configuration; `certain` says that the engine refuses it, as its parser or validators do."""

    __slots__ = ("certain",)
    certain: bool

    def __new__(cls, text: str, *, certain: bool) -> Problem:
        problem = super().__new__(cls, text)
        problem.certain = certain
        return problem


@dataclass(frozen=True, slots=True)
class Conflict:
    """A rule over several knobs: (values that are set, is it a CPU or None when unknown) -> sentence, or None."""

    check: Callable[[Mapping[str, KnobValue], bool | None], str | None]
    certain: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineCatalogue:
    """All that is known about configuring one engine, for the versions `since` <= v < `until`."""

    name: str
    title: str
    since: Version
    until: Version
    all_knobs: tuple[Knob, ...] = ()
    conflicts: tuple[Conflict, ...] = ()
    note: str = ""
    scores_text: bool = False  # whether its API is known to give the log-probabilities of a text
    inside: tuple[str, str] | None = None  # name and version of the engine that it wraps, and whose speed it has

    @property
    def tunable(self) -> bool:
        """Whether there is anything to tune; an engine without knobs is watched and explained only."""
        return bool(self.all_knobs)

    @property
    def covered(self) -> str:
        """The versions that the catalogue covers, for a message."""
        return f"{_text(self.since)} up to, but not including, {_text(self.until)}"

    def performs_as(self, version: str) -> tuple[str, str]:
        """Name and version of the engine whose speed and memory it has: its own, or those of the one inside."""
        return self.inside or (self.name, version)

    def supports(self, version: str) -> bool:
        """Whether the flags of this version are known. A version that is not known gets no flag from here."""
        parsed = parse_version(version)
        return parsed is not None and self.since <= parsed < self.until

    def version_or_newest(self, version: str) -> Version:
        """The release numbers of a known version; of the newest that the catalogue covers for any other."""
        if self.supports(version):
            return self._parse(version)
        major, minor, patch = self.until
        return (major, minor, patch - 1) if patch else (major, minor - 1, 0)

    def knobs(self, version: str) -> Mapping[str, Knob]:
        """Neutral name -> knob, sorted, for this version; empty for a version that is not supported."""
        if not self.supports(version):
            return {}
        parsed = self._parse(version)
        found = {knob.name: knob for knob in self.all_knobs if knob.flag(parsed) is not None}
        return dict(sorted(found.items()))

    def defaults(self, version: str, device: str) -> Mapping[str, KnobValue]:
        """What the engine uses for knobs that are not set, where that is known.

        `device` is "cpu" or a GPU type such as "H100"; an unknown GPU type counts as a GPU of unknown memory, whose
        size-dependent defaults are left out.
        """
        parsed = parse_version(version)
        if parsed is None or not self.supports(version):
            return {}
        values = {name: knob.default(parsed, find_device(device)) for name, knob in self.knobs(version).items()}
        return {name: value for name, value in values.items() if value is not None}

    def effective(
        self, version: str, device: str, config: EngineConfig, arguments: Sequence[str] = ()
    ) -> Mapping[str, KnobValue]:
        """What holds on a pod: the user's arguments over `config` over the engine's defaults, where each is known."""
        values = {**self.defaults(version, device), **config}
        for name, value in self.set_by_arguments(version, arguments).items():
            values.pop(name, None)
            if value is not None:
                values[name] = value
        return values

    def flags(self, version: str, config: EngineConfig) -> tuple[str, ...]:
        """The command line tokens for `config`, in the order of the knobs' names; none for knobs that are live.

        Raises UnknownKnob for a knob that this version lacks (or for any knob of a version that is not known) and
        InvalidValue for a value outside its range. Combinations are not checked here: see `problems`.
        """
        parsed = self._parse(version)
        known = self.knobs(version)
        tokens: list[str] = []
        objects: dict[str, dict[str, KnobValue]] = {}
        for name, value in config.items():
            knob = known.get(name)
            flag = knob.flag(parsed) if knob else None
            if knob is None or flag is None:
                raise UnknownKnob(name, self._unknown(version, name))
            refusal = knob.refusal(parsed, value)
            if refusal:
                raise InvalidValue(name, f"{refusal} Correct spec.engine.config.{name}, or remove it for the default.")
            if flag.live:
                continue
            if flag.rendering is Rendering.JSON:
                objects.setdefault(flag.name, {})[flag.key] = value
            else:
                tokens.extend(_render(flag.name, flag.rendering, value))
        for name, content in sorted(objects.items()):
            tokens += [f"--{name}", json.dumps(content, sort_keys=True, separators=(",", ":"))]
        return tuple(tokens)

    def live_knobs(self, version: str) -> frozenset[str]:
        """The knobs whose new values running pods take, through the settings file."""
        return frozenset(name for name, knob in self.knobs(version).items() if knob.applies is Applies.LIVE)

    def live_limits(self, version: str, config: EngineConfig) -> dict[str, float]:
        """The limits that stand in the settings file for `config`, by the engine's own names."""
        parsed, known = self._parse(version), self.knobs(version)
        limits: dict[str, float] = {}
        for name, value in config.items():
            flag = known[name].flag(parsed) if name in known else None
            if flag is not None and flag.live:
                limits[flag.name] = int(value) / 1000 if flag.rendering is Rendering.LIVE_SECONDS else int(value)
        return limits

    def problems(self, version: str, config: EngineConfig, *, device: str = "") -> tuple[Problem, ...]:
        """What is wrong with `config`, a sentence each; empty when nothing is known against it.

        A certain problem is one that the engine's parser or validators refuse on every machine. Others depend on the
        machine or the model: the engine decides, and a canary may ask it.
        """
        return tuple(self._problems(version, config, device))

    def set_by_arguments(self, version: str, arguments: Sequence[str]) -> Mapping[str, KnobValue | None]:
        """The knobs that a user's own arguments set: those are locked. None: set, to a value that is not understood."""
        parsed = parse_version(version)
        return {} if parsed is None else set_by_arguments(self.knobs(version), parsed, arguments)

    def _problems(self, version: str, config: EngineConfig, device: str) -> Iterator[Problem]:
        readable: dict[str, KnobValue] = {}
        for name, value in config.items():
            try:
                self.flags(version, EngineConfig({name: value}))
            except CatalogueError as error:
                yield Problem(str(error), certain=True)
            else:
                readable[name] = value
        on_cpu = None if not device else device.lower() == CPU
        for conflict in self.conflicts:
            sentence = conflict.check(readable, on_cpu)
            if sentence:
                yield Problem(sentence, certain=conflict.certain)
        if on_cpu:
            known = self.knobs(version)
            for name in readable:
                if known[name].gpu_only and readable[name] not in (False, 0):
                    yield Problem(f"{name} has no effect on a CPU, or keeps the engine from starting.", certain=False)

    def _parse(self, version: str) -> Version:
        return parse_version(version) or (0, 0, 0)

    def _unknown(self, version: str, name: str) -> str:
        if not self.tunable:
            return f"{self.title} is watched only: {self.note} Remove {name} from spec.engine.config."
        if not self.supports(version):
            return (
                f"The flags of {self.title} {version} are not known (known are {self.covered}), so {name} cannot be"
                " set. Use a known version, or pass the flag in spec.engine.args, where it is not tuned."
            )
        return (
            f"{self.title} {version} has no {name}. Remove it from spec.engine.config; known are "
            f"{', '.join(self.knobs(version))}."
        )


def _render(name: str, rendering: Rendering, value: KnobValue) -> tuple[str, ...]:
    if rendering is Rendering.SWITCH:
        return (f"--{name}",) if value else (f"--no-{name}",)
    if rendering is Rendering.PRESENCE:
        return (f"--{name}",) if value else ()
    if rendering is Rendering.ABSENCE:
        return () if value else (f"--{name}",)
    if rendering is Rendering.PERCENT:
        return f"--{name}", f"{int(value) / 100:.2f}"
    if rendering is Rendering.MEBIBYTES:
        return f"--{name}", str(int(value) << 20)
    return f"--{name}", str(value)


def _text(version: Version) -> str:
    return ".".join(str(part) for part in version)
