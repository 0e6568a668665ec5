"""Act 1 for a test: a service under load is measured, tuned by one plan, and measured again."""

from __future__ import annotations

import time
from dataclasses import dataclass

from tests.e2e.loadgen import Load, Window
from tests.e2e.scenario import Scenario
from tests.e2e.view import Attempt, View


@dataclass(frozen=True, kw_only=True)
class Tuned:
    """What act 1 left behind: the load before and after, the resource when diagnosed and at the end, and the trial."""

    scenario: Scenario
    before: Window
    after: Window
    diagnosed: View
    attempt: Attempt
    view: View
    least_ready: int


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long things may take with this engine, seconds: `window` is how long each measurement lasts."""

    start: float
    window: float
    diagnosis: float
    trial: float


def tune(scenario: Scenario, testkit: str, load: Load, patience: Patience) -> Tuned:
    """Creates the service, puts it under `load` and lets one plan be promoted. Raises DidNotHappenError."""
    scenario.create(tuning={"mode": "Observe"})
    scenario.serving(patience.start)
    scenario.start_load(testkit, load)
    time.sleep(patience.window / 3)
    before = _measured(scenario, patience.window)
    diagnosed = scenario.until("a bottleneck is found", lambda view: view.suffers, seconds=patience.diagnosis)
    began = time.time()
    scenario.patch({"tuning": {"mode": "Apply"}})
    attempt = scenario.attempt_ended(diagnosed, "Promoted", patience.trial)
    # One trial is what the later acts are compared with; the next plan would not wait until the old pods are gone.
    scenario.patch({"tuning": {"mode": "Recommend"}})
    view = scenario.settled(attempt.revision)
    least_ready = scenario.pods.least_of_all(began)
    return Tuned(
        scenario=scenario,
        before=before,
        after=_measured(scenario, patience.window),
        diagnosed=diagnosed,
        attempt=attempt,
        view=view,
        least_ready=least_ready,
    )


def _measured(scenario: Scenario, seconds: float) -> Window:
    since = scenario.load.now()
    time.sleep(seconds)
    return scenario.load.window(since)
