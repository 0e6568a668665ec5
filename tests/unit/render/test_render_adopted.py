import copy
from typing import Any

import pytest
from hypothesis import given

from tests.unit.api.builders import adopting, configs, llmdeployment, plans, target
from trimtab.catalogue import CatalogueError, find_engine
from trimtab.model.config import EngineConfig
from trimtab.model.plan import Plan
from trimtab.model.reason import Reason
from trimtab.render import (
    RenderError,
    canary_of,
    export_patch,
    target_config,
    target_patch,
    target_template_hash,
)

TUNED = EngineConfig({"maxNumSeqs": 16, "enablePrefixCaching": True})


def engine_of(manifest: dict[str, Any]) -> dict[str, Any]:
    containers = manifest["spec"]["template"]["spec"]["containers"]
    found: dict[str, Any] = next(item for item in containers if item["name"] == "vllm")
    return found


def test_the_configuration_of_a_workload_is_read_from_its_command_line() -> None:
    assert target_config(adopting(), target()) == EngineConfig({"maxNumSeqs": 1, "enablePrefixCaching": False})


def test_the_canary_is_a_copy_with_the_planned_flags_and_labels_of_its_own() -> None:
    before = target()
    canary = canary_of(before, adopting(), "1a2b3c4d", TUNED, 1)
    assert before == target()
    assert canary["metadata"]["name"] == "web-1a2b3c4d"
    assert canary["metadata"]["ownerReferences"][0]["name"] == "chat"
    assert canary["spec"]["replicas"] == 1
    labels = canary["spec"]["template"]["metadata"]["labels"]
    assert labels == {
        "app": "web",
        "tier": "front",
        "trimtab.dev/deployment": "chat",
        "trimtab.dev/revision": "1a2b3c4d",
    }
    assert canary["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert canary["spec"]["selector"]["matchLabels"] != before["spec"]["selector"]["matchLabels"]
    assert engine_of(canary)["args"] == [
        *("/models/m75", "--port=8000"),
        *("--enable-prefix-caching", "--max-num-seqs", "16"),
    ]
    proxy = canary["spec"]["template"]["spec"]["containers"][0]
    assert proxy == before["spec"]["template"]["spec"]["containers"][0]
    assert "status" not in canary
    assert "resourceVersion" not in canary["metadata"]


def test_the_patch_of_the_target_holds_the_planned_fields_and_nothing_else() -> None:
    assert target_patch(target(), adopting(), TUNED) == {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "serving"},
        "spec": {
            "template": {
                "spec": {
                    "containers": [
                        {
                            "name": "vllm",
                            "args": ["/models/m75", "--port=8000", "--enable-prefix-caching", "--max-num-seqs", "16"],
                        }
                    ]
                }
            }
        },
    }


def test_flags_in_the_command_move_to_the_arguments() -> None:
    whole = target({"command": ["vllm", "serve", "/models/m75", "--max-num-seqs", "1"], "args": []})
    container = target_patch(whole, adopting(), TUNED)["spec"]["template"]["spec"]["containers"][0]
    assert container["command"] == ["vllm"]
    assert container["args"][:2] == ["serve", "/models/m75"]
    assert container["args"].count("--max-num-seqs") == 1


@given(configs)
def test_what_is_applied_to_a_target_is_read_back_from_it(config: EngineConfig) -> None:
    vllm = find_engine("vllm")
    assert vllm is not None
    try:
        vllm.flags("0.32.0", config)
    except CatalogueError:
        return
    patched = copy.deepcopy(target())
    engine_of(patched)["args"] = engine_of(target_patch(target(), adopting(), config))["args"]
    assert target_config(adopting(), patched) == config
    assert target_template_hash(adopting(), patched) == target_template_hash(adopting(), target())


def test_the_template_hash_of_a_target_changes_with_its_own_changes_only() -> None:
    base = target_template_hash(adopting(), target())
    scaled = target()
    scaled["spec"]["replicas"] = 9
    image = target({"image": "registry.example/vllm:other"})
    argument = target({"args": [*target()["spec"]["template"]["spec"]["containers"][1]["args"], "--seed=1"]})
    assert target_template_hash(adopting(), scaled) == base
    assert len({base, target_template_hash(adopting(), image), target_template_hash(adopting(), argument)}) == 3


def test_an_engine_behind_a_shell_is_refused_with_the_way_out() -> None:
    shell = target({"command": ["/bin/sh", "-c"], "args": ["vllm serve /models/m75 --max-num-seqs 1"]})
    with pytest.raises(RenderError, match="Start the engine directly") as refused:
        target_patch(shell, adopting(), TUNED)
    assert refused.value.reason is Reason.INVALID_SPEC


def test_a_container_that_is_not_there_is_named_with_those_that_are() -> None:
    resource = adopting(targetRef={"name": "web", "container": "engine"})
    with pytest.raises(RenderError, match=r"no container 'engine'; it has proxy, vllm"):
        canary_of(target(), resource, "1a2b3c4d", TUNED, 1)


@given(plans)
def test_an_export_says_the_whole_result_of_the_plan(plan: Plan) -> None:
    patch = export_patch(llmdeployment(), plan)
    assert patch["spec"] == {"engine": {"config": dict(plan.result)}}
    assert patch["metadata"] == {"name": "chat", "namespace": "serving"}
