from hypothesis import given
from hypothesis import strategies as st

from trimtab.api.conditions import ConditionType, find_condition, set_condition
from trimtab.api.v1alpha1 import Condition
from trimtab.model.reason import Reason

READY = ConditionType.READY
FIRST = set_condition((), READY, status=None, reason=Reason.STARTING, message="", generation=1, now=100.7)


def test_a_new_condition_begins_now_in_whole_seconds() -> None:
    assert FIRST[0]["status"] == "Unknown"
    assert FIRST[0]["lastTransitionTime"] == "1970-01-01T00:01:40Z"
    assert FIRST[0]["observedGeneration"] == 1


def test_another_reason_and_message_do_not_move_the_transition_time() -> None:
    later = set_condition(FIRST, READY, status=None, reason=Reason.PAUSED, message="Held.", generation=2, now=500)
    assert later[0]["lastTransitionTime"] == FIRST[0]["lastTransitionTime"]
    assert (later[0]["reason"], later[0]["message"], later[0]["observedGeneration"]) == ("Paused", "Held.", 2)


def test_another_status_moves_the_transition_time() -> None:
    later = set_condition(FIRST, READY, status=True, reason=Reason.STABLE, message="", generation=1, now=500)
    assert later[0]["lastTransitionTime"] == "1970-01-01T00:08:20Z"


@given(st.lists(st.tuples(st.sampled_from(ConditionType), st.sampled_from([True, False, None]), st.text(max_size=20))))
def test_conditions_stay_one_per_type_sorted_and_valid_and_the_given_ones_are_untouched(
    steps: list[tuple[ConditionType, bool | None, str]],
) -> None:
    conditions: list[dict[str, object]] = []
    for moment, (kind, status, message) in enumerate(steps):
        before = [dict(item) for item in conditions]
        following = set_condition(
            conditions, kind, status=status, reason=Reason.STABLE, message=message, generation=1, now=moment
        )
        assert conditions == before
        conditions = following
        found = find_condition(conditions, kind)
        assert found is not None
        assert found["message"] == message
    types = [str(item["type"]) for item in conditions]
    assert types == sorted(set(types))
    for item in conditions:
        Condition.model_validate(item)


def test_a_message_of_any_length_fits_the_schema() -> None:
    long = set_condition((), READY, status=False, reason="Odd", message="n" * 10_000, generation=1, now=0)
    Condition.model_validate(long[0])
    assert find_condition(long, ConditionType.PLANNED) is None
