"""What the revision that serves alone carries: before a canary serves, and once the readings are all of the watch."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.unit.plan.scenarios import one_slot
from tests.unit.reconcile.resources import NOW, settled, snapshot, stable
from trimtab.model.reading import Unknown, Why
from trimtab.model.rollout import Phase
from trimtab.reconcile.carried import carried

STATE = settled(stable("rev-a", maxNumSeqs=1))
SEEN = replace(snapshot("rev-a", metrics=one_slot().metrics()), at=NOW)


@pytest.mark.parametrize("phase", [Phase.STABLE, Phase.CANARY_STARTING])
def test_before_a_canary_serves_stable_carries_everything(phase: Phase) -> None:
    found = carried(replace(STATE, phase=phase), SEEN)
    assert found is not None
    pods = len(SEEN.revision("rev-a").ready_pods)
    assert found.pods == pods
    assert found.tokens == pytest.approx(128.0 * pods)
    assert found.waiting == pytest.approx(14.0 * pods)
    assert found.prompt == pytest.approx(64.0)


def test_a_watch_counts_once_the_window_lies_in_it() -> None:
    watching = replace(STATE, phase=Phase.WATCHING)
    assert carried(replace(watching, since=NOW - SEEN.window), SEEN) is not None
    assert carried(replace(watching, since=NOW - SEEN.window / 2), SEEN) is None


@pytest.mark.parametrize("phase", [Phase.CANARY_JUDGING, Phase.PROMOTING, Phase.ROLLING_BACK])
def test_beside_another_revision_nothing_is_said(phase: Phase) -> None:
    assert carried(replace(STATE, phase=phase), SEEN) is None


def test_what_cannot_be_read_is_not_recorded() -> None:
    blind = replace(one_slot().metrics(), waiting=Unknown(Why.STALE))
    assert carried(STATE, replace(snapshot("rev-a", metrics=blind), at=NOW)) is None
    assert carried(STATE, snapshot("another")) is None
