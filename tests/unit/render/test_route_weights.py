"""The weights of a route as a patch: exact shares, every rule, and what cannot be shared is said."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.reconcile.resources import owned
from trimtab.render import backends_of, route_services, weigh


def backend(name: str, weight: int | None = None, **more: Any) -> dict[str, Any]:
    return {"name": name, "port": 8000, **({} if weight is None else {"weight": weight}), **more}


def route(*rules: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "metadata": {"name": "public", "namespace": "serving", "resourceVersion": "7"},
        "spec": {"rules": [{"backendRefs": references} for references in rules]},
    }


STABLE, CANARY = backend("chat-stable"), backend("chat-canary")


def test_every_rule_gets_the_weights_in_whatever_order_it_names_the_backends() -> None:
    found = route([STABLE, CANARY], [backend("docs")], [backend("chat-canary", 3), backend("chat-stable", 1)])
    backends = backends_of(found, owned())
    assert not isinstance(backends, str)
    assert [one.share for one in backends] == [50.0, 75.0]
    assert weigh(found, backends, 20) == [
        {"op": "replace", "path": "/metadata/resourceVersion", "value": "7"},
        {"op": "add", "path": "/spec/rules/0/backendRefs/0/weight", "value": 80},
        {"op": "add", "path": "/spec/rules/0/backendRefs/1/weight", "value": 20},
        {"op": "add", "path": "/spec/rules/2/backendRefs/1/weight", "value": 80},
        {"op": "add", "path": "/spec/rules/2/backendRefs/0/weight", "value": 20},
    ]


def test_a_rule_that_has_the_share_in_other_numbers_is_left_as_it_is() -> None:
    found = route([backend("chat-stable", 4), backend("chat-canary", 1)])
    backends = backends_of(found, owned())
    assert not isinstance(backends, str)
    assert weigh(found, backends, 20) == []
    assert len(weigh(found, backends, 21)) == 3


@pytest.mark.parametrize(
    ("rules", "says"),
    [
        ((), "No rule of HTTPRoute public names"),
        (([backend("docs")],), "No rule of HTTPRoute public names"),
        (([STABLE],), "Rule 1 of HTTPRoute public must name"),
        (([STABLE, CANARY], [STABLE]), "Rule 2 of HTTPRoute public must name"),
        (([STABLE, CANARY, backend("docs")],), "no other backend beside them"),
        (([STABLE, CANARY, CANARY],), "each once"),
        (([STABLE, backend("chat-canary", namespace="other")],), "Rule 1"),
        (([STABLE, backend("chat-canary", group="example.com", kind="Pool")],), "Rule 1"),
    ],
)
def test_a_route_that_cannot_share_the_traffic_says_which_rule(
    rules: tuple[list[dict[str, Any]], ...], says: str
) -> None:
    told = backends_of(route(*rules), owned())
    assert isinstance(told, str) and says in told


def test_no_weight_at_all_is_no_share() -> None:
    backends = backends_of(route([backend("chat-stable", 0), backend("chat-canary", 0)]), owned())
    assert not isinstance(backends, str) and backends[0].share is None


def test_the_services_select_one_revision_each_or_all() -> None:
    stable, canary = route_services(owned(), "rev-a", "")
    assert stable["metadata"]["name"] == "chat-stable" and canary["metadata"]["name"] == "chat-canary"
    assert stable["spec"]["selector"] == {"trimtab.dev/deployment": "chat", "trimtab.dev/revision": "rev-a"}
    assert canary["spec"]["selector"] == {"trimtab.dev/deployment": "chat"}
    assert stable["spec"]["ports"] == canary["spec"]["ports"]
