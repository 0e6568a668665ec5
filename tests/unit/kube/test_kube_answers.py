"""From the API server's answers to exceptions, and from kinds to addresses."""

from __future__ import annotations

import json
from typing import Any

import pytest

from trimtab.kube.errors import (
    Conflict,
    Forbidden,
    Gone,
    Invalid,
    KubeError,
    NotFound,
    TooManyRequests,
    Unauthorized,
    Unavailable,
    error_from,
)
from trimtab.kube.events import event_name
from trimtab.kube.kinds import DEPLOYMENTS, LLM_DEPLOYMENTS, NODES, PODS


def answer(status: int, document: object = None, headers: dict[str, str] | None = None) -> KubeError:
    body = document if isinstance(document, bytes) else json.dumps(document or {}).encode()
    return error_from(status, headers or {}, body, "apply Deployment a/b")


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, Invalid),
        (401, Unauthorized),
        (403, Forbidden),
        (404, NotFound),
        (405, Invalid),
        (409, Conflict),
        (410, Gone),
        (413, Invalid),
        (422, Invalid),
        (429, TooManyRequests),
        (500, Unavailable),
        (502, Unavailable),
        (504, Unavailable),
    ],
)
def test_every_status_has_its_exception_and_the_message_says_what_was_tried(status: int, kind: type[KubeError]) -> None:
    for body in (None, b"<html>bad gateway</html>", b"", b"[1]", {"message": "no", "details": "text"}):
        error = answer(status, body)
        assert type(error) is kind
        assert str(error).startswith("apply Deployment a/b: ")


def test_a_conflict_names_every_manager_and_field() -> None:
    causes = [
        {
            "reason": "FieldManagerConflict",
            "message": 'conflict with "argocd" using apps/v1',
            "field": ".spec.replicas",
        },
        {"reason": "FieldManagerConflict", "message": 'conflict with "argocd"', "field": ".spec.paused"},
        {"reason": "FieldManagerConflict", "message": 'conflict with "kubectl-edit" using apps/v1', "field": ".spec.x"},
    ]
    error = answer(409, {"message": "Apply failed with 3 conflicts", "details": {"causes": causes}})
    assert isinstance(error, Conflict)
    assert error.managers == ("argocd", "kubectl-edit")
    assert error.fields == (".spec.replicas", ".spec.paused", ".spec.x")


@pytest.mark.parametrize(
    ("headers", "document", "seconds"),
    [
        ({"Retry-After": "7"}, {}, 7.0),
        ({}, {"details": {"retryAfterSeconds": 3}}, 3.0),
        ({"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}, {"details": {"retryAfterSeconds": 2}}, 2.0),
        ({}, {}, 1.0),
        ({"Retry-After": "-5"}, {}, 0.0),
    ],
)
def test_patience_is_as_long_as_the_server_asks(headers: dict[str, str], document: Any, seconds: float) -> None:
    error = answer(429, document, headers)
    assert isinstance(error, TooManyRequests)
    assert error.retry_after == seconds


def test_a_long_message_is_cut() -> None:
    assert len(str(answer(422, {"message": "x" * 10_000}))) < 700


def test_addresses_are_those_of_the_api() -> None:
    assert PODS.path("a", "b") == "/api/v1/namespaces/a/pods/b"
    assert PODS.path() == "/api/v1/pods"
    assert NODES.path(None, "n") == "/api/v1/nodes/n"
    assert DEPLOYMENTS.path("a", "b", "status") == "/apis/apps/v1/namespaces/a/deployments/b/status"
    assert LLM_DEPLOYMENTS.api_version == "trimtab.dev/v1alpha1"


def test_a_name_cannot_lead_to_another_address() -> None:
    assert PODS.path("a", "../secrets/x?y#z") == "/api/v1/namespaces/a/pods/..%2Fsecrets%2Fx%3Fy%23z"
    for name in ("..", "."):
        with pytest.raises(ValueError, match="not the name"):
            PODS.path("a", name)


def test_event_names_are_the_same_for_the_same_words_and_differ_otherwise() -> None:
    about = {"kind": "LLMDeployment", "metadata": {"name": "d", "namespace": "n", "uid": "u"}}
    name = event_name(about, "Promoted", "m", "Normal")
    assert name == event_name(about, "Promoted", "m", "Normal")
    others = {
        event_name(about, "Promoted", "other", "Normal"),
        event_name(about, "RolledBack", "m", "Normal"),
        event_name(about, "Promoted", "m", "Warning"),
        event_name({**about, "metadata": {**about["metadata"], "uid": "v"}}, "Promoted", "m", "Normal"),  # type: ignore[dict-item]
    }
    assert len(others | {name}) == 5
    long = {"kind": "LLMDeployment", "metadata": {"name": "x" * 253, "namespace": "n", "uid": "u"}}
    assert len(event_name(long, "R", "m", "Normal")) <= 253
