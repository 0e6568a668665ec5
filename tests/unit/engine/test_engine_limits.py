"""From settings to limits: what is taken, what is refused, and with which field."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trimtab_engine.limits.classes import Classes, Rule
from trimtab_engine.limits.limits import LIMITS, Capacity, Limits, limits_from_json, within
from trimtab_engine.limits.parse import Refused, read_text
from trimtab_engine.limits.settings import Settings, fitting, read_settings

CAPACITY = Capacity(running_requests=64, tokens_per_step=2048, longest_context=4096)
BASE = Limits(max_running_requests=64, max_tokens_per_step=2048)


def read(document: object, capacity: Capacity = CAPACITY) -> Limits | Refused:
    outcome = read_settings(document, base=Settings(limits=BASE), capacity=capacity)
    return outcome if isinstance(outcome, Refused) else outcome.limits


def refused(document: object, capacity: Capacity = CAPACITY) -> dict[str, str]:
    outcome = read(document, capacity)
    assert isinstance(outcome, Refused)
    return {problem.field: problem.message for problem in outcome.problems}


def test_the_named_fields_change_and_the_others_stay() -> None:
    document = read_text("limits:\n  max_running_requests: 4\n  max_wait_seconds: 2.5\n")
    assert read(document) == replace(BASE, max_running_requests=4, max_wait_seconds=2.5)


def test_a_bound_is_taken_away_by_null() -> None:
    bounded = replace(BASE, max_queued_requests=3)
    document = {"limits": {"max_queued_requests": None}}
    settings = read_settings(document, base=Settings(limits=bounded), capacity=CAPACITY)
    assert settings == Settings(limits=BASE)


@pytest.mark.parametrize(
    ("limits", "field", "message"),
    [
        ({"max_running_requests": 0}, "max_running_requests", "must be 1 to 64, the number that the engine was"),
        ({"max_running_requests": 65}, "max_running_requests", "and is 65"),
        ({"max_running_requests": -(10**5000)}, "max_running_requests", "and is a huge number"),
        ({"max_running_requests": True}, "max_running_requests", "must be a number, and is true or false"),
        ({"max_running_requests": "16"}, "max_running_requests", "must be a number, and is a text"),
        ({"max_running_requests": 1.5}, "max_running_requests", "must be a whole number, and is 1.5"),
        ({"max_running_requests": None}, "max_running_requests", "must be a number, and is null"),
        ({"max_tokens_per_step": 4096}, "max_tokens_per_step", "must be 1 to 2048, the tokens that the engine was"),
        ({"max_tokens_per_step": 63}, "max_tokens_per_step", "63 is too few for limits.max_running_requests 64"),
        ({"long_prompt_tokens_per_step": 5000}, "long_prompt_tokens_per_step", "the longest context of the model"),
        ({"kv_headroom_percent": 91}, "kv_headroom_percent", "must be 0 to 90, and is 91"),
        ({"max_queued_requests": -1}, "max_queued_requests", "must be 0 to 1e+06, and is -1"),
        ({"max_wait_seconds": float("nan")}, "max_wait_seconds", "must be an ordinary number, and is nan"),
        ({"max_wait_seconds": 0}, "max_wait_seconds", "must be 0.1 to 86400, and is 0"),
        ({"max_runing_requests": 4}, "max_runing_requests", "did you mean limits.max_running_requests?"),
    ],
)
def test_a_bad_value_is_refused_with_its_field(limits: dict[str, Any], field: str, message: str) -> None:
    found = refused({"limits": limits})
    assert list(found) == [f"limits.{field}"]
    assert message in found[f"limits.{field}"]


@pytest.mark.parametrize(
    ("text", "field", "message"),
    [
        ("", "document", "is empty"),
        ("limits: {max_running_requests: 4", "document", "is not YAML"),
        ("- 1", "document", "must be a mapping with the key `limits`, `classes` or `batching`, and is a list"),
        ("limits:", "limits", "must be a mapping of limits, and is null"),
        ("limit: {}", "limits", "is missing"),
        ("limits: {}\nx: " + "y" * 70_000, "document", "is longer than 65536 characters"),
        ("limits: " + "[" * 500, "document", "is not YAML"),
        ("limits: " + "[" * 5000, "document", "has more than 512 brackets"),
        ("limits: {max_running_requests: " + "9" * 6000 + "}", "document", "is not YAML"),
        ("limits: !!python/object:os.system {}", "document", "is not YAML"),
    ],
)
def test_a_bad_document_is_refused(text: str, field: str, message: str) -> None:
    document = read_text(text)
    outcome = document if isinstance(document, Refused) else read(document)
    assert isinstance(outcome, Refused)
    found = {problem.field: problem.message for problem in outcome.problems}
    assert message in found[field]


def test_every_problem_is_told_at_once() -> None:
    found = refused({"limits": {"max_running_requests": 0, "kv_headroom_percent": "x"}, "modle": 1})
    assert set(found) == {"modle", "limits.max_running_requests", "limits.kv_headroom_percent"}


def test_a_step_in_which_a_prompt_could_wait_for_ever_is_refused() -> None:
    uncut = replace(CAPACITY, smallest_step=1024)
    assert "steps of 1024" in refused({"limits": {"max_tokens_per_step": 512}}, uncut)["limits.max_tokens_per_step"]
    guessing = replace(CAPACITY, tokens_per_request=5)
    message = refused({"limits": {"max_tokens_per_step": 300}}, guessing)["limits.max_tokens_per_step"]
    assert message == "300 is too few for limits.max_running_requests 64 at 5 tokens each: at least 320"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from(LIMITS) | st.text(max_size=12)
DOCUMENTS = JSON | st.fixed_dictionaries({"limits": st.dictionaries(NAMES, JSON, max_size=6)})


@settings(max_examples=300)
@given(DOCUMENTS)
def test_whatever_comes_gives_limits_that_the_engine_can_run_with_or_a_reason(document: object) -> None:
    outcome = read(document)
    if isinstance(outcome, Refused):
        assert all(problem.field and problem.message for problem in outcome.problems)
    else:
        assert 1 <= outcome.max_running_requests <= outcome.max_tokens_per_step <= 2048
        assert within(outcome, CAPACITY) == outcome


@settings(max_examples=200)
@given(st.text(max_size=200))
def test_no_text_is_too_strange_to_be_read_or_refused(text: str) -> None:
    document = read_text(text)
    assert isinstance(document, Refused) or read(document) is not None


@settings(max_examples=100)
@given(st.integers(0, 200))
def test_settings_in_json_that_are_cut_anywhere_are_refused(cut: int) -> None:
    whole = json.dumps({"limits": {"max_running_requests": 16, "max_tokens_per_step": 512}})
    text = whole[: cut % len(whole)]
    document = read_text(text)
    assert isinstance(document, Refused)


@given(
    st.integers(-5, 10_000), st.integers(-5, 10_000), st.integers(1, 128), st.integers(128, 4096), st.integers(1, 128)
)
def test_limits_are_brought_within_any_capacity(
    running: int, tokens: int, most_running: int, most_tokens: int, smallest: int
) -> None:
    capacity = Capacity(
        running_requests=most_running, tokens_per_step=most_tokens, longest_context=1024, smallest_step=smallest
    )
    found = within(Limits(max_running_requests=running, max_tokens_per_step=tokens), capacity)
    assert 1 <= found.max_running_requests <= most_running
    assert max(smallest, found.max_running_requests) <= found.max_tokens_per_step <= most_tokens


def test_limits_come_back_from_json() -> None:
    limits = replace(BASE, max_wait_seconds=1.5, kv_headroom_percent=10)
    assert limits_from_json(json.loads(json.dumps(limits.as_json()))) == limits


ORDERED = replace(CAPACITY, priorities=True)


def test_classes_are_taken_as_a_whole_and_the_limits_stay() -> None:
    before = Settings(limits=BASE, classes=Classes(rules={"old": Rule(priority=3)}))
    document = read_text("classes: {batch: {priority: 10, queue_percent: 50}, chat: {}}\nid: 7\n")
    settings = read_settings(document, base=before, capacity=ORDERED)
    rules = {"batch": Rule(priority=10, queue_percent=50), "chat": Rule()}
    assert settings == Settings(limits=BASE, classes=Classes(rules=rules), id=7)


def test_a_request_without_a_known_class_is_of_the_class_default() -> None:
    classes = Classes(rules={"default": Rule(priority=5), "chat": Rule(priority=1)})
    assert [classes.rule(name).priority for name in (None, "", "nobody", "chat")] == [5, 5, 5, 1]
    assert Classes().rule("chat") == Rule() and not Classes().ordered and classes.ordered


@pytest.mark.parametrize(
    ("document", "field", "message"),
    [
        ({"classes": []}, "classes", "must be a mapping of classes, and is a list"),
        ({"classes": {"Batch!": {}}}, "classes", "a name has up to 63 lower-case letters"),
        ({"classes": {"batch": 3}}, "classes.batch", "must be a mapping with priority and queue_percent"),
        ({"classes": {"batch": {"prority": 1}}}, "classes.batch.prority", "did you mean classes.batch.priority?"),
        ({"classes": {"batch": {"priority": 1001}}}, "classes.batch.priority", "must be -1000 to 1000, and is 1001"),
        ({"classes": {"batch": {"queue_percent": 101}}}, "classes.batch.queue_percent", "must be 0 to 100"),
        ({"classes": {f"c{n}": {} for n in range(17)}}, "classes", "are 17, and at most 16 may be"),
        ({"limits": {}, "id": -1}, "id", "must be 0 to"),
        ({"limits": {}, "id": "7"}, "id", "must be a number, and is a text"),
        ({"id": 7}, "limits", "is missing"),
    ],
)
def test_classes_and_ids_that_cannot_be_are_refused_with_their_field(
    document: dict[str, Any], field: str, message: str
) -> None:
    found = refused(document, ORDERED)
    assert list(found) == [field] and message in found[field]


def test_a_priority_needs_an_engine_that_has_them() -> None:
    document = {"classes": {"batch": {"priority": 1}}, "limits": {"max_running_requests": 4}}
    assert "--scheduling-policy priority" in refused(document)["classes.batch.priority"]
    asked = Settings(limits=BASE, classes=Classes(rules={"batch": Rule(priority=1, queue_percent=20)}))
    assert fitting(asked, CAPACITY).classes.rules == {"batch": Rule(queue_percent=20)}
    assert fitting(asked, ORDERED) == asked
