"""What runs beside the requests: monitor, traces, alerts and tuner, each where the configuration asks for it."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trimtab_engine.admission.decide import Load, waiting
from trimtab_engine.alerts.detect import Reading
from trimtab_engine.config.model import Config
from trimtab_engine.gpus.health import Verdict
from trimtab_engine.monitor.measured import Outcome, Window
from trimtab_engine.monitor.monitor import Monitor
from trimtab_engine.monitor.report import ReportFacts, report
from trimtab_engine.monitor.score import LoadFacts, load_score, parts
from trimtab_engine.server.alerting import Alerting
from trimtab_engine.server.control import Control
from trimtab_engine.server.gpu_view import GpuView
from trimtab_engine.server.request_metrics import RequestMetrics
from trimtab_engine.server.resources import resources
from trimtab_engine.server.tuning import Tuning
from trimtab_engine.server.watching import Watching
from trimtab_engine.shared.starts import StartsReader

if TYPE_CHECKING:
    from trimtab_engine.server.tracing import RequestTracer

log = logging.getLogger("trimtab_engine.keeper")

TICK_SECONDS = 1.0


@dataclass(frozen=True, kw_only=True)
class State:
    """The server at one moment: what is there, and the KV cache's use (0 to 1)."""

    load: Load
    kv_usage: float


class Keeper:
    """For the event loop's thread. `tick` is to be called about once a second."""

    def __init__(
        self,
        *,
        config: Config,
        control: Control,
        metrics: RequestMetrics,
        folder: Path,
        engine: str,
        gpus: GpuView,
    ) -> None:
        self.config = config
        self.control = control
        self.metrics = metrics
        self.gpus = gpus
        self.metrics.serves(config.served_model_name or config.model)
        self.monitor = Monitor(history_minutes=config.monitor.history_minutes)
        self._starts = StartsReader(folder)
        self._tracer = self._trace(engine)
        watched = config.monitor.enabled or self._tracer is not None
        self.watching = Watching(self.monitor, metrics, self._tracer) if watched else None
        self.tuning = (
            Tuning(config.tuner, control=control, monitor=self.monitor, metrics=metrics, folder=folder)
            if config.tuner.enabled
            else None
        )
        self.alerting = Alerting(config.alerts, metrics=metrics, folder=folder) if config.alerts.enabled else None
        self._shown: dict[str, Any] | None = None

    async def tick(self, state: State) -> None:
        """Brings everything up to date."""
        self._starts.find()
        await asyncio.to_thread(self.gpus.look)
        if self.watching is not None:
            self.watching.tick()
        self.metrics.load(inside=state.load.inside, waiting=self._waiting(state), score=self.score(state))
        if self.tuning is not None:
            await self._tune(self.tuning, state)
        if self.alerting is not None:
            self.alerting.look(time.monotonic(), lambda seconds: self._reading(state, seconds))

    def _reading(self, state: State, seconds: float) -> Reading:
        window, tuning = self.window(), self.tuning
        return Reading(
            window=window,
            latest=self.monitor.window(time.monotonic(), seconds),
            kv_usage=state.kv_usage,
            inside=state.load.inside,
            waiting=self._waiting(state),
            effect=tuning.effect if tuning else None,
            tuned=tuning is not None and tuning.changes > 0,
            targets_missed=tuning is not None and tuning.missed(window),
            gpus_failed=self.gpus.sentences(Verdict.FAILED),
            gpus_degraded=self.gpus.sentences(Verdict.DEGRADED),
        )

    async def _tune(self, tuning: Tuning, state: State) -> None:
        try:
            running = self._load_facts(state).running
            tuning.look(time.monotonic(), running=running, waiting=self._waiting(state))
            await asyncio.to_thread(tuning.apply)
        except Exception:  # requests go on under limits that were good
            log.exception("The tuner failed")
            await asyncio.to_thread(tuning.recover)

    def close(self) -> None:
        """Sends what waits to be sent. Takes seconds where its receivers do not answer."""
        if self._tracer is not None:
            self._tracer.close()
        if self.tuning is not None:
            self.tuning.close()
        if self.alerting is not None:
            self.alerting.close()

    def _trace(self, engine: str) -> RequestTracer | None:
        """Imported where it is asked for: a server without traces needs none of OpenTelemetry."""
        config = self.config.tracing
        if config.endpoint is None:
            return None
        try:
            from trimtab_engine.server.tracing import RequestTracer
        except ImportError as error:
            raise RuntimeError(f"tracing.endpoint is set, and OpenTelemetry is not installed: {error}") from error
        return RequestTracer(
            config, model=self.metrics.model, engine=engine, spans=self.metrics.spans, taken_up=self._starts.read
        )

    def window(self) -> Window:
        """The sliding window up to now."""
        return self.monitor.window(time.monotonic(), self.config.monitor.window_seconds)

    def score(self, state: State) -> float:
        """The load, 0 to 1."""
        return load_score(self._load_facts(state), self.control.wanted.limits)

    def shown(self, state: State) -> dict[str, Any]:
        """What GET /v1/optimization/metrics tells. Where it cannot be computed, the last one, marked as stale."""
        try:
            facts, limits = self._load_facts(state), self.control.wanted.limits
            shares = {name: round(value, 4) for name, value in parts(facts, limits).items()}
            self._shown = {
                "stale": False,
                "model": self.metrics.model,
                "load": {"score": self.score(state), **shares},
                "inside": state.load.inside,
                "running": state.load.running,
                "waiting": self._waiting(state),
                "window": self.window().as_json(),
                "resources": resources(),
                "gpus": self.gpus.brief(),
            }
        except Exception:
            log.exception("What is measured cannot be told")
            return {**(self._shown or {}), "stale": True}
        return self._shown

    def report(self, state: State, speculation: dict[str, Any] | None) -> dict[str, Any]:
        """What GET /v1/optimization/report tells; `speculation` as the status has it."""
        now, window = time.monotonic(), self.window()
        facts = ReportFacts(
            window=window,
            history=self.monitor.history(now),
            load=self.score(state),
            kv_usage=state.kv_usage,
            waiting=self._waiting(state),
            refused_total=window.outcomes.get(Outcome.REFUSED, 0),
            speculation=speculation,
        )
        offset = time.time() - now
        return {"model": self.metrics.model, **report(facts, wall=lambda at: at + offset)}

    def _waiting(self, state: State) -> int:
        return waiting(state.load, self.control.wanted.limits)

    def _load_facts(self, state: State) -> LoadFacts:
        running = max(state.load.running, state.load.inside - self._waiting(state))
        return LoadFacts(running=running, waiting=self._waiting(state), kv_usage=state.kv_usage)
