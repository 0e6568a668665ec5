"""What a person must mend is said at once; what is refused now and then does not come and go."""

from __future__ import annotations

from trimtab.model.reason import Reason
from trimtab.reconcile.obstacles import Obstacles
from trimtab.reconcile.spec_checks import Problem

KEY = ("serving", "chat")
REFUSED = Problem(Reason.FORBIDDEN, "cannot patch deployments")
OTHER = Problem(Reason.FORBIDDEN, "cannot list pods")
CONFLICT = Problem(Reason.FIELD_CONFLICT, "kubectl owns the arguments")


def said(*met: Problem | None) -> list[Problem | None]:
    obstacles = Obstacles()
    return [obstacles.met(KEY, problem) for problem in met]


def changes(found: list[Problem | None]) -> int:
    return sum(before != after for before, after in zip([None, *found], found, strict=False))


def test_a_refusal_is_said_at_once_and_taken_back_when_it_stays_away() -> None:
    assert said(REFUSED, None, None, None) == [REFUSED, REFUSED, None, None]


def test_another_obstacle_is_true_or_not() -> None:
    assert said(CONFLICT, None, CONFLICT, REFUSED) == [CONFLICT, None, CONFLICT, REFUSED]


def test_another_refusal_is_said_when_the_first_stays_away() -> None:
    assert said(REFUSED, *[OTHER] * 4) == [REFUSED, REFUSED, REFUSED, REFUSED, OTHER]


def test_refusals_that_take_turns_are_not_written_each_time() -> None:
    assert changes(said(*[REFUSED, None, OTHER, None] * 100)) <= 3


def test_a_refusal_every_fourth_cycle_is_soon_said_all_the_time() -> None:
    found = said(*([REFUSED] + [None] * 3) * 20)
    assert changes(found) <= 5
    assert changes(found[20:]) <= 1


def test_after_a_long_quiet_it_is_new() -> None:
    obstacles = Obstacles()
    for problem in [REFUSED, None] * 5 + [None] * 200:
        obstacles.met(KEY, problem)
    assert [obstacles.met(KEY, problem) for problem in (REFUSED, None, None)] == [REFUSED, REFUSED, None]


def test_a_read_that_is_refused_twice_in_a_row_is_said() -> None:
    obstacles = Obstacles()
    assert [obstacles.ended_by(KEY, OTHER) for _ in range(3)] == [None, OTHER, OTHER]
    assert obstacles.met(KEY, None) == OTHER


def test_a_read_that_is_refused_now_and_then_is_not() -> None:
    obstacles = Obstacles()
    for _ in range(10):
        assert obstacles.ended_by(KEY, OTHER) is None
        assert obstacles.met(KEY, None) is None


def test_each_resource_has_its_own_and_a_resource_that_is_gone_has_none() -> None:
    obstacles = Obstacles()
    obstacles.met(KEY, REFUSED)
    assert obstacles.of(("serving", "other")) is None
    assert obstacles.of(KEY) == REFUSED
    obstacles.forget(KEY)
    assert obstacles.of(KEY) is None
