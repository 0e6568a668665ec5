"""Pods, workloads and GPUs as recorded from a real API server, and small changes to them."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from trimtab.model.reading import Known
from trimtab.model.snapshot import PodTrouble
from trimtab.observe.cluster import gpus, last_words, pod_facts, revision_facts

RECORDED = json.loads((Path(__file__).parent / "recordings" / "cluster.json").read_text())
GPU = "nvidia.com/gpu"


def pod(name: str) -> dict[str, Any]:
    found: dict[str, Any] = copy.deepcopy(RECORDED["pods"][name])
    return found


def deployment(name: str) -> dict[str, Any]:
    found: dict[str, Any] = copy.deepcopy(RECORDED["deployments"][name])
    return found


@pytest.mark.parametrize(
    ("name", "trouble", "words"),
    [
        ("crashing", PodTrouble.CRASH_LOOP, "exit code 1: ValueError: No common block size for 16"),
        ("hungry", PodTrouble.OOM_KILLED, "more memory than its limit"),
        ("no-image", PodTrouble.IMAGE_PULL, "none.invalid"),
        ("bad-image-name", PodTrouble.IMAGE_PULL, "NOT a name"),
        ("no-config", PodTrouble.CONFIG_ERROR, 'configmap "absent" not found'),
        ("too-many-gpus", PodTrouble.UNSCHEDULABLE, "Insufficient nvidia.com/gpu"),
    ],
)
def test_what_keeps_a_pod_from_serving_is_named_with_its_last_words(name: str, trouble: PodTrouble, words: str) -> None:
    facts = pod_facts(pod(name), "r1")
    assert facts.trouble is trouble
    assert words in facts.trouble_message
    assert len(facts.trouble_message) <= 300
    assert not facts.ready
    assert facts.ready_since is None


def test_the_last_words_of_a_refused_value_are_pydantics_own_and_not_its_pointer_to_the_manual() -> None:
    said = (
        "Traceback (most recent call last):\n"
        "pydantic_core._pydantic_core.ValidationError: 1 validation error for SchedulerConfig\n"
        "  Value error, max_num_batched_tokens (4) must be greater than or equal to max_num_seqs (32). "
        "[type=value_error, input_value=ArgsKwargs((), {'runner_type': 'generate'}), input_type=ArgsKwargs]\n"
        "    For further information visit https://errors.pydantic.dev/2.14/v/value_error\n"
    )
    words = last_words({"lastState": {"terminated": {"exitCode": 1, "message": said}}})
    refused = "Value error, max_num_batched_tokens (4) must be greater than or equal to max_num_seqs (32)."
    assert words == f"exit code 1: {refused}"


def test_a_serving_pod_has_no_trouble_and_knows_since_when_it_is_ready() -> None:
    facts = pod_facts(pod("serving"), "r1")
    assert facts.ready
    assert facts.trouble is None
    assert facts.revision == "r1"
    assert facts.ready_since is not None
    assert facts.ready_since >= facts.created_at > 1_600_000_000
    assert not facts.terminating


def test_a_pod_that_is_being_deleted_says_so() -> None:
    going = pod("serving")
    going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert pod_facts(going, "r1").terminating


def test_a_single_crash_is_no_loop_and_a_second_one_is() -> None:
    once = pod("crashing")
    status = once["status"]["containerStatuses"][0]
    ended = {"terminated": {"exitCode": 1, "message": "boom"}}
    status.update(restartCount=1, state={"running": {"startedAt": "2026-01-01T00:00:00Z"}}, lastState=ended)
    assert pod_facts(once, "r").trouble is None
    twice = copy.deepcopy(once)
    twice["status"]["containerStatuses"][0]["state"] = ended
    assert pod_facts(twice, "r").trouble is PodTrouble.CRASH_LOOP
    first_death = copy.deepcopy(once)
    first_death["status"]["containerStatuses"][0].update(restartCount=0, state=ended, lastState={})
    assert pod_facts(first_death, "r").trouble is None
    again = copy.deepcopy(once)
    again["status"]["containerStatuses"][0]["restartCount"] = 2
    assert pod_facts(again, "r").trouble is PodTrouble.CRASH_LOOP


def test_restarts_and_memory_kills_stay_known_after_the_pod_is_ready_again() -> None:
    back = pod("hungry")
    back["status"]["containerStatuses"][0]["state"] = {"running": {"startedAt": "2026-01-01T00:00:00Z"}}
    for condition in back["status"]["conditions"]:
        condition["status"] = "True"
    facts = pod_facts(back, "r")
    assert facts.ready
    assert facts.trouble is None
    assert facts.restarts >= 1
    assert facts.oom_kills >= 1


def test_a_pod_without_status_is_not_ready_yet() -> None:
    facts = pod_facts({"metadata": {"name": "new"}, "spec": {}}, "r")
    assert not facts.ready
    assert facts.trouble is None
    assert facts.created_at == 0.0


def test_a_quota_that_refuses_pods_is_the_message_of_the_revision() -> None:
    facts = revision_facts(deployment("over-quota"), [])
    assert facts.revision == "rev-over-quota"
    assert "exceeded quota" in facts.message
    assert facts.desired == 1
    assert not facts.settled


def test_a_revision_counts_its_ready_pods_and_is_settled_when_its_workload_is() -> None:
    pods = [pod_facts(pod("serving"), "r"), pod_facts(pod("crashing"), "r")]
    facts = revision_facts(deployment("serving"), pods)
    assert facts.ready == 1
    assert facts.settled
    assert [each.name for each in facts.pods] == sorted(each.name for each in pods)
    changed = deployment("serving")
    changed["metadata"]["generation"] += 1
    assert not revision_facts(changed, pods).settled
    surging = deployment("serving")
    surging["status"]["replicas"] = 2
    assert not revision_facts(surging, pods).settled


def test_an_adopted_workload_gets_the_revision_that_it_is_given() -> None:
    adopted = deployment("serving")
    adopted["metadata"]["labels"] = {}
    assert revision_facts(adopted, []).revision == "serving"
    assert revision_facts(adopted, [], revision="stable").revision == "stable"


def test_a_workload_scaled_to_nothing_is_gone_and_one_without_a_number_has_one() -> None:
    empty = deployment("serving")
    empty["spec"]["replicas"] = 0
    assert revision_facts(empty, []).gone
    del empty["spec"]["replicas"]
    assert revision_facts(empty, []).desired == 1


def test_free_gpus_are_those_that_no_running_pod_has_asked_for() -> None:
    nodes, pods = RECORDED["nodes"], list(RECORDED["pods"].values())
    facts = gpus(nodes, pods, GPU)
    assert facts.gpus_total == Known(4)
    assert facts.gpus_free == Known(3)  # the pod that asks for 99 is on no node
    done = [copy.deepcopy(each) for each in pods]
    for each in done:
        each["status"]["phase"] = "Succeeded"
    assert gpus(nodes, done, GPU).gpus_free == Known(4)
    assert gpus(nodes, pods, "amd.com/gpu").gpus_total == Known(0)


def test_gpus_of_a_node_that_takes_no_pods_do_not_count() -> None:
    for change in (
        {"spec": {"unschedulable": True}},
        {"status": {"conditions": [{"type": "Ready", "status": "False"}]}},
    ):
        node = {**copy.deepcopy(RECORDED["nodes"][0]), **change}
        assert gpus([node], [], GPU).gpus_total == Known(0)


def test_init_containers_count_by_the_largest() -> None:
    node = RECORDED["nodes"][0]
    asking = pod("one-gpu")
    asking["spec"]["initContainers"] = [{"resources": {"limits": {GPU: "3"}}}, {"resources": {"limits": {GPU: "2"}}}]
    assert gpus([node], [asking], GPU).gpus_free == Known(1)
