"""The limits of one server: who may set them, what is wanted, and what the engine has in force."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from trimtab_engine.config.model import Config
from trimtab_engine.limits.batching import Batching
from trimtab_engine.limits.classes import Classes, Rule
from trimtab_engine.limits.limits import Capacity, Limits, within
from trimtab_engine.limits.parse import Refused, read_text
from trimtab_engine.limits.settings import Settings, fitting, read_settings
from trimtab_engine.server.metrics import Metrics
from trimtab_engine.server.settings import Look, SettingsFile
from trimtab_engine.shared.board import Boards, Notice
from trimtab_engine.shared.wanted import Wanted, WantedFile

log = logging.getLogger("trimtab_engine.control")


def now() -> str:
    """The time of day, ISO 8601, UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


class Control:
    """`resting` are the limits that the engine was started with, bounded by `capacity`."""

    def __init__(
        self,
        *,
        config: Config,
        folder: Path,
        capacity: Capacity,
        resting: Limits,
        metrics: Metrics,
    ) -> None:
        self.capacity = capacity
        self.settings_problem = ""
        self._had_settings = False
        self._metrics = metrics
        self._file = WantedFile(folder)
        self._settings = SettingsFile(config.settings_file) if config.settings_file else None
        given = {name: value for name, value in config.limits.model_dump().items() if value is not None}
        rules = {name: Rule(**rule.model_dump()) for name, rule in config.classes.items()}
        batching = Batching(**config.batching.model_dump())
        asked = Settings(limits=replace(resting, **given), classes=Classes(rules=rules), batching=batching)
        self.start = fitting(asked, capacity)
        if self.start != asked:
            log.warning("The settings at the start are not what the engine can: %s became %s", asked, self.start)
        self._boards = Boards(folder)
        self.wanted = self._begin()

    def tick(self) -> None:
        """Takes up what changed since the last call: the settings file, another API server's change, the engine."""
        look = self._settings.news() if self._settings else None
        if look is not None:
            self._take(look)
        other = self._file.read_if_changed()
        if other is not None:
            self._adopt(other)
        self._boards.find()
        notice = self.notice
        self._metrics.in_force(notice.revision)
        if notice.revision >= self.wanted.revision or not notice.running + notice.waiting:
            # An idle engine makes no step: what is wanted holds from its next one on.
            self._metrics.settings_id(self.wanted.id)

    @property
    def notice(self) -> Notice:
        """What the engine did last."""
        return self._boards.read()

    def configure(self, document: object) -> Wanted | Refused:
        """Takes a request's document: the fields that it names change, the others stay."""
        problems: list[Refused] = []

        def decide(current: Wanted | None) -> Wanted | None:
            base = current.settings if current else self.start
            settings = read_settings(document, base=base, capacity=self.capacity)
            if isinstance(settings, Refused):
                problems.append(settings)
                return None
            return self._next(current, settings, "request")

        new = self._file.change(decide)
        return self._outcome("request", new, problems)

    @property
    def owned_by_file(self) -> bool:
        """Whether a settings file sets the limits: there is one, or was."""
        return self._had_settings

    def tune(self, limits: Limits, *, revision: int) -> Wanted | None:
        """Takes the tuner's limits; None where what is wanted is not `revision` any more, or the same already."""
        bounded = within(limits, self.capacity)

        def decide(current: Wanted | None) -> Wanted | None:
            if current is None or current.revision != revision:
                return None
            return self._next(current, replace(current.settings, limits=bounded, id=0), "tuner")

        new = self._file.change(decide)
        if new is not None:
            self._outcome("tuner", new, [])
        return new

    def status(self) -> dict[str, Any]:
        """What is wanted, in force, possible, and what the settings file is."""
        wanted, in_force = self.wanted, self.notice.revision
        return {
            "limits": wanted.limits.as_json(),
            "classes": wanted.classes.as_json(),
            "batching": wanted.batching.as_json(),
            "id": wanted.id,
            "revision": wanted.revision,
            "in_force": in_force >= wanted.revision,
            "revision_in_force": in_force,
            "source": wanted.source,
            "since": wanted.since,
            "capacity": {
                "max_running_requests": self.capacity.running_requests,
                "max_tokens_per_step": self.capacity.tokens_per_step,
                "longest_context": self.capacity.longest_context,
            },
            "settings_file": {
                "path": str(self._settings.path) if self._settings else None,
                "problem": self.settings_problem or None,
            },
        }

    def _take(self, look: Look) -> None:
        """The settings file is the whole of the settings: what it does not name is as at the start."""
        if look.text is None:
            if look.gone and not self._had_settings:
                return  # an optional file that nobody has written yet
            self._settings_outcome(look.problem)
            return
        self._had_settings = True
        document = read_text(look.text)
        settings = document if isinstance(document, Refused) else self._settings_from(document)
        if isinstance(settings, Refused):
            self._settings_outcome(settings.sentence())
            return
        try:
            new = self._file.change(lambda current: self._next(current, settings, "file"))
        except OSError as error:  # a full disk may have room again at the next look
            self._settings_outcome(f"cannot be taken up: {error.strerror}")
            if self._settings:
                self._settings.again()
            return
        self._settings_outcome("")
        self._outcome("file", new, [])

    def _settings_from(self, document: object) -> Settings | Refused:
        return read_settings(document, base=self.start, capacity=self.capacity)

    def _settings_outcome(self, problem: str) -> None:
        news, self.settings_problem = problem != self.settings_problem, problem
        if problem and news:
            self._metrics.settings("file", accepted=False)
            log.error("The limits stay as they are. The settings file: %s", problem)

    def _outcome(self, source: str, new: Wanted | None, problems: list[Refused]) -> Wanted | Refused:
        self._metrics.settings(source, accepted=not problems)
        if problems:
            log.warning("The limits stay as they are: %s", problems[0].sentence())
            return problems[0]
        if new is not None:
            self._adopt(new)
        return self.wanted

    def _next(self, current: Wanted | None, settings: Settings, source: str) -> Wanted | None:
        """What follows `current`; None where the settings are the same."""
        if current is not None and current.settings == settings:
            return None
        return Wanted(
            limits=settings.limits,
            classes=settings.classes,
            batching=settings.batching,
            id=settings.id,
            revision=current.revision + 1 if current else 1,
            source=source,
            since=now(),
        )

    def _begin(self) -> Wanted:
        """The first API server writes the limits of the start, the others find them."""
        first = self._file.change(lambda current: self._next(current, self.start, "start") if current is None else None)
        wanted = first or self._file.read()
        if wanted is None:
            raise RuntimeError("the limits that were just written are gone")
        self._metrics.wanted(wanted.limits, wanted.revision)
        return wanted

    def _adopt(self, wanted: Wanted) -> None:
        if wanted.revision < self.wanted.revision:
            return  # another thread was faster
        if wanted.revision > self.wanted.revision:
            log.info("Limits %d, from the %s: %s", wanted.revision, wanted.source, wanted.limits)
        self.wanted = wanted
        self._metrics.wanted(wanted.limits, wanted.revision)
