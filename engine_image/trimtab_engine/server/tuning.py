"""Runs the tuner: gathers what it needs to know, applies what it decides, keeps and shows its decisions.

It never works against somebody else: while a settings file sets the limits it is off, and limits that a request set are
where it starts anew.
"""

from __future__ import annotations

import logging
from collections import deque
from enum import StrEnum
from pathlib import Path
from typing import Any

from trimtab_engine.config.observing import TunerConfig
from trimtab_engine.limits.limits import Limits
from trimtab_engine.monitor.measured import Outcome, Window
from trimtab_engine.monitor.monitor import FINE_SECONDS, FINE_SLOTS, Monitor
from trimtab_engine.server.control import Control, now
from trimtab_engine.server.request_metrics import RequestMetrics
from trimtab_engine.shared.leader import Leader
from trimtab_engine.tuner.facts import Decision, Measured, Targets
from trimtab_engine.tuner.tuner import Memory, begin, step

log = logging.getLogger("trimtab_engine.tuner")

KEPT_DECISIONS = 200
LONGEST_WINDOW = FINE_SECONDS * FINE_SLOTS


class State(StrEnum):
    """What the tuner does, as a label of the metric."""

    ON = "on"
    STOPPED = "stopped"  # by a request
    OWNED = "settings_file"  # the settings file sets the limits
    ELSEWHERE = "elsewhere"  # another API server of this engine runs it


class Tuning:
    """`look` in the event loop's thread about once a second, `apply` in any one thread after it."""

    def __init__(
        self, config: TunerConfig, *, control: Control, monitor: Monitor, metrics: RequestMetrics, folder: Path
    ) -> None:
        self.targets = Targets(
            ttft=config.ttft_p95_seconds,
            itl=config.itl_p95_seconds,
            fewest_requests=config.fewest_requests,
            fewest_running=config.fewest_running,
            admission=config.admission,
        )
        self.decisions: deque[dict[str, Any]] = deque(maxlen=KEPT_DECISIONS)
        self.changes = 0
        self._interval = config.interval_seconds
        self._control = control
        self._monitor = monitor
        self._metrics = metrics
        self._leader = Leader(folder, "tuner")
        self._stopped = False
        self._revision = control.wanted.revision
        self._memory = begin(control.wanted.limits)
        self._since: float | None = None
        self._running: list[int] = []
        self._waiting: list[int] = []
        self._next: tuple[Memory, Decision] | None = None

    @property
    def state(self) -> State:
        if self._control.owned_by_file:
            return State.OWNED
        if self._stopped:
            return State.STOPPED
        return State.ON if self._leader.is_me() else State.ELSEWHERE

    @property
    def effect(self) -> float | None:
        """The gain since the tuner began, 0.1 for a tenth; None where it is not known."""
        return self._memory.effect(self.targets)

    def missed(self, window: Window) -> bool:
        """Whether a target is missed in this window."""
        pairs = ((window.ttft, self.targets.ttft), (window.itl, self.targets.itl))
        return any(found is not None and target is not None and found.p95 > target for found, target in pairs)

    def stop(self) -> None:
        """The limits stay as they are."""
        self._stopped = True

    def start(self) -> None:
        """Begins anew with the limits that are there."""
        self._stopped = False
        self._begin()

    def look(self, at: float, *, running: int, waiting: int) -> None:
        """Decides where it is time to. `running` and `waiting` are those of this moment."""
        state = self.state
        for each in State:
            self._metrics.tuner.labels(each.value).set(each is state)
        self._next = None
        if state is not State.ON:
            self._since = None
            return
        if self._control.wanted.revision != self._revision:
            log.info("The tuner starts anew: the %s set other limits", self._control.wanted.source)
            self._begin()
        if self._control.notice.revision < self._revision or self._since is None:
            self._since = at  # an idle engine makes no step: nothing is measured under these limits yet
            self._running, self._waiting = [], []
            return
        self._running.append(running)
        self._waiting.append(waiting)
        # The slot in which the limits came into force holds tokens from before.
        if at - self._since < self._interval + FINE_SECONDS:
            return
        measured = self._measured(at, self._since)
        memory, decision = step(self._memory, measured, targets=self.targets, capacity=self._control.capacity)
        self._metrics.decisions.labels(decision.action.value, decision.reason.value).inc()
        if decision.changes:
            self._next = (memory, decision)
        elif memory != self._memory:  # it was judged: the next window begins
            self._memory = memory
            self._since, self._running, self._waiting = at, [], []

    def apply(self) -> None:
        """Puts the limits of the last decision in force. Where they cannot be stored, everything stays as it is."""
        if self._next is None:
            return
        memory, decision = self._next
        self._next = None
        try:
            wanted = self._control.tune(decision.limits, revision=self._revision)
        except OSError as error:
            log.error("The limits stay: those of the tuner cannot be stored: %s", error)
            return
        if wanted is None:
            return  # somebody else was faster; the next look begins anew
        self._memory, self._revision = memory, wanted.revision
        self._since = None
        self.changes += 1
        self.decisions.append({"at": now(), "revision": wanted.revision, **decision.as_json()})
        log.info("The tuner: %s", decision.message)

    def recover(self) -> None:
        """After an error of ours: the last limits that were good, and a fresh start from there."""
        good = self._memory.good
        if self._control.wanted.source == "tuner" and self._control.wanted.limits != good:
            self._control.tune(good, revision=self._control.wanted.revision)
        self._begin()

    def shown(self) -> dict[str, Any]:
        """What GET /v1/optimization/tuner tells."""
        effect = self.effect
        return {
            "state": self.state.value,
            "targets": {"ttft_p95_seconds": self.targets.ttft, "itl_p95_seconds": self.targets.itl},
            "limits": self._memory.limits.as_json(),
            "last_known_good": self._memory.good.as_json(),
            "changes": self.changes,
            "effect": None if effect is None else round(effect, 4),
            "decisions": list(self.decisions),
        }

    def close(self) -> None:
        self._leader.close()

    def _begin(self) -> None:
        self._memory = begin(self._limits())
        self._revision = self._control.wanted.revision
        self._since = None

    def _limits(self) -> Limits:
        return self._control.wanted.limits

    def _measured(self, at: float, since: float) -> Measured:
        span = min(LONGEST_WINDOW, max(FINE_SECONDS, at - since - FINE_SECONDS))
        window = self._monitor.window(at, span)
        samples = len(self._running)
        return Measured(
            seconds=window.seconds,
            ttft=window.ttft.p95 if window.ttft else None,
            first_tokens=window.ttft.count if window.ttft else 0,
            itl=window.itl.p95 if window.itl else None,
            gaps=window.itl.count if window.itl else 0,
            tokens_per_second=window.tokens_per_second,
            error_share=window.error_share,
            ended=window.ended,
            refused=window.outcomes.get(Outcome.REFUSED, 0),
            # Between two steps a place may be free for a moment; the queue counts where it was there for most of it.
            running=max(self._running, default=0),
            waiting=round(sum(self._waiting) / samples) if samples else 0,
        )
