"""The verbs against the real API server: what each writes, what it says, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from tests.cluster.handle import Handle
from tests.reconcile.conftest import ADOPTED, OWNED
from trimtab.api.v1alpha1 import LLMDeployment
from trimtab.cli.main import app

pytestmark = pytest.mark.cluster

PLAN = "chat-1a2b3c4d"
Run = Callable[..., Result]


@pytest.fixture
def resource(resources: Handle, namespace: str) -> Callable[[], dict[str, Any]]:
    """`resource()` is the resource `chat` as it is now. It is suspended, so that no operator acts on it."""
    document = {
        "apiVersion": "trimtab.dev/v1alpha1",
        "kind": "LLMDeployment",
        "metadata": {"name": "chat"},
        "spec": {**OWNED, "suspend": True, "tuning": {"mode": "Approve"}},
    }
    resources.apply(yaml.safe_dump(document), namespace=namespace)
    return lambda: dict(resources.get("llmdep", "chat", namespace=namespace))


@pytest.fixture
def run(resources: Handle, namespace: str, monkeypatch: pytest.MonkeyPatch) -> Run:
    """`run("explain", "chat")` in the namespace of the test."""
    monkeypatch.setenv("KUBECONFIG", str(resources.kubeconfig))

    def invoke(*words: str) -> Result:
        return CliRunner().invoke(app, [*words, "--namespace", namespace])

    return invoke


def _plan(resources: Handle, namespace: str, owner: dict[str, Any]) -> None:
    effect = {
        "metric": "throughput", "ratioPermille": 4500, "lowPermille": 3000, "highPermille": 6000, "basis": "a rule",
    }  # fmt: skip
    change = {"knob": "maxNumSeqs", "from": "2", "to": "16", "reason": "14 requests wait."}
    step = {
        "type": "Batching", "title": "Run up to 16 sequences at once", "description": "Requests wait.",
        "changes": [change], "impact": "Critical", "effects": [effect], "effort": "Restart",
    }  # fmt: skip
    reference = {
        "apiVersion": "trimtab.dev/v1alpha1", "kind": "LLMDeployment", "name": "chat", "uid": owner["metadata"]["uid"],
    }  # fmt: skip
    document = {
        "apiVersion": "trimtab.dev/v1alpha1",
        "kind": "OptimizationPlan",
        "metadata": {"name": PLAN, "ownerReferences": [reference]},
        "spec": {
            "target": "chat", "engine": "vllm", "engineVersion": "0.32.0", "start": {"maxNumSeqs": 2},
            "result": {"maxNumSeqs": 16}, "optimizations": [step], "improvement": effect,
        },
    }  # fmt: skip
    resources.apply(yaml.safe_dump(document), namespace=namespace)
    stable = {"revision": "aaaa1111", "config": {"maxNumSeqs": 2}, "template": "t"}
    then = "2026-01-01T00:00:00Z"
    status = {"plan": PLAN, "phase": "Stable", "rollout": {"phase": "Stable", "since": then, "startedAt": then}}
    status["rollout"] |= {"stable": stable}  # type: ignore[operator]
    _status(resources, namespace, status)


def _status(resources: Handle, namespace: str, status: dict[str, Any]) -> None:
    words = ("patch", "llmdep", "chat", "--subresource=status", "--type=merge", "-p", json.dumps({"status": status}))
    resources.kubectl(*words, namespace=namespace)


def test_approving_writes_the_plans_name_and_nothing_else(
    run: Run, resource: Callable[[], dict[str, Any]], resources: Handle, namespace: str
) -> None:
    _plan(resources, namespace, resource())
    before = resource()["spec"]
    done = run("approve", "chat")
    assert done.exit_code == 0, done.output
    assert done.stdout == f"Approved {PLAN}.\n"
    after = resource()["spec"]
    assert after["tuning"].pop("approvedPlan") == PLAN
    before["tuning"].pop("approvedPlan", None)
    assert after == before


def test_approving_in_another_mode_says_that_it_does_not_count(
    run: Run, resource: Callable[[], dict[str, Any]], resources: Handle, namespace: str
) -> None:
    _plan(resources, namespace, resource())
    words = ("patch", "llmdep", "chat", "--type=merge", "-p", '{"spec":{"tuning":{"mode":"Recommend"}}}')
    resources.kubectl(*words, namespace=namespace)
    assert "spec.tuning.mode is Recommend" in run("approve", "chat").stdout


def test_a_plan_that_does_not_exist_is_not_approved(run: Run, resource: Callable[[], dict[str, Any]]) -> None:
    resource()
    done = run("approve", "chat", "--plan", "chat-00000000")
    assert done.exit_code == 1
    assert "there is no OptimizationPlan 'chat-00000000'" in done.output
    assert resource()["spec"]["tuning"].get("approvedPlan", "") == ""


def test_without_a_plan_there_is_nothing_to_approve_or_to_compare(
    run: Run, resource: Callable[[], dict[str, Any]]
) -> None:
    resource()
    for verb in ("approve", "diff"):
        done = run(verb, "chat")
        assert done.exit_code == 1
        assert "has no plan" in done.output


def test_pausing_and_resuming_set_and_remove_the_annotation(run: Run, resource: Callable[[], dict[str, Any]]) -> None:
    assert run("pause", "chat").exit_code == 0
    assert resource()["metadata"]["annotations"]["trimtab.dev/paused"] == "true"
    assert run("resume", "chat").exit_code == 0
    assert "trimtab.dev/paused" not in resource()["metadata"].get("annotations", {})
    assert run("resume", "chat").exit_code == 0, "resuming what is not paused is no error"


def test_a_rollback_names_the_revision_on_trial(
    run: Run, resource: Callable[[], dict[str, Any]], resources: Handle, namespace: str
) -> None:
    _plan(resources, namespace, resource())
    refused = run("rollback", "chat")
    assert refused.exit_code == 1
    assert "no trial to roll back; its phase is Stable" in refused.output
    candidate = {"revision": "bbbb2222", "config": {"maxNumSeqs": 16}, "template": "t", "source": "User"}
    _status(resources, namespace, {"rollout": {"phase": "CanaryJudging", "candidate": candidate}})
    done = run("rollback", "chat")
    assert done.exit_code == 0, done.output
    assert "bbbb2222" in done.stdout
    assert resource()["metadata"]["annotations"]["trimtab.dev/rollback"] == "bbbb2222"


def _attempt(revision: str, outcome: str, plan: str = "", **config: int) -> dict[str, Any]:
    then = "2026-01-01T00:00:00Z"
    attempt = {
        "revision": revision, "config": config, "source": "Plan" if plan else "User", "outcome": outcome,
        "reason": "SLORegression", "message": "TTFT p95 was 3 s.", "startedAt": then, "decidedAt": then,
        "endedAt": then,
    }  # fmt: skip
    return {**attempt, "plan": plan} if plan else attempt


def test_a_retry_names_the_last_failed_revision_and_the_time(
    run: Run, resource: Callable[[], dict[str, Any]], resources: Handle, namespace: str
) -> None:
    _plan(resources, namespace, resource())
    refused = run("retry", "chat")
    assert refused.exit_code == 1
    assert "no trial of any revision failed; those that did: none" in refused.output
    attempts = [_attempt("dddd4444", "Promoted"), _attempt("cccc3333", "RolledBack"), _attempt("bbbb2222", "Abandoned")]
    _status(resources, namespace, {"attempts": attempts})
    assert "bbbb2222" in run("retry", "chat", "--revision", "dddd4444").output, "those that failed are named"
    before = datetime.now(UTC).replace(microsecond=0)
    done = run("retry", "chat")
    assert done.exit_code == 0, done.output
    retry = LLMDeployment.model_validate(resource()).retry
    assert retry is not None and retry.revision == "cccc3333"
    assert before.timestamp() <= retry.at <= datetime.now(UTC).timestamp()
    assert run("retry", "chat", "--revision", "bbbb2222").exit_code == 0
    retry = LLMDeployment.model_validate(resource()).retry
    assert retry is not None and retry.revision == "bbbb2222"


def test_an_export_is_a_patch_that_the_api_server_takes(
    run: Run, resource: Callable[[], dict[str, Any]], resources: Handle, namespace: str
) -> None:
    missing = run("export", "chat") if resource() else None
    assert missing is not None and missing.exit_code == 1 and "has no plan" in missing.output
    _plan(resources, namespace, resource())
    done = run("export", "chat")
    assert done.exit_code == 0, done.output
    patch = yaml.safe_load(done.stdout)
    assert (patch["kind"], patch["metadata"]["name"]) == ("LLMDeployment", "chat")
    assert patch["spec"]["engine"]["config"] == {"maxNumSeqs": 16}
    words = ("patch", "llmdep", "chat", "--type=merge", "-p", json.dumps(patch))
    resources.kubectl(*words, namespace=namespace)
    assert resource()["spec"]["engine"]["config"]["maxNumSeqs"] == 16
    assert run("export", "chat", "--spec").stdout == "# The spec itself is what a repository holds.\n"


def test_an_export_of_an_adopted_workload_carries_what_a_copy_has_proven(
    run: Run, resources: Handle, namespace: str
) -> None:
    container = {
        "name": "vllm", "image": "trimtab.local/not-there:0", "command": ["vllm", "serve"],
        "args": ["/models/m75", "--max-num-seqs", "2"],
    }  # fmt: skip
    labels = {"app": "web"}
    web = {
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {
            "replicas": 0, "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        },
    }  # fmt: skip
    chat = {
        "apiVersion": "trimtab.dev/v1alpha1", "kind": "LLMDeployment", "metadata": {"name": "chat"},
        "spec": {**ADOPTED, "suspend": True},
    }  # fmt: skip
    resources.apply(yaml.safe_dump_all([web, chat]), namespace=namespace)
    _plan(resources, namespace, dict(resources.get("llmdep", "chat", namespace=namespace)))
    untried = run("export", "chat")
    assert untried.exit_code == 0, untried.output
    assert "Proven" not in untried.stdout
    _status(resources, namespace, {"attempts": [_attempt("bbbb2222", "Proven", PLAN, maxNumSeqs=8)]})
    done = run("export", "chat")
    assert done.stdout.startswith("# Proven on a copy as revision bbbb2222.\n"), done.output
    patch = yaml.safe_load(done.stdout)
    assert (patch["kind"], patch["metadata"]["name"]) == ("Deployment", "web")
    (planned,) = patch["spec"]["template"]["spec"]["containers"]
    assert planned == {"name": "vllm", "args": ["/models/m75", "--max-num-seqs", "8"]}, "8 was tried, not 16"
    words = ("patch", "deployment", "web", "--type=strategic", "-p", json.dumps(patch))
    resources.kubectl(*words, namespace=namespace)
    live = resources.get("deployment", "web", namespace=namespace)
    assert live["spec"]["template"]["spec"]["containers"][0]["args"][-1] == "8"


def test_explaining_and_comparing_show_the_plan(
    run: Run, resource: Callable[[], dict[str, Any]], resources: Handle, namespace: str
) -> None:
    _plan(resources, namespace, resource())
    explained = run("explain", "chat")
    assert explained.exit_code == 0, explained.output
    assert f"Plan {PLAN}:" in explained.stdout
    assert "maxNumSeqs: 2 -> 16: 14 requests wait." in explained.stdout
    assert run("diff", "chat").stdout == "- maxNumSeqs: 2\n+ maxNumSeqs: 16\n"


def test_a_wrong_name_is_answered_with_those_that_there_are(run: Run, resource: Callable[[], dict[str, Any]]) -> None:
    resource()
    for verb in ("explain", "diff", "approve", "pause", "resume", "rollback", "retry", "export"):
        done = run(verb, "chatt")
        assert done.exit_code == 1
        assert "there is no LLMDeployment 'chatt'" in done.output
        assert "there are: chat." in done.output


def test_a_cluster_that_does_not_answer_is_one_line(
    resources: Handle, namespace: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    config = yaml.safe_load(resources.kubeconfig.read_text(encoding="utf-8"))
    for item in config["clusters"]:
        item["cluster"]["server"] = "https://127.0.0.1:1"
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    monkeypatch.setenv("KUBECONFIG", str(path))
    done = CliRunner().invoke(app, ["explain", "chat", "--namespace", namespace])
    assert done.exit_code == 1
    assert done.output.count("\n") == 1
    assert "the API server gave no answer" in done.output
