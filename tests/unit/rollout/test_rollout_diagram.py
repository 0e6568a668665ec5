"""The documented states are those of the transition table, and the table is what the machine does."""

from __future__ import annotations

import pathlib

from trimtab.model.rollout import Phase
from trimtab.rollout.diagram import document
from trimtab.rollout.table import MEANING, TRANSITIONS, is_allowed

_PAGE = pathlib.Path(__file__).parents[3] / "docs" / "rollout-states.md"


def test_the_documented_diagram_is_the_one_that_the_table_gives() -> None:
    assert _PAGE.read_text(encoding="utf-8") == document()


def test_every_phase_is_explained_can_be_reached_and_can_be_left() -> None:
    assert set(MEANING) == set(Phase)
    assert {transition.source for transition in TRANSITIONS} == set(Phase)
    assert {transition.target for transition in TRANSITIONS} == set(Phase)


def test_every_phase_of_a_trial_leads_to_a_rollback() -> None:
    for phase in (Phase.CANARY_STARTING, Phase.CANARY_JUDGING, Phase.PROMOTING, Phase.WATCHING):
        assert is_allowed(phase, Phase.ROLLING_BACK)
