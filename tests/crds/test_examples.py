"""The examples and the schema's rules against the real API server."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.definitions import established
from tests.cluster.handle import CommandError, Handle
from tests.golden.test_golden_manifests import example
from trimtab import render
from trimtab.api.convert import plan_from, rollout_state_from, rollout_state_to
from trimtab.api.v1alpha1 import LLMDeployment
from trimtab.model.config import EngineConfig
from trimtab.model.plan import Change, Effect, Effort, Impact, Metric, Optimization, OptimizationType, Plan
from trimtab.model.reason import Reason
from trimtab.model.rollout import Attempt, Candidate, Phase, RolloutState, Source, Stable
from trimtab.model.verdict import Call, Verdict

ROOT = Path(__file__).resolve().parents[2]
GOOD = sorted((ROOT / "docs" / "examples" / "good").glob("*.yaml"))
BAD = sorted((ROOT / "docs" / "examples" / "bad").glob("*.yaml"))
MARK = "# refused: "

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module", autouse=True)
def crds(cluster: Handle) -> None:
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "--filename", str(ROOT / "crds"))
    established(cluster.kubectl, "--filename", str(ROOT / "crds"))


def create(cluster: Handle, namespace: str, document: dict[str, Any]) -> None:
    cluster.kubectl("create", "--filename=-", namespace=namespace, stdin=yaml.safe_dump(document))


def smallest(name: str) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((ROOT / "docs/examples/good/smallest.yaml").read_text())
    document["metadata"]["name"] = name
    return document


@pytest.mark.parametrize("path", GOOD, ids=lambda path: path.stem)
def test_a_good_example_is_admitted_and_read_as_it_is_written(cluster: Handle, namespace: str, path: Path) -> None:
    cluster.kubectl("create", "--filename", str(path), namespace=namespace)
    name = yaml.safe_load(path.read_text())["metadata"]["name"]
    stored = cluster.get("llmdep", name, namespace=namespace)
    cluster.kubectl("delete", "llmdep", name, namespace=namespace)
    resource = LLMDeployment.model_validate(stored)
    assert resource.spec.to_json() == LLMDeployment.model_validate(yaml.safe_load(path.read_text())).spec.to_json()
    # What the server adds is what the models have as defaults.
    assert (
        resource.spec.to_json()
        == LLMDeployment.model_validate({**stored, "spec": resource.spec.to_json()}).spec.to_json()
    )
    assert stored["spec"]["tuning"]["mode"] == resource.spec.tuning.mode.value
    assert stored["metadata"]["generation"] == 1


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
def test_a_bad_example_is_refused_with_a_message_that_names_the_field(
    cluster: Handle, namespace: str, path: Path
) -> None:
    first, _, _ = path.read_text().partition("\n")
    assert first.startswith(MARK)
    with pytest.raises(CommandError) as refused:
        cluster.kubectl("create", "--filename", str(path), namespace=namespace)
    assert first.removeprefix(MARK) in str(refused.value)


def test_a_target_cannot_be_exchanged_added_or_removed(cluster: Handle, namespace: str) -> None:
    cluster.kubectl("create", "--filename", str(ROOT / "docs/examples/good/adopted.yaml"), namespace=namespace)
    create(cluster, namespace, smallest("owned"))
    refused: list[tuple[str, dict[str, Any]]] = [
        ("chat-tuning", {"spec": {"targetRef": {"name": "other"}}}),
        ("chat-tuning", {"spec": {"targetRef": None, "model": {"source": "/m"}, "engine": {"image": "x"}}}),
        ("owned", {"spec": {"targetRef": {"name": "x"}, "model": {"source": None}, "engine": {"image": None}}}),
    ]
    for name, patch in refused:
        with pytest.raises(CommandError, match=r"spec\.targetRef"):
            cluster.kubectl(
                "patch", "llmdep", name, "--type=merge", f"--patch={patch_text(patch)}", namespace=namespace
            )
    policy = {"spec": {"targetRef": {"fieldConflicts": "Override"}}}
    cluster.kubectl(
        "patch", "llmdep", "chat-tuning", "--type=merge", f"--patch={patch_text(policy)}", namespace=namespace
    )


def patch_text(patch: dict[str, Any]) -> str:
    return json.dumps(patch)


def test_an_autoscaler_can_scale_through_the_scale_subresource(cluster: Handle, namespace: str) -> None:
    create(cluster, namespace, smallest("scaled"))
    cluster.kubectl("scale", "llmdep/scaled", "--replicas=3", namespace=namespace)
    status = {"status": {"replicas": 2, "selector": "trimtab.dev/deployment=scaled"}}
    cluster.kubectl(
        *("patch", "llmdep", "scaled", "--subresource=status", "--type=merge", f"--patch={patch_text(status)}"),
        namespace=namespace,
    )
    raw = f"/apis/trimtab.dev/v1alpha1/namespaces/{namespace}/llmdeployments/scaled/scale"
    scale = yaml.safe_load(cluster.kubectl("get", f"--raw={raw}"))
    assert scale["spec"]["replicas"] == 3
    assert scale["status"] == {"replicas": 2, "selector": "trimtab.dev/deployment=scaled"}


STATE = RolloutState(
    phase=Phase.WATCHING,
    since=1_790_000_000.123456,
    stable=Stable("aaaaaaaa", EngineConfig({"maxNumSeqs": 16, "enablePrefixCaching": False}), "tttttttt"),
    candidate=Candidate(
        revision="bbbbbbbb",
        config=EngineConfig({"maxNumSeqs": 32, "kvCacheDtype": "fp8"}),
        template="tttttttt",
        source=Source.PLAN,
        plan="smallest-1a2b3c4d",
        step=1,
        trades=frozenset({Metric.ITL}),
        alters_outputs=True,
    ),
    previous=Stable("cccccccc", EngineConfig({"maxNumSeqs": 1}), "tttttttt"),
    started_at=1_790_000_000.5,
    served_at=1_790_000_030.0,
    verdict=Verdict(Call.GOOD, Reason.WITHIN_SLO, "TTFT p95 is 0.31 s.", {"ttft.p95": 0.31, "requests": 412.0}),
    attempts=(
        Attempt(
            revision="dddddddd",
            config=EngineConfig({"blockSize": 16}),
            source=Source.USER,
            plan="",
            step=0,
            outcome=Reason.ABANDONED,
            reason=Reason.CANARY_CRASH_LOOP,
            message="ValueError: No common block size for 16.",
            started_at=1_780_000_000.0,
            served_at=None,
            decided_at=1_780_000_060.25,
            ended_at=1_780_000_061.0,
            measured={"restarts": 2.0},
        ),
    ),
    bad=("dddddddd",),
    user_config=EngineConfig({"maxNumSeqs": 1}),
    user_template="tttttttt",
    holding="12 of 30 requests have been seen.",
    paused_at=1_790_000_100.75,
    plan_starts=(1_790_000_000.5, 1_789_000_000.0),
)


def test_the_state_of_a_rollout_survives_the_api_server(cluster: Handle, namespace: str) -> None:
    create(cluster, namespace, smallest("stateful"))
    document = {
        "apiVersion": "trimtab.dev/v1alpha1",
        "kind": "LLMDeployment",
        "metadata": {"name": "stateful"},
        "status": rollout_state_to(STATE),
    }
    apply = ("apply", "--server-side", "--field-manager=trimtab", "--subresource=status", "--filename=-")
    cluster.kubectl(*apply, namespace=namespace, stdin=yaml.safe_dump(document))
    stored = cluster.get("llmdep", "stateful", namespace=namespace)
    assert rollout_state_from(stored["status"]) == STATE
    # Nothing was pruned and nothing was added: applying it again changes nothing.
    assert stored["status"] == document["status"]
    cluster.kubectl(*apply, namespace=namespace, stdin=yaml.safe_dump(document))
    again = cluster.get("llmdep", "stateful", namespace=namespace)
    assert again["metadata"]["resourceVersion"] == stored["metadata"]["resourceVersion"]


def _plan() -> Plan:
    step = Optimization(
        type=OptimizationType.BATCHING,
        title="Serve 16 sequences at once",
        description="Requests wait.",
        changes=(Change("maxNumSeqs", 1, 16, "31 wait."), Change("enablePrefixCaching", None, True, "80 % hits.")),
        impact=Impact.HIGH,
        effects=(Effect(Metric.THROUGHPUT, 4.2, 2.5, 6.0, "rule"),),
        effort=Effort.RESTART,
        trades=(Metric.ITL,),
    )
    return Plan(
        namespace="serving",
        target="planned",
        engine="vllm",
        engine_version="0.32.0",
        start=EngineConfig({"maxNumSeqs": 1}),
        result=EngineConfig({"maxNumSeqs": 16, "enablePrefixCaching": True}),
        optimizations=(step,),
        improvement=Effect(Metric.THROUGHPUT, 4.2, 2.5, 6.0, "rule"),
        fingerprint={"promptTokens": 64.5},
    )


def test_a_plan_is_stored_as_it_is_proposed_and_cannot_be_changed(cluster: Handle, namespace: str) -> None:
    create(cluster, namespace, smallest("planned"))
    owner = LLMDeployment.model_validate(cluster.get("llmdep", "planned", namespace=namespace))
    cluster.apply(yaml.safe_dump(render.plan_object(owner, _plan())), namespace=namespace)
    stored = cluster.get("optplan", _plan().name, namespace=namespace)
    found = plan_from(stored)
    assert isinstance(found, Plan)
    assert (found.name, found.optimizations, found.result) == (_plan().name, _plan().optimizations, _plan().result)
    with pytest.raises(CommandError, match="cannot be changed"):
        cluster.kubectl(
            *("patch", "optplan", found.name, "--type=merge", '--patch={"spec":{"estimated":false}}'),
            namespace=namespace,
        )
    cluster.kubectl("delete", "llmdep", "planned", "--cascade=foreground", namespace=namespace)
    assert not cluster.get("optplan", namespace=namespace)["items"]


def test_kubectl_shows_what_a_person_asks_first(cluster: Handle, namespace: str) -> None:
    create(cluster, namespace, smallest("shown"))
    status = {"status": {"phase": "Stable", "slo": "Met", "bottleneck": "QueueBuildup", "reason": "Stable"}}
    cluster.kubectl(
        *("patch", "llmdep", "shown", "--subresource=status", "--type=merge", f"--patch={patch_text(status)}"),
        namespace=namespace,
    )
    head, line = cluster.kubectl("get", "llmdep", "shown", namespace=namespace).splitlines()
    assert head.split()[:8] == ["NAME", "MODEL", "ENGINE", "MODE", "PHASE", "SLO", "BOTTLENECK", "PLAN"]
    assert line.split()[:7] == ["shown", "m75", "vllm", "Recommend", "Stable", "Met", "QueueBuildup"]


@pytest.mark.parametrize("name", ["owned-cpu", "owned-gpu", "sglang", "smallest", "trimtab"])
def test_the_api_server_admits_what_is_rendered_and_a_restricted_namespace_runs_it(
    cluster: Handle,
    namespace: str,
    name: str,
) -> None:
    cluster.kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted", "--overwrite")
    resource = example(name)
    made = render.deployment(resource, "1a2b3c4d", EngineConfig({"maxNumSeqs": 4}), 0)
    made["metadata"]["namespace"] = namespace
    del made["metadata"]["ownerReferences"]
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "one", "labels": made["spec"]["template"]["metadata"]["labels"]},
        "spec": made["spec"]["template"]["spec"],
    }
    dry = ("create", "--dry-run=server", "--filename=-")
    cluster.kubectl(*dry, namespace=namespace, stdin=yaml.safe_dump(made))
    pod["spec"].pop("runtimeClassName", None)
    cluster.kubectl(*dry, namespace=namespace, stdin=yaml.safe_dump(pod))


def test_both_kinds_answer_to_their_category_and_short_names(cluster: Handle) -> None:
    listed = cluster.kubectl("api-resources", "--categories=trimtab", "--no-headers")
    assert {line.split()[1] for line in listed.splitlines()} == {"llmdep", "optplan"}
