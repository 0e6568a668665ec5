"""Candidates and their place in the grid."""

from __future__ import annotations

import numpy as np
import pytest

from trimtab.plan.search.space import Axis, Space

AXES = (Axis("maxNumSeqs", (8, 16, 64)), Axis("kvCacheDtype", ("auto", "fp8")), Axis("enforceEager", (False, True)))


def test_all_combinations_are_there_once_and_are_found_again() -> None:
    space = Space.of(AXES)
    configs = [space.config(row) for row in range(space.count)]
    assert space.count == 12
    assert len({tuple(config.items()) for config in configs}) == 12
    assert [space.row(config) for config in configs] == list(range(12))
    assert space.row({**configs[5], "another": 1}) == 5


@pytest.mark.parametrize("config", [{}, {"maxNumSeqs": 9, "kvCacheDtype": "fp8", "enforceEager": True}])
def test_what_is_not_in_the_space_is_not_found(config: dict[str, int | str | bool]) -> None:
    assert Space.of(AXES).row(config) is None


def test_a_part_of_the_space_keeps_its_order() -> None:
    space = Space.of(AXES)
    part = space.where(space.numbers("maxNumSeqs") > 8)
    assert part.count == 8
    assert part.config(0) == {"maxNumSeqs": 16, "kvCacheDtype": "auto", "enforceEager": False}
    assert part.row(space.config(0)) is None
    assert list(part.choices("kvCacheDtype")) == [0, 0, 1, 1, 0, 0, 1, 1]
    with pytest.raises(KeyError, match="blockSize is no axis"):
        part.numbers("blockSize")


def test_one_doubling_and_one_other_choice_are_a_distance_of_one() -> None:
    space = Space.of(AXES)
    features = space.features()

    def distance(one: dict[str, object], other: dict[str, object]) -> float:
        base = {"maxNumSeqs": 8, "kvCacheDtype": "auto", "enforceEager": False}
        rows = [space.row({**base, **changes}) for changes in (one, other)]  # type: ignore[dict-item]
        return float(np.linalg.norm(features[rows[0]] - features[rows[1]]))

    assert distance({}, {"maxNumSeqs": 16}) == pytest.approx(1.0)
    assert distance({}, {"maxNumSeqs": 64}) == pytest.approx(3.0)
    assert distance({}, {"enforceEager": True}) == pytest.approx(1.0)
    assert distance({"kvCacheDtype": "fp8"}, {}) == pytest.approx(1.0)


@pytest.mark.parametrize("values", [(), (1, 1)])
def test_an_axis_without_different_values_is_refused(values: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="maxNumSeqs"):
        Axis("maxNumSeqs", values)


def test_a_space_without_axes_is_one_configuration() -> None:
    space = Space.of(())
    assert (space.count, space.config(0), space.features().shape) == (1, {}, (1, 0))
