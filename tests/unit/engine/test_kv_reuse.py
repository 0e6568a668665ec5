"""Keys and values of earlier texts: what is found, whose it is, what goes first, and when nothing is left."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.engine.rows import GREEDY, Client, Model, expected
from trimtab_engine.engines.common.owners import of_conversation, owner, tenant_headers
from trimtab_engine.engines.common.scopes import Scopes
from trimtab_engine.engines.onnx.batcher import Batcher, Bounds, Job
from trimtab_engine.engines.onnx.kept import Kept
from trimtab_engine.engines.onnx.reuse import Reused

SIZE = 3
TEXTS = st.lists(st.integers(0, 2), min_size=1, max_size=14)  # few words, so that texts begin alike
SCOPES = st.integers(1, 3)


@dataclass
class Shelf:
    """A store whose contents say where they come from; `known` is all that was ever kept in a scope."""

    most: int
    known: dict[int, set[tuple[int, ...]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.kept: Kept[tuple[int, tuple[int, ...]]] = Kept(self.most, SIZE)

    def keep(self, scope: int, text: list[int]) -> None:
        self.kept.keep(scope, text, lambda start, end: (scope, tuple(text[:end])))
        self.known.setdefault(scope, set()).update(tuple(text[:end]) for end in range(SIZE, len(text) + 1, SIZE))

    def forget(self, scope: int) -> None:
        self.kept.forget(scope)
        self.known.pop(scope, None)

    def find(self, scope: int, text: list[int]) -> int:
        """The blocks that are found; each must be of this scope and of this very text, and have been kept."""
        found = self.kept.find(scope, text)
        for place, (whose, until) in enumerate(found):
            assert whose == scope
            assert until == tuple(text[: (place + 1) * SIZE])
            assert until in self.known[scope]
        assert len(found) * SIZE < len(text)
        return len(found)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("keep"), SCOPES, TEXTS),
        st.tuples(st.just("find"), SCOPES, TEXTS),
        st.tuples(st.just("forget"), SCOPES, st.just([0])),
    ),
    max_size=40,
)


@settings(max_examples=200)
@given(STEPS, st.integers(1, 8))
def test_what_is_found_is_the_beginning_of_the_same_text_in_the_same_scope(
    steps: list[tuple[str, int, list[int]]], most: int
) -> None:
    shelf = Shelf(most)
    for what, scope, text in steps:
        if what == "keep":
            shelf.keep(scope, text)
            # What was kept last is found as far as there is room.
            assert shelf.find(scope, [*text, 9]) == min(most, len(text) // SIZE)
        elif what == "forget":
            shelf.forget(scope)
            assert shelf.find(scope, text) == 0
        else:
            shelf.find(scope, text)
        assert len(shelf.kept) <= most
    for scope in (1, 2, 3):
        shelf.forget(scope)
    assert len(shelf.kept) == 0


@settings(max_examples=150)
@given(STEPS, st.integers(1, 8))
def test_no_block_is_left_without_those_that_lead_to_it(steps: list[tuple[str, int, list[int]]], most: int) -> None:
    shelf = Shelf(most)
    for what, scope, text in steps:
        {"keep": shelf.keep, "find": shelf.find}.get(what, lambda scope, _text: shelf.forget(scope))(scope, text)
        reachable = set()
        for whose, texts in shelf.known.items():
            for one in texts:
                reachable |= {(whose, until) for _, until in shelf.kept.find(whose, [*one, 9])}
        assert len(reachable) == len(shelf.kept)


def test_the_text_goes_first_that_nobody_used_for_the_longest_and_its_end_before_its_beginning() -> None:
    shelf = Shelf(4)
    first, second, third = [1] * 6, [2] * 6, [0] * 3
    shelf.keep(1, first)
    shelf.keep(1, second)
    assert shelf.find(1, [*first, 9]) == 2
    shelf.keep(1, third)
    assert [shelf.find(1, [*text, 9]) for text in (first, second, third)] == [2, 1, 1]


def test_blocks_that_are_there_are_not_copied_again() -> None:
    kept: Kept[None] = Kept(10, SIZE)
    copied: list[tuple[int, int]] = []

    def take(start: int, end: int) -> None:
        copied.append((start, end))

    kept.keep(1, [1, 2, 3, 4, 5, 6, 7], take)
    kept.keep(1, [1, 2, 3, 4, 5, 6, 7, 8, 9], take)
    assert copied == [(0, 3), (3, 6), (6, 9)]


# In the batcher.

REQUESTS = st.lists(
    st.tuples(
        TEXTS,
        st.integers(1, 6),
        st.integers(0, 12),
        st.sampled_from([None, 1, 2]),
    ),
    min_size=1,
    max_size=8,
)


@settings(max_examples=150)
@given(REQUESTS, st.integers(1, 3), st.integers(1, 7), st.integers(1, 6), st.sets(st.integers(0, 15)))
def test_answers_are_the_same_with_reuse_whatever_is_kept_forgotten_and_given_up(
    requests: list[tuple[list[int], int, int, int | None]], rows: int, per_step: int, most: int, forget: set[int]
) -> None:
    model = Model(rows)
    batcher = Batcher(model, rows=rows, bounds=Bounds(tokens_per_step=per_step), kept=Kept(most, SIZE))
    clients = [Client() for _ in requests]
    for turn in range(300):
        for number, (tokens, longest, arrives, scope) in enumerate(requests):
            if arrives == turn:
                batcher.submit(
                    Job(
                        name=str(number),
                        tokens=tokens,
                        most=longest,
                        sampling=GREEDY,
                        end_tokens=frozenset(),
                        deliver=clients[number].take,
                        scope=scope,
                    )
                )
        if turn in forget:
            batcher.forget(1)
        batcher.take_news(wait=False)
        batcher.turn()
    for (tokens, longest, _, scope), client in zip(requests, clients, strict=True):
        assert client.said == expected(tokens, longest)
        assert scope is not None or client.outputs[-1].reused == 0
    counted = batcher.reused
    assert counted.queries == sum(len(tokens) for tokens, _, _, scope in requests if scope is not None)
    assert counted.hits == sum(client.outputs[-1].reused for client in clients) <= counted.queries


def test_the_second_turn_of_a_conversation_computes_only_what_is_new() -> None:
    model = Model(2)
    batcher = Batcher(model, rows=2, bounds=Bounds(tokens_per_step=64), kept=Kept(100, SIZE))

    def turn(tokens: list[int], scope: int | None) -> tuple[list[int], int]:
        client, before = Client(), model.computed
        batcher.submit(
            Job(
                name="a",
                tokens=tokens,
                most=4,
                sampling=GREEDY,
                end_tokens=frozenset(),
                deliver=client.take,
                scope=scope,
            )
        )
        while not client.done.is_set():
            batcher.turn()
        return client.said, model.computed - before

    first = list(range(30))
    said, computed = turn(first, 7)
    assert computed == 30 + 3
    second = [*first, *said, 5, 6]
    again, computed = turn(second, 7)
    assert again == expected(second, 4)
    assert computed == len(second) - 33 + 3  # 33 tokens are whole blocks of what was computed
    assert batcher.reused == Reused(queries=30 + 36, hits=33)
    # Nobody else's, and not after the end.
    assert turn(second, 8)[1] == turn(second, None)[1] == len(second) + 3
    batcher.forget(7)
    batcher.take_news(wait=False)
    assert turn(second, 7)[1] == len(second) + 3


# Whose they are.


def headers(**given: str) -> Callable[[str], str | None]:
    return {name.replace("_", "-"): value for name, value in given.items()}.get


VALUES = st.one_of(st.none(), st.text(max_size=6))


@settings(max_examples=200)
@given(st.tuples(VALUES, VALUES, VALUES, VALUES), st.tuples(VALUES, VALUES, VALUES, VALUES))
def test_two_requests_have_one_owner_only_where_tenant_salt_and_conversation_are_the_same(
    one: tuple[str | None, ...], other: tuple[str | None, ...]
) -> None:
    tenants = tenant_headers(["X-Team"])

    def of(values: tuple[str | None, ...]) -> bytes:
        team, key, conversation, salt = values
        given = {"x-team": team, "authorization": key, "x-conversation-id": conversation}
        return owner(given.get, tenants, salt=salt) or b""

    assert (of(one) == of(other)) == (one == other)
    assert len(of(one)) == 16


def test_a_conversation_has_the_owner_by_which_it_is_ended() -> None:
    tenants = tenant_headers(["x-team"])
    asked = headers(authorization="k", x_conversation_id="c")
    assert owner(asked, tenants) == of_conversation(headers(authorization="k"), tenants, "c")
    assert owner(asked, tenants) != of_conversation(headers(authorization="l"), tenants, "c")


@pytest.mark.parametrize(
    ("control", "kept"), [("no-store", False), ("No-Store , max-age=0", False), ("no-cache", True)]
)
def test_nothing_is_kept_of_a_request_that_says_so(control: str, kept: bool) -> None:
    assert (owner(headers(cache_control=control), tenant_headers([])) is not None) == kept


@settings(max_examples=150)
@given(
    st.lists(
        st.tuples(st.sampled_from(["enter", "leave", "end", "tidy"]), st.sampled_from([b"a", b"b", b"c"])), max_size=40
    ),
    st.integers(1, 3),
)
def test_a_number_is_one_owners_until_it_is_given_up_and_never_comes_again(
    steps: list[tuple[str, bytes]], most: int
) -> None:
    numbers = iter(range(1, 1000))
    gone: list[int] = []
    scopes = Scopes(gone.append, idle_seconds=5, most=most, draw=lambda: next(numbers))
    inside, owners = [], dict[int, bytes]()
    for now, (what, whose) in enumerate(steps):
        if what == "enter":
            scope = scopes.enter(whose, now)
            assert owners.setdefault(scope.number, whose) == whose
            assert scope.number not in gone
            inside.append(scope)
        elif what == "leave" and inside:
            scopes.leave(inside.pop(0), now)
        elif what == "end":
            known = len(scopes)
            assert scopes.end(whose) == (len(scopes) < known)
        elif what == "tidy":
            scopes.tidy(now)
        assert len(scopes) <= most
    for scope in inside:
        scopes.leave(scope, 100)
    scopes.tidy(200)
    assert len(scopes) == 0
    assert set(gone) == set(owners)


def test_what_a_running_request_leaves_in_an_ended_conversation_goes_when_it_ends() -> None:
    gone: list[int] = []
    scopes = Scopes(gone.append, idle_seconds=5, draw=lambda: 4)
    scope = scopes.enter(b"a", 0)
    assert scopes.end(b"a")
    assert gone == [4]
    scopes.leave(scope, 1)
    assert gone == [4, 4]
    assert not scopes.end(b"a")
