"""An approval holds for one plan, and not for ever; a failed revision is tried again when a person says so."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from tests.property.simulated_cluster import Nature
from tests.unit.reconcile.resources import NOW, owned, settled, stable
from tests.unit.rollout.worlds import stable_driver, wish
from trimtab.api.v1alpha1 import RETRY, Mode
from trimtab.model.reason import Reason
from trimtab.model.rollout import Retry
from trimtab.reconcile import approvals

STATE = settled(stable("rev-a", maxNumSeqs=1))


def plan(name: str, age: float, **status: Any) -> dict[str, Any]:
    made = datetime.fromtimestamp(NOW - age, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"metadata": {"name": name, "namespace": "serving", "creationTimestamp": made}, "status": status}


@pytest.mark.parametrize(("age", "is_old"), [(3599.0, False), (3601.0, True)])
def test_a_plan_expires_after_the_time_of_the_spec(age: float, is_old: bool) -> None:
    deployment = owned(tuning={"planExpirySeconds": 3600})
    found = approvals.expired(deployment, [plan("chat-1", age)], "chat-1", NOW)
    assert (found is not None) is is_old
    assert approvals.expired(deployment, [plan("chat-1", age)], "chat-2", NOW) is None


def test_an_approval_of_an_expired_plan_is_said_with_the_next_step() -> None:
    said = approvals.of_an_expired(owned(tuning={"planExpirySeconds": 86_400}), "chat-1")
    assert "older than 1.0 days" in said and "kubectl delete optplan chat-1" in said


@pytest.mark.parametrize(
    ("approved", "current", "words"),
    [
        ("", "chat-2", ""),
        ("chat-2", "chat-2", ""),
        ("chat-1", "chat-2", "chat-1 has been superseded before it was tried. Approve chat-2 instead"),
        ("chat-9", "chat-2", "chat-9 does not exist. Approve chat-2 instead"),
        ("chat-1", None, "Nothing is proposed at present"),
        ("chat-0", "chat-2", ""),  # it was tried
    ],
)
def test_an_approval_of_another_plan_never_counts_for_the_current_one(
    approved: str, current: str | None, words: str
) -> None:
    known = [plan("chat-0", 50.0, steps=[{"step": 0}]), plan("chat-1", 20.0), plan("chat-2", 10.0)]
    said = approvals.of_another(owned(tuning={"approvedPlan": approved}), STATE, known, Mode.APPROVE, current)
    assert (words in said) if words else said == ""


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("rev2@1970-01-01T00:20:00Z", Retry("rev2", 1200.0)),
        ("rev2", None),
        ("rev2@yesterday", None),
        ("@1970-01-01T00:20:00Z", None),
    ],
)
def test_a_retry_names_a_revision_and_a_time(text: str, found: Retry | None) -> None:
    assert owned(annotations={RETRY: text}).retry == found


def test_a_failed_revision_is_tried_once_more_when_a_person_asks_for_it() -> None:
    driver = stable_driver(natures={2: Nature.CRASHES})
    driver.world.user = wish(2)
    driver.until(lambda world: bool(world.state.attempts))
    driver.once()
    assert driver.world.state.held_by is Reason.REMEMBERED_AS_BAD and "`trimtab retry`" in driver.world.state.holding
    driver.world.retry = Retry("rev2", driver.world.cluster.now)
    driver.until(lambda world: len(world.state.attempts) == 2)
    for _ in range(5):
        driver.once()
    assert len(driver.world.state.attempts) == 2, "what failed after the request is remembered again"
    assert driver.world.state.bad == ("rev2",)
    driver.world.cluster.natures.clear()
    driver.world.retry = Retry("rev2", driver.world.cluster.now)
    driver.until(lambda world: world.state.attempts[0].outcome is Reason.PROMOTED)
