"""What a failed reconcile leads to: a later try, later each time, and an API server that names a time is obeyed."""

from __future__ import annotations

import logging

import pytest

from trimtab.kube.errors import NotLeader, TooManyRequests, Unavailable
from trimtab.reconcile.failures import Failures
from trimtab.reconcile.memory import Key

KEY = Key("serving", "chat")


class Outcomes:
    """The outcomes that would be counted."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def reconciled(self, outcome: str) -> None:
        self.seen.append(outcome)


@pytest.fixture
def outcomes() -> Outcomes:
    return Outcomes()


def test_the_wait_doubles_and_is_bounded(outcomes: Outcomes) -> None:
    failures = Failures(outcomes)
    waits = [failures.failed(KEY, Unavailable("no answer")) for _ in range(9)]
    assert waits == [2, 4, 8, 16, 32, 64, 120, 120, 120]
    assert outcomes.seen == ["Unavailable"] * 9


def test_a_very_long_outage_stays_bounded(outcomes: Outcomes) -> None:
    failures = Failures(outcomes)
    for _ in range(2000):
        wait = failures.failed(KEY, Unavailable("no answer"))
    assert wait == 120


def test_a_success_begins_anew(outcomes: Outcomes) -> None:
    failures = Failures(outcomes)
    failures.failed(KEY, Unavailable("no answer"))
    failures.failed(KEY, Unavailable("no answer"))
    failures.succeeded(KEY)
    assert failures.failed(KEY, Unavailable("no answer")) == 2


def test_each_resource_waits_for_itself(outcomes: Outcomes) -> None:
    failures = Failures(outcomes)
    failures.failed(KEY, Unavailable("no answer"))
    assert failures.failed(Key("serving", "other"), Unavailable("no answer")) == 2


def test_an_api_server_that_names_a_time_is_obeyed(outcomes: Outcomes) -> None:
    assert Failures(outcomes).failed(KEY, TooManyRequests("busy", retry_after=45.0)) == 45
    assert Failures(outcomes).failed(KEY, TooManyRequests("busy", retry_after=0.5)) == 2


def test_a_lost_lease_is_no_error_in_the_log(outcomes: Outcomes, caplog: pytest.LogCaptureFixture) -> None:
    failures = Failures(outcomes)
    with caplog.at_level(logging.INFO):
        failures.failed(KEY, NotLeader("apply Deployment a/b: nothing was written."))
        failures.failed(KEY, RuntimeError("a bug"))
    levels = [(record.levelname, str(KEY) in record.getMessage()) for record in caplog.records]
    assert levels == [("INFO", True), ("ERROR", True)]
