"""The nearest vector is found among few and among many, and what is kept stays in its bounds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trimtab_engine.semantic_cache.embed import Vector
from trimtab_engine.semantic_cache.shelf import EXACT, Shelf
from trimtab_engine.semantic_cache.shelves import Shelves

WIDTH = 16


def vectors(count: int, seed: int = 0, width: int = WIDTH) -> Vector:
    drawn = np.random.default_rng(seed).standard_normal((count, width)).astype(np.float32)
    return np.asarray(drawn / np.linalg.norm(drawn, axis=1, keepdims=True), dtype=np.float32)


@settings(max_examples=100)
@given(st.lists(st.integers(0, 30), max_size=80), st.integers(0, 99))
def test_after_any_coming_and_going_the_nearest_is_the_nearest(numbers: list[int], seed: int) -> None:
    """Each number comes, or goes where it is there."""
    shelf, there, rows = Shelf(WIDTH), set[int](), vectors(31)
    for number in numbers:
        if number in there:
            shelf.remove(number)
        else:
            shelf.add(number, rows[number])
        there ^= {number}
    assert len(shelf) == len(there)
    asked = vectors(1, seed + 100)[0]
    found = shelf.nearest(asked)
    if not there:
        assert found is None
    else:
        assert found is not None
        best = max(there, key=lambda number: float(rows[number] @ asked))
        assert found[0] == best
        assert found[1] == pytest.approx(float(rows[best] @ asked), abs=1e-5)


def test_among_many_near_copies_are_found_and_what_went_is_not() -> None:
    count = EXACT + 500
    shelf, rows = Shelf(WIDTH), vectors(count)
    for number in range(count):
        shelf.add(number, rows[number])
    source = np.random.default_rng(1)
    asked = rows + 0.01 * source.standard_normal(rows.shape).astype(np.float32)
    asked /= np.linalg.norm(asked, axis=1, keepdims=True)
    every = range(0, count, 10)
    found = [shelf.nearest(asked[number]) for number in every]
    right = sum(one is not None and one[0] == number for one, number in zip(found, every, strict=True))
    assert right >= 0.99 * len(found)
    for number in range(0, count, 2):
        shelf.remove(number)
    left = [shelf.nearest(rows[number]) for number in range(0, count, 10)]
    assert all(one is None or one[0] % 2 == 1 for one in left)
    found_again = shelf.nearest(rows[1])
    assert found_again is not None and found_again[0] == 1


def shelves(**bounds: int) -> Shelves:
    return Shelves(width=WIDTH, **{"largest_entries": 3, "largest_bytes": 100, **bounds})


def test_the_one_that_nobody_asked_for_the_longest_goes_first() -> None:
    kept, rows = shelves(), vectors(4)
    for number in range(3):
        assert kept.add(f"{number}", "p", rows[number], expires=99.0, size=1, now=0.0) == []
    found = kept.find("p", rows[0], threshold=0.9, now=1.0)
    assert found is not None and found.key == "0"
    assert kept.add("3", "p", rows[3], expires=99.0, size=1, now=1.0) == ["1"]
    assert kept.find("p", rows[1], threshold=0.9, now=1.0) is None
    assert (len(kept), kept.bytes) == (3, 3)


def test_the_bytes_are_bounded_too_and_one_entry_counts_once() -> None:
    kept, rows = shelves(), vectors(3)
    kept.add("a", "p", rows[0], expires=9.0, size=60, now=0.0)
    assert kept.add("a", "p", rows[0], expires=9.0, size=60, now=0.0) == []
    assert kept.add("b", "p", rows[1], expires=9.0, size=60, now=0.0) == ["a"]
    assert kept.add("c", "q", rows[2], expires=9.0, size=101, now=0.0) == ["b", "c"]
    assert (len(kept), kept.bytes) == (0, 0)


def test_what_expired_is_not_found_and_makes_room_for_the_next_nearest() -> None:
    kept, rows = shelves(), vectors(1)
    kept.add("old", "p", rows[0], expires=5.0, size=1, now=0.0)
    kept.add("new", "p", rows[0], expires=50.0, size=1, now=0.0)
    found = kept.find("p", rows[0], threshold=0.9, now=6.0)
    assert found is not None and found.key == "new"
    assert kept.find("p", rows[0], threshold=0.9, now=60.0) is None
    assert len(kept) == 0
    kept.add("x", "p", rows[0], expires=61.0, size=1, now=60.0)
    assert kept.add("y", "p", rows[0], expires=99.0, size=1, now=70.0) == ["x"]


def test_partitions_never_see_each_other() -> None:
    kept, rows = shelves(), vectors(1)
    kept.add("a", "one tenant", rows[0], expires=9.0, size=1, now=0.0)
    assert kept.find("another", rows[0], threshold=0.5, now=0.0) is None
    kept.remove("a")
    kept.remove("a")
    assert kept.find("one tenant", rows[0], threshold=0.5, now=0.0) is None
