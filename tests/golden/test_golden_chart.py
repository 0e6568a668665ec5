"""The chart, rendered by the real Helm."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.handle import CommandError
from tests.golden.files import assert_golden
from trimtab.telemetry.metrics import Metrics

CHART = Path(__file__).resolve().parents[2] / "charts" / "trimtab"
Helm = Callable[..., str]
URL = "prometheus.url=http://prometheus.monitoring:9090"
EVERYTHING = (
    "metrics.serviceMonitor.enabled=true",
    "metrics.podMonitor.enabled=true",
    "metrics.prometheusRule.enabled=true",
    "metrics.dashboard.enabled=true",
    "networkPolicy.enabled=true",
    "gatewayApi.httpRoutes=true",
    "podDisruptionBudget.enabled=true",
    "replicas=2",
    "priorityClassName=high",
    "imagePullSecrets[0].name=registry",
    "image.digest=sha256:" + 64 * "a",
    "extraEnv[0].name=OTEL_EXPORTER_OTLP_ENDPOINT,extraEnv[0].value=http://collector:4318",
)
# All that the operator may ever do, by group and resource.
ALLOWED = {
    ("", "events"): {"create", "patch"},
    ("", "nodes"): {"get", "list", "watch"},
    ("", "pods"): {"get", "list", "watch", "patch"},
    ("", "resourcequotas"): {"list"},
    ("", "services"): {"get", "list", "watch", "create", "patch"},
    ("apps", "deployments"): {"get", "list", "watch", "create", "patch", "delete"},
    ("autoscaling", "horizontalpodautoscalers"): {"get", "list", "watch"},
    ("coordination.k8s.io", "leases"): {"create", "get", "update", "patch"},
    ("", "configmaps"): {"create", "get", "patch"},
    ("keda.sh", "scaledobjects"): {"list"},
    ("policy", "poddisruptionbudgets"): {"list"},
    ("trimtab.dev", "llmdeployments"): {"get", "list", "watch"},
    ("trimtab.dev", "llmdeployments/status"): {"get", "patch"},
    ("trimtab.dev", "optimizationplans"): {"get", "list", "watch", "create", "patch", "delete"},
    ("trimtab.dev", "optimizationplans/status"): {"get", "patch"},
}

pytestmark = pytest.mark.cluster


def rendered(helm: Helm, *settings: str) -> list[dict[str, Any]]:
    words = [word for setting in (URL, *settings) for word in ("--set", setting)]
    text = helm("template", "trimtab", str(CHART), "--namespace=trimtab-system", *words)
    return [document for document in yaml.safe_load_all(text) if document]


def of_kind(documents: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [document for document in documents if document["kind"] == kind]


def granted(documents: list[dict[str, Any]]) -> Iterator[tuple[str, str, set[str], dict[str, Any]]]:
    for role in of_kind(documents, "ClusterRole") + of_kind(documents, "Role"):
        if "aggregate" in json.dumps(role["metadata"]["labels"]):
            continue  # for people, not for the operator
        for rule in role["rules"]:
            for group in rule["apiGroups"]:
                for resource in rule["resources"]:
                    yield group, resource, set(rule["verbs"]), {**rule, "role": role}


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("cluster", ()),
        ("namespaced", ("watch.namespaces={chat,search}",)),
        ("everything", EVERYTHING),
    ],
)
def test_the_rendered_chart(helm: Helm, name: str, settings: tuple[str, ...]) -> None:
    documents = rendered(helm, *settings)
    assert_golden(f"chart/{name}.yaml", yaml.safe_dump_all(documents, sort_keys=False, width=120))


@pytest.mark.parametrize("settings", [(), ("watch.namespaces={chat}",)], ids=["cluster", "namespaced"])
def test_the_operator_is_granted_what_it_needs_and_nothing_else(helm: Helm, settings: tuple[str, ...]) -> None:
    found: dict[tuple[str, str], set[str]] = {}
    for group, resource, verbs, rule in granted(rendered(helm, *settings)):
        assert "*" not in {group, resource, *verbs}
        found.setdefault((group, resource), set()).update(verbs)
        if resource == "leases" and verbs != {"create"}:
            assert rule["resourceNames"] == ["trimtab"]
        if resource == "configmaps":
            own = rule.get("resourceNames") == ["trimtab-calibration"] or verbs == {"create"}
            assert own or (rule["resourceNames"], verbs) == (["trimtab-probes"], {"get"})
    expected = dict(ALLOWED)
    if settings:
        del expected["", "nodes"]
    assert found == expected


def test_routes_may_be_patched_only_where_that_was_asked_for(helm: Helm) -> None:
    group = "gateway.networking.k8s.io"
    found = [
        (resource, verbs)
        for owner, resource, verbs, _ in granted(rendered(helm, "gatewayApi.httpRoutes=true"))
        if owner == group
    ]
    assert found == [("httproutes", {"get", "patch"})]
    assert all(owner != group for owner, *_ in granted(rendered(helm)))


def test_without_names_of_probe_sets_no_other_configmap_can_be_read(helm: Helm) -> None:
    rules = [
        rule for _, resource, _, rule in granted(rendered(helm, "quality.configMaps=null")) if resource == "configmaps"
    ]
    assert all(rule["resourceNames"] == ["trimtab-calibration"] for rule in rules if "get" in rule["verbs"])


def test_a_namespaced_installation_asks_for_nothing_outside_its_namespaces(helm: Helm) -> None:
    documents = rendered(helm, "watch.namespaces={chat,search}")
    assert not of_kind(documents, "ClusterRole")
    assert not of_kind(documents, "ClusterRoleBinding")
    assert {role["metadata"]["namespace"] for role in of_kind(documents, "Role")} == {
        "chat",
        "search",
        "trimtab-system",
    }


def test_the_operator_pod_meets_the_restricted_standard(helm: Helm) -> None:
    (deployment,) = of_kind(rendered(helm), "Deployment")
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["resources"]["limits"]["memory"]


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ("prometheus.url=ftp://prometheus", "/prometheus/url"),
        ("maxMode=Reckless", "/maxMode"),
        ("replicas=100", "/replicas"),
        ("watch.namespaces={Not_A_Namespace}", "/watch/namespaces"),
        ("image.digest=latest", "/image/digest"),
        ("quality.configMaps={Not_A_Name}", "/quality/configMaps"),
        ("promtheus.url=http://typo", "promtheus"),
        ("networkPolicy.apiServerPorts={70000}", "/networkPolicy/apiServerPorts"),
    ],
)
def test_a_wrong_value_is_refused_by_its_path(helm: Helm, setting: str, named: str) -> None:
    with pytest.raises(CommandError, match=named):
        rendered(helm, setting)


def test_the_address_of_prometheus_is_required(helm: Helm) -> None:
    with pytest.raises(CommandError, match=r"prometheus\.url is required"):
        helm("template", "trimtab", str(CHART))


def test_the_chart_passes_helms_own_checks(helm: Helm) -> None:
    assert "0 chart(s) failed" in helm("lint", "--strict", str(CHART), "--set", URL)


def test_every_value_is_in_the_schema() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())

    def compare(part: dict[str, Any], described: dict[str, Any], path: str) -> None:
        assert described.get("additionalProperties") is not True, path
        for name, value in part.items():
            assert name in described["properties"], f"{path}.{name}"
            below = described["properties"][name]
            if isinstance(value, dict) and "properties" in below:
                compare(value, below, f"{path}.{name}")

    compare(values, schema, "values")


def test_the_dashboard_asks_for_metrics_that_the_operator_or_vllm_exports() -> None:
    dashboard = json.loads((CHART / "dashboards" / "trimtab.json").read_text())
    rules = (CHART / "templates" / "prometheusrule.yaml").read_text()
    queries = " ".join(target["expr"] for panel in dashboard["panels"] for target in panel["targets"]) + rules
    asked = set(re.findall(r"\b(?:trimtab|vllm:)[a-z_:]*_[a-z_]+\b(?=[{\[) ]|\s)", queries))
    asked = {name for name in asked if not name.startswith("trimtab_dev_")}
    own = set(Metrics().names())
    for name in asked:
        if name.startswith("trimtab"):
            assert re.sub(r"_(total|bucket|count|sum)$", "", name) in own, name
    exposed = (CHART.parents[1] / "tests" / "vllm" / "recordings" / "metrics-under-load.txt").read_text()
    for name in asked:
        if name.startswith("vllm:"):
            assert name in exposed, name
    assert len(asked) > 8
