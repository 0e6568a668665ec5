"""The three acts, and the measurements between them."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.e2e.access import PLANS, AnswerError
from tests.e2e.demo.result import Result, Trial
from tests.e2e.demo.samples import Observer
from tests.e2e.demo.stage import NAME, NAMESPACE, Stage
from tests.e2e.demo.table import LiveTable
from tests.e2e.demo.timeline import Mark
from tests.e2e.loadgen import Load, Window
from tests.e2e.pods import PodWatch
from tests.e2e.scenario import Scenario, knobs
from tests.e2e.scenario import Trial as Tried
from tests.e2e.view import View

HARMFUL = {"maxNumSeqs": 2}
UNSTARTABLE = {"maxNumBatchedTokens": 4}  # the engine refuses fewer tokens per step than sequences


@dataclass(frozen=True, kw_only=True)
class Pace:
    """Seconds: measured, and at most waited."""

    settle: float = 15.0
    measure: float = 60.0
    look: float = 2.0
    ready: float = 400.0
    promotion: float = 1500.0
    verdict: float = 500.0


@dataclass(kw_only=True)
class Telling:
    """What goes into the report."""

    acts: list[tuple[str, list[str]]] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    plan: str = ""


class Demo:
    """Plays the story on a stage and fills the result."""

    def __init__(
        self, stage: Stage, table: LiveTable, pods: PodWatch, result: Result, pace: Pace, telling: Telling
    ) -> None:
        self._stage = stage
        self._table = table
        self._pods = pods
        self._result = result
        self._pace = pace
        self._telling = telling
        self.observer = Observer(stage.access, NAMESPACE, NAME, pods, stage.load)
        self._scenario = Scenario(stage.access, NAMESPACE, stage.service, pods, stage.load, self._glance)

    def play(self, clients: int) -> None:
        """Everything from the empty namespace to the last request's end. Raises DidNotHappenError."""
        with self._act("Service", "start a service of two pods with a bad configuration, and the load"):
            self._serve(clients)
        with self._act("Baseline", "measure it while Trimtab only watches"):
            self._measure_baseline()
        with self._act("Act 1: tune", "let Trimtab act"):
            self._tune()
        with self._act("Tuned", "measure what it made of the service"):
            self._result.tuned = self._measure()
        with self._act("Act 2: harm", f"a user sets {knobs(HARMFUL)}"):
            self._result.harmful = self._spoil(HARMFUL, wanted="RolledBack", serves=True)
        with self._act("Act 3: break", f"a user sets {knobs(UNSTARTABLE)}, which the engine refuses"):
            self._result.unstartable = self._spoil(UNSTARTABLE, wanted="Abandoned", serves=False)
        with self._act("End", "stop the load and wait for the last request"):
            self._result.requests = self._stage.load.drain()
            total = self._result.requests
            self._tell(f"{total.sent} requests were sent, {total.succeeded} succeeded, {total.failed} failed.")

    # The acts.

    def _serve(self, clients: int) -> None:
        # Trimtab may only watch at first, so that the baseline can be measured.
        self._scenario.create(tuning={"mode": "Observe"})
        self._waiting("the first pods")
        self._scenario.serving(self._pace.ready)
        self._result.config_before = dict(self._stage.service.config)
        self._tell(f"{self._result.replicas} pods serve with {knobs(self._result.config_before)}.")
        self._scenario.start_load(self._stage.testkit, Load(clients=clients))
        self._tell(f"{clients} clients stream 64 tokens for 64 each, one connection per request; all are counted.")

    def _measure_baseline(self) -> None:
        self._rest(self._pace.settle)
        self._result.baseline = self._measure()
        self._waiting("the diagnosis")
        found = self._scenario.until("Trimtab names the bottleneck", lambda view: view.suffers, seconds=120)
        self._result.bottleneck = found.bottleneck
        self._tell(f"Trimtab says {found.bottleneck}: {_finding(found)}")

    def _tune(self) -> None:
        before = self._scenario.view()
        began = time.time()
        change = {"tuning": {"mode": "Apply"}}
        self._tell_patch(change)
        self._scenario.patch(change)
        self._waiting("a promoted canary")
        attempt = self._scenario.attempt_ended(before, "Promoted", self._pace.promotion)
        after = self._scenario.settled(attempt.revision)
        self._result.promotion_min_ready = self._pods.least_of_all(began)
        self._result.config_after = after.stable_config or dict(attempt.config)
        self._result.promoted = attempt.message
        self._result.plan = after.plan
        self._telling.plan = self._plan_text(after.plan)
        self._mark(attempt.served_at, "canary serves")
        self._mark(attempt.decided_at, "promoted")
        self._tell(f"Promoted: {attempt.message}")
        self._tell(f"At least {self._result.promotion_min_ready} pods were ready at every moment of it.")

    def _spoil(self, change: Mapping[str, Any], *, wanted: str, serves: bool) -> Trial:
        """A bad change of the user, and what it took to be rid of it."""
        self._tell_patch({"engine": {"config": dict(change)}})
        self._waiting(f"the outcome {wanted}")
        tried = self._scenario.spoil(change, wanted, self._pace.verdict)
        trial = self._trial(tried, serves=serves)
        self._mark(tried.changed_at, f"user sets {knobs(change)}")
        self._mark(tried.served_at, "canary serves")
        self._mark(tried.attempt.decided_at, tried.attempt.outcome)
        self._tell(f"{trial.outcome} ({trial.reason}): {trial.message}")
        self._tell(
            f"The verdict came after {trial.seconds_to_verdict:.0f} s, the service was as before after "
            f"{trial.seconds_to_restored:.0f} s, counted from {trial.measured_from}."
        )
        self._tell(f"At least {trial.stable_min_ready} of {self._result.replicas} stable pods were ready throughout.")
        self._tell("The user took the change back, so that the spec asks for nothing that was refused.")
        return trial

    def _trial(self, tried: Tried, *, serves: bool) -> Trial:
        served = tried.served_at if serves else None
        start = tried.changed_at if served is None else served
        decided = tried.attempt.decided_at or tried.restored_at
        return Trial(
            outcome=tried.attempt.outcome,
            reason=tried.attempt.reason,
            message=tried.attempt.message,
            measured_from="the change" if served is None else "the moment when its pod was first ready",
            seconds_to_verdict=decided - start,
            seconds_to_restored=tried.restored_at - start,
            seconds_from_change_to_verdict=decided - tried.changed_at,
            intervals_to_verdict=(decided - start) / self._result.interval_seconds,
            stable_min_ready=tried.stable_min_ready,
            served_traffic=tried.served_at is not None,
            rolled_back=True,
        )

    # Parts of acts.

    def _measure(self) -> Window:
        since = self._stage.load.now()
        self._rest(self._pace.measure)
        window = self._stage.load.window(since)
        self._tell(
            f"Measured over {window.seconds:.0f} s: {window.output_tokens_per_s:.0f} tokens/s, "
            f"TTFT p50 {window.ttft_p50_ms or 0:.0f} ms, p95 {window.ttft_p95_ms or 0:.0f} ms, "
            f"ITL p95 {window.itl_p95_ms or 0:.0f} ms, {window.failed} failed."
        )
        return window

    def _rest(self, seconds: float) -> None:
        ends = time.monotonic() + seconds
        self._waiting(f"{seconds:.0f} s of load")
        while time.monotonic() < ends:
            self._glance()

    def _glance(self) -> View:
        """Takes a sample, tells a new phase, shows the table, and takes its time."""
        began = time.monotonic()
        earlier = self.observer.samples[-1].view.phase if self.observer.samples else ""
        sample = self.observer.sample()
        if sample.view.phase != earlier and earlier:
            self._tell(f"Phase {sample.view.phase}: {sample.view.condition('Progressing').message}")
        self._table.show(sample)
        time.sleep(max(0.0, self._pace.look - (time.monotonic() - began)))
        return sample.view

    def _waiting(self, text: str) -> None:
        self._table.waiting_for(text)

    def _tell_patch(self, spec: Mapping[str, Any]) -> None:
        self._tell(f"kubectl patch llmdep {NAME} --type=merge -p '{json.dumps({'spec': spec})}'")

    def _plan_text(self, name: str) -> str:
        if not name:
            return ""
        with contextlib.suppress(AnswerError):
            document = self._stage.access.get(f"{PLANS.format(namespace=NAMESPACE)}/{name}")
            document["metadata"].pop("managedFields", None)
            return json.dumps({"name": name, **document["spec"], "status": document.get("status")}, indent=2)
        return ""

    @contextlib.contextmanager
    def _act(self, name: str, text: str) -> Iterator[None]:
        self.observer.act = name
        self._telling.acts.append((f"{name}: {text}" if ":" not in name else f"{name} ({text})", []))
        self._table.heading(f"{name.partition(':')[0]}: {text}")
        began = time.monotonic()
        try:
            yield
        finally:
            self._result.seconds[name.partition(":")[0].lower()] = time.monotonic() - began

    def _tell(self, text: str) -> None:
        self._telling.acts[-1][1].append(text)
        self._table.say(f"  {text}")

    def _mark(self, at: float | None, text: str) -> None:
        if at is not None:
            self._telling.marks.append(Mark(at=at, text=text))


def _finding(view: View) -> str:
    return next((str(found["message"]) for found in view.status.get("findings") or []), view.summary)
