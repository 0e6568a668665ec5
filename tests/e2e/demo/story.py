"""The three acts, and the measurements between them."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.e2e.access import PLANS, AnswerError
from tests.e2e.demo.result import Result, Trial
from tests.e2e.demo.samples import Observer, Sample
from tests.e2e.demo.stage import NAME, NAMESPACE, Stage
from tests.e2e.demo.table import LiveTable
from tests.e2e.demo.timeline import Mark
from tests.e2e.loadgen import Window
from tests.e2e.pods import PodWatch
from tests.e2e.view import Attempt, View
from tests.e2e.waiting import DidNotHappenError

HARMFUL = {"maxNumSeqs": 2}
UNSTARTABLE = {"blockSize": 16}  # on the CPU the engine takes multiples of 32 only, and says so while it loads


@dataclass(frozen=True, kw_only=True)
class Pace:
    """Seconds: measured, and at most waited."""

    settle: float = 15.0
    measure: float = 60.0
    look: float = 2.0
    ready: float = 400.0
    promotion: float = 800.0
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
        with self._act("Act 2: harm", f"a user sets {_knobs(HARMFUL)}"):
            self._result.harmful = self._spoil(HARMFUL, wanted="RolledBack", serves=True)
        with self._act("Act 3: break", f"a user sets {_knobs(UNSTARTABLE)}, which the engine refuses"):
            self._result.unstartable = self._spoil(UNSTARTABLE, wanted="Abandoned", serves=False)
        with self._act("End", "stop the load and wait for the last request"):
            self._result.requests = self._stage.load.drain()
            total = self._result.requests
            self._tell(f"{total.sent} requests were sent, {total.succeeded} succeeded, {total.failed} failed.")

    # The acts.

    def _serve(self, clients: int) -> None:
        self._stage.apply_service()
        wanted = self._stage.service.replicas
        self._until(
            f"{wanted} pods are ready", lambda s: sum(s.ready.values()) >= wanted and bool(s.view.role("Stable")),
            seconds=self._pace.ready,
        )  # fmt: skip
        self._result.config_before = dict(self._stage.service.config)
        self._tell(f"{wanted} pods serve with {_knobs(self._result.config_before)}.")
        self._stage.start_load(clients)
        self._tell(f"{clients} clients stream 64 tokens for 64 each, one connection per request; all are counted.")

    def _measure_baseline(self) -> None:
        self._rest(self._pace.settle)
        self._result.baseline = self._measure()
        found = self._until("Trimtab names the bottleneck", lambda s: bool(s.view.bottleneck), seconds=120)
        self._result.bottleneck = found.view.bottleneck
        self._tell(f"Trimtab says {found.view.bottleneck}: {_finding(found.view)}")

    def _tune(self) -> None:
        before = self.observer.samples[-1].view
        began = time.time()
        self._patch({"tuning": {"mode": "Apply"}})
        attempt = self._attempt_ended(before, "Promoted", self._pace.promotion)
        self._settled(attempt.revision)
        after = self.observer.samples[-1].view
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
        """A bad change of the user, from the patch to the moment when only the stable pods are left; then the user
        takes it back.
        """
        before = self.observer.samples[-1].view
        stable = before.role("Stable")
        changed = time.time()
        self._mark(changed, f"user sets {_knobs(change)}")
        self._patch({"engine": {"config": dict(change)}})
        trial = Trial()
        try:
            attempt = self._attempt_ended(before, wanted, self._pace.verdict)
            restored = self._only_left(stable, attempt)
            self._fill(trial, attempt, changed, restored, stable, serves=serves)
            trial.rolled_back = attempt.outcome == wanted
        finally:
            self._patch({"engine": {"config": self._taken_back(change)}})
        self._tell(f"{trial.outcome} ({trial.reason}): {trial.message}")
        self._tell(f"The verdict came after {trial.seconds_to_verdict:.0f} s, the service was as before after "
                   f"{trial.seconds_to_restored:.0f} s, counted from {trial.measured_from}.")  # fmt: skip
        self._tell(f"At least {trial.stable_min_ready} of {self._result.replicas} stable pods were ready throughout.")
        self._settled(stable)
        self._tell("The user then took the change back, so that the spec says what runs.")
        return trial

    def _fill(
        self, trial: Trial, attempt: Attempt, changed: float, restored: float, stable: str, *, serves: bool
    ) -> None:
        served = self._pods.first_ready(attempt.revision, changed) if serves else None
        start = served if served is not None else changed
        decided = attempt.decided_at or restored
        trial.outcome, trial.reason, trial.message = attempt.outcome, attempt.reason, attempt.message
        trial.measured_from = "the moment when its pod was first ready" if served is not None else "the change"
        trial.seconds_to_verdict = decided - start
        trial.seconds_to_restored = restored - start
        trial.seconds_from_change_to_verdict = decided - changed
        trial.intervals_to_verdict = trial.seconds_to_verdict / self._result.interval_seconds
        trial.stable_min_ready = self._pods.least(stable, changed)
        self._mark(served, "canary serves")
        self._mark(decided, attempt.outcome)

    # Parts of acts.

    def _taken_back(self, change: Mapping[str, Any]) -> dict[str, Any]:
        """The merge patch that gives the spec its old values."""
        return {knob: self._stage.service.config.get(knob) for knob in change}

    def _patch(self, spec: Mapping[str, Any]) -> None:
        self._tell(f"kubectl patch llmdep {NAME} --type=merge -p '{json.dumps({'spec': spec})}'")
        self._stage.access.patch_resource(NAMESPACE, NAME, {"spec": dict(spec)})

    def _attempt_ended(self, before: View, outcome: str, seconds: float) -> Attempt:
        """The next finished trial. Raises DidNotHappenError when it ends otherwise than wanted."""
        found = self._until(f"a trial ends as {outcome}", lambda s: bool(s.view.new_attempts(before)), seconds=seconds)
        attempt = found.view.new_attempts(before)[-1]
        if attempt.outcome != outcome:
            raise DidNotHappenError(
                f"The trial of {_knobs(attempt.config)} ended as {attempt.outcome} ({attempt.reason}) instead of "
                f"{outcome}: {attempt.message}"
            )
        return attempt

    def _only_left(self, stable: str, attempt: Attempt) -> float:
        """When the pods of `stable` were the only ones again."""
        since = attempt.decided_at or 0.0

        def moment() -> float | None:
            counts = self._pods.counts(since)
            return counts[-1].at if counts and set(counts[-1].ready) == {stable} else None

        self._until("only the stable pods are left", lambda _: moment() is not None, seconds=180)
        return max(moment() or time.time(), since)

    def _settled(self, stable: str) -> None:
        wanted = {stable: self._stage.service.replicas}
        self._until(
            f"revision {stable} serves alone",
            lambda s: s.view.phase == "Stable" and s.view.role("Stable") == stable and s.ready == wanted,
            seconds=240,
        )  # fmt: skip

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
        self._table.waiting_for(f"{seconds:.0f} s of load")
        while time.monotonic() < ends:
            self._look()

    def _until(self, what: str, holds: Callable[[Sample], bool], *, seconds: float) -> Sample:
        """Looks until `holds`, and tells every new phase. Raises DidNotHappenError."""
        ends = time.monotonic() + seconds
        self._table.waiting_for(what)
        while True:
            sample = self._look()
            if holds(sample):
                return sample
            if time.monotonic() >= ends:
                raise DidNotHappenError(f"{self.observer.act}: {what}: not within {seconds:.0f} s. {sample.view}")

    def _look(self) -> Sample:
        began = time.monotonic()
        earlier = self.observer.samples[-1].view.phase if self.observer.samples else ""
        sample = self.observer.sample()
        if sample.view.phase != earlier and earlier:
            self._tell(f"Phase {sample.view.phase}: {sample.view.condition('Progressing').message}")
        self._table.show(sample)
        time.sleep(max(0.0, self._pace.look - (time.monotonic() - began)))
        return sample

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


def _knobs(config: Mapping[str, Any]) -> str:
    return ", ".join(f"{knob}: {json.dumps(value)}" for knob, value in sorted(config.items()))


def _finding(view: View) -> str:
    return next((str(found["message"]) for found in view.status.get("findings") or []), view.summary)
