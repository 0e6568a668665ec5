"""Prometheus fails in every way while a trial is due: nothing is done, and it goes on by itself.

Alone, because the operator has one Prometheus for all that it watches.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from tests.e2e.conftest import LOAD
from tests.e2e.prometheus import PrometheusProxy
from tests.e2e.scenario import Scenario

pytestmark = [pytest.mark.cluster, pytest.mark.emulator, pytest.mark.alone, pytest.mark.slow]


@pytest.fixture(scope="module")
def suffering(stage: Callable[..., Scenario], testkit: str) -> Scenario:
    """A service with a bottleneck and a plan against it, which would be tried at once if the mode allowed it."""
    scenario = stage("away")
    scenario.create(tuning={"mode": "Recommend"})
    scenario.serving(120)
    scenario.start_load(testkit, LOAD)
    scenario.until("a plan is proposed", lambda view: bool(view.plan), seconds=120)
    return scenario


@pytest.mark.parametrize(
    ("mode", "reasons"),
    [
        ("refused", {"PrometheusUnreachable"}),
        ("slow", {"PrometheusTimeout"}),
        ("html", {"PrometheusBadAnswer"}),
        ("nan", {"MetricsInvalid"}),
        ("empty", {"MetricsMissing"}),
    ],
)
def test_without_metrics_nothing_is_done_and_it_recovers_by_itself(
    suffering: Scenario, prometheus: PrometheusProxy, mode: str, reasons: set[str]
) -> None:
    scenario = suffering
    before = scenario.view()
    began = time.time()
    prometheus.behave(mode)
    try:
        scenario.until(
            f"MetricsAvailable is False while Prometheus is {mode}",
            lambda view: (
                view.condition("MetricsAvailable").status == "False"
                and view.condition("MetricsAvailable").reason in reasons
            ),
            seconds=90,
        )
        scenario.patch({"tuning": {"mode": "Apply"}})
        time.sleep(2 * scenario.service.interval_seconds)
        blind = scenario.view()
    finally:
        scenario.patch({"tuning": {"mode": "Recommend"}})
        prometheus.behave("pass")
    assert blind.condition("MetricsAvailable").message
    assert scenario.pods.seen(began) == {before.role("Stable")}
    scenario.until(
        "MetricsAvailable is True again", lambda v: v.condition("MetricsAvailable").status == "True", seconds=60
    )
    assert scenario.view().attempts == before.attempts


def test_with_metrics_the_trial_begins_and_no_request_was_lost(suffering: Scenario) -> None:
    suffering.patch({"tuning": {"mode": "Apply"}})
    suffering.until("the trial that was due begins", lambda view: bool(view.role("Canary")), seconds=120)
    totals = suffering.load.drain()
    assert totals.failed == 0, suffering.load.failures()
    assert totals.sent == totals.succeeded > 0
