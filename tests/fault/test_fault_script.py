"""Faults as data: which call meets which rule."""

from __future__ import annotations

import pytest

from tests.fault.script import Call, Fault, Kind, Rule, Script, call_of

DROP = Fault(kind=Kind.DROP)
APPLY = "application/apply-patch+yaml"


@pytest.mark.parametrize(
    ("method", "url", "kind", "call"),
    [
        (
            "PATCH",
            "/apis/trimtab.dev/v1alpha1/namespaces/a/llmdeployments/chat/status?fieldManager=trimtab&force=true",
            APPLY,
            Call(verb="apply", resource="llmdeployments", namespace="a", name="chat", subresource="status"),
        ),
        ("GET", "/api/v1/namespaces/a/pods?limit=500", "", Call(verb="list", resource="pods", namespace="a")),
        ("GET", "/api/v1/pods?watch=true", "", Call(verb="watch", resource="pods")),
        ("GET", "/api/v1/nodes/n", "", Call(verb="get", resource="nodes", name="n")),
        ("GET", "/api/v1/namespaces/a", "", Call(verb="get", resource="namespaces", name="a")),
        ("DELETE", "/apis/apps/v1/namespaces/a/deployments/d", "",
         Call(verb="delete", resource="deployments", namespace="a", name="d")),
        ("PATCH", "/apis/apps/v1/namespaces/a/deployments/d?dryRun=All", APPLY,
         Call(verb="get", resource="deployments", namespace="a", name="d")),
        ("GET", "/version", "", Call(verb="list", resource="")),
    ],
)  # fmt: skip
def test_a_request_is_read_as_the_api_server_reads_it(method: str, url: str, kind: str, call: Call) -> None:
    assert call_of(method, url, kind) == call


def test_a_rule_skips_counts_and_repeats() -> None:
    script = Script([Rule(fault=DROP, verb="write", resource="deployments", skip=1, times=4, every=2)])
    write = Call(verb="apply", resource="deployments")
    met = [script.fault_of(write) is not None for _ in range(8)]
    assert met == [False, True, False, True, False, False, False, False]
    assert script.fault_of(Call(verb="get", resource="deployments")) is None
    assert script.fault_of(Call(verb="apply", resource="pods")) is None
    assert len(script.met) == 2 and len(script.calls) == 10


def test_the_first_rule_that_is_due_decides() -> None:
    slow = Fault(kind=Kind.DELAY, seconds=1.0)
    script = Script([Rule(fault=DROP, verb="read", times=1), Rule(fault=slow, times=10)])
    read = Call(verb="list", resource="pods")
    assert [script.fault_of(read) for _ in range(2)] == [DROP, slow]
    script.clear()
    assert script.fault_of(read) is None


def test_writes_to_the_lease_are_told_apart() -> None:
    script = Script()
    for verb, resource in (("update", "leases"), ("apply", "deployments"), ("get", "pods")):
        script.fault_of(Call(verb=verb, resource=resource))
    assert [call.resource for _, call in script.writes()] == ["deployments"]
