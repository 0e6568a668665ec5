import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given

from tests.unit.api.builders import states
from trimtab.api.convert import Unreadable, rollout_state_from, rollout_state_to
from trimtab.api.v1alpha1 import Status
from trimtab.model.config import EngineConfig
from trimtab.model.reason import Reason
from trimtab.model.rollout import Phase, RolloutState, Stable
from trimtab.model.verdict import Call, Verdict


@given(states)
def test_every_state_survives_the_way_into_the_status_and_back(state: RolloutState) -> None:
    document = json.loads(json.dumps(rollout_state_to(state), allow_nan=False))
    assert rollout_state_from(document) == state


@given(states)
def test_every_written_state_fits_the_schema_of_the_status(state: RolloutState) -> None:
    Status.model_validate(rollout_state_to(state))


def test_no_status_is_the_state_of_a_deployment_that_has_just_been_made() -> None:
    assert rollout_state_from(None) == RolloutState()
    assert rollout_state_from({}) == RolloutState()
    assert rollout_state_from({"observedGeneration": 1, "conditions": []}) == RolloutState()


STABLE = rollout_state_to(
    RolloutState(phase=Phase.STABLE, stable=Stable("abc", EngineConfig({"maxNumSeqs": 8}), "t"), user_template="t")
)["rollout"]


@pytest.mark.parametrize(
    ("rollout", "named"),
    [
        ({**STABLE, "phase": "Dancing"}, "phase"),
        ({**STABLE, "since": "yesterday"}, "yesterday"),
        ({**STABLE, "canaryWeight": 10}, "canaryWeight"),
        ({**STABLE, "stable": {"revision": "abc"}}, "stable.template"),
        ({**STABLE, "stable": {**STABLE["stable"], "config": {"maxNumSeqs": "many"}}}, "maxNumSeqs"),
        ({"phase": "Stable"}, "since"),
        ("Stable", "rollout"),
    ],
)
def test_a_state_that_is_not_understood_in_full_is_unreadable_and_says_where(rollout: Any, named: str) -> None:
    found = rollout_state_from({"rollout": rollout})
    assert isinstance(found, Unreadable)
    assert named in found.message


def test_a_verdict_with_a_reason_of_a_newer_operator_is_unreadable() -> None:
    state = RolloutState(verdict=Verdict(Call.BAD, Reason.SLO_REGRESSION, "worse"))
    document = rollout_state_to(state)
    document["rollout"]["verdict"]["reason"] = "TooPurple"
    found = rollout_state_from(document)
    assert isinstance(found, Unreadable)
    assert "TooPurple" in found.message


def test_attempts_without_a_rollout_are_a_lost_state_and_not_a_new_one() -> None:
    assert isinstance(rollout_state_from({"attempts": [{"revision": "a"}]}), Unreadable)


def test_a_knob_without_a_field_is_refused_instead_of_pruned_by_the_server() -> None:
    state = RolloutState(user_config=EngineConfig({"maxNumUnicorns": 1}))
    with pytest.raises(ValueError, match="maxNumUnicorns"):
        rollout_state_to(state)


def test_what_is_longer_than_the_schema_allows_is_cut_and_stays_readable() -> None:
    verdict = Verdict(Call.UNKNOWN, Reason.TOO_FEW_SAMPLES, "x" * 9000, {"ratio": float("inf"), "requests": 3.0})
    state = RolloutState(holding="y" * 5000, bad=tuple(f"{n:08x}" for n in range(200)), verdict=verdict)
    document = rollout_state_to(state)
    Status.model_validate(document)
    found = rollout_state_from(document)
    assert isinstance(found, RolloutState)
    assert found.bad == state.bad[:64]
    assert found.verdict is not None
    assert found.verdict.evidence == {"requests": 3.0}
    assert replace(found, holding="", bad=(), verdict=None) == RolloutState()
