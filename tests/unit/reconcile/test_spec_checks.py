"""Is there something to work on? Each problem names the field, the value and the way out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from tests.unit.reconcile.resources import adopting, owned, target
from trimtab.api.v1alpha1 import LLMDeployment
from trimtab.catalogue import ENGINES, find_engine
from trimtab.model.reason import Reason
from trimtab.reconcile.spec_checks import CHECKS, Subject, problem_of


def _subject(
    deployment: LLMDeployment,
    target: Mapping[str, Any] | None = None,
    siblings: Sequence[Mapping[str, Any]] = (),
) -> Subject:
    return Subject(
        deployment=deployment,
        engine=find_engine(deployment.spec.engine.name),
        engines=tuple(ENGINES),
        target=target,
        siblings=siblings,
    )


def _sibling(name: str, uid: str, created: str, adopts: str | None = "web") -> dict[str, Any]:
    spec = {"targetRef": {"kind": "Deployment", "name": adopts}} if adopts else {}
    return {"metadata": {"name": name, "uid": uid, "creationTimestamp": created}, "spec": spec}


OLDER = _sibling("first", "uid-0", "2026-01-01T00:00:00Z")
YOUNGER = _sibling("third", "uid-3", "2026-01-03T00:00:00Z")
OURS = [{"kind": "LLMDeployment", "name": "other", "uid": "uid-9"}]

GOOD = {
    "an owned deployment": _subject(owned()),
    "an owned deployment with knobs": _subject(owned(engine={"config": {"maxNumSeqs": 8, "enforceEager": True}})),
    "a value that only the engine can refuse": _subject(owned(engine={"config": {"blockSize": 7}})),
    "an engine that is only watched": _subject(owned(engine={"name": "tgi", "version": "3.3.6"})),
    "an adopted deployment": _subject(adopting(), target()),
    "a younger one wants the same target": _subject(adopting(), target(), (YOUNGER,)),
    "an older one adopts something else": _subject(
        adopting(), target(), (_sibling("first", "uid-0", "2026-01-01T00:00:00Z", "another"),)
    ),
    "an older one owns its workload": _subject(
        adopting(), target(), (_sibling("first", "uid-0", "2026-01-01T00:00:00Z", None),)
    ),
    "it finds itself among the siblings": _subject(
        adopting(), target(), (_sibling("chat", "uid-1", "2026-01-02T00:00:00Z"),)
    ),
    "the target belongs to another controller": _subject(
        adopting(), target(ownerReferences=[{"kind": "Rollout", "name": "web", "uid": "uid-8"}])
    ),
}


@pytest.mark.parametrize("subject", GOOD.values(), ids=GOOD.keys())
def test_nothing_stands_against(subject: Subject) -> None:
    assert problem_of(subject) is None


BAD: dict[str, tuple[Subject, Reason, tuple[str, ...]]] = {
    "an unknown engine": (
        _subject(owned(engine={"name": "mystery"})),
        Reason.UNKNOWN_ENGINE,
        ("spec.engine.name", "'mystery'", "vllm", "sglang", "tgi"),
    ),
    "a version without known flags": (
        _subject(owned(engine={"version": "9.9.9"})),
        Reason.UNSUPPORTED_ENGINE_VERSION,
        ("spec.engine.version", "'9.9.9'", "image"),
    ),
    "a knob that the engine lacks": (
        _subject(owned(engine={"name": "sglang", "version": "0.5.23", "config": {"enforceEager": True}})),
        Reason.INVALID_SPEC,
        ("spec.engine.config", "enforceEager"),
    ),
    "a knob of an engine that is only watched": (
        _subject(owned(engine={"name": "tgi", "version": "3.3.6", "config": {"maxNumSeqs": 4}})),
        Reason.INVALID_SPEC,
        ("watched only", "maxNumSeqs"),
    ),
    "a missing target": (
        _subject(adopting(), None),
        Reason.TARGET_NOT_FOUND,
        ("spec.targetRef", "'web'", "'serving'", "Create it"),
    ),
    "a target without the container": (
        _subject(adopting(targetRef={"container": "engine"}), target()),
        Reason.TARGET_NOT_FOUND,
        ("spec.targetRef.container", "'engine'", "proxy, vllm"),
    ),
    "a target that an older one tunes": (
        _subject(adopting(), target(), (OLDER,)),
        Reason.TARGET_CONFLICT,
        ("'web'", "'first'", "older", "Delete one"),
    ),
    "two of the same age: the smaller uid works": (
        _subject(adopting(), target(), (_sibling("twin", "uid-0", "2026-01-02T00:00:00Z"),)),
        Reason.TARGET_CONFLICT,
        ("'twin'",),
    ),
    "a target that an LLMDeployment owns": (
        _subject(adopting(), target(ownerReferences=OURS)),
        Reason.TARGET_CONFLICT,
        ("'web'", "'other'", "of your own"),
    ),
}


@pytest.mark.parametrize(("subject", "reason", "words"), BAD.values(), ids=BAD.keys())
def test_a_problem_names_the_value_and_the_way_out(subject: Subject, reason: Reason, words: tuple[str, ...]) -> None:
    problem = problem_of(subject)
    assert problem is not None
    assert problem.reason is reason
    for word in words:
        assert word in problem.message
    assert problem.message.rstrip().endswith("."), "a sentence for a person"


def test_the_first_problem_is_the_one_that_is_told() -> None:
    subject = _subject(adopting(engine={"name": "mystery"}), None)
    problem = problem_of(subject)
    assert problem is not None
    assert problem.reason is Reason.UNKNOWN_ENGINE


def test_no_check_fails_on_a_subject_of_which_little_is_known() -> None:
    """Each check is asked alone, so none may rest on an earlier one having passed."""
    subjects = [
        _subject(owned(engine={"name": "mystery"})),
        _subject(adopting(), None),
        *(bad[0] for bad in BAD.values()),
    ]
    for check in CHECKS:
        for subject in subjects:
            check(subject)
