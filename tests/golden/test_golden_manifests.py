"""Every manifest that Trimtab makes from the good examples and for an adopted Deployment, as a whole."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.golden.files import assert_golden
from tests.unit.api.builders import adopting, target
from trimtab import render
from trimtab.api.convert import config_of
from trimtab.api.names import revision_name
from trimtab.api.v1alpha1 import LLMDeployment
from trimtab.model.bottleneck import BottleneckKind
from trimtab.model.config import EngineConfig
from trimtab.model.plan import Change, Effect, Effort, Impact, Metric, Optimization, OptimizationType, Plan, Rejected
from trimtab.render import programs

EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples" / "good"
# Their texts are compared elsewhere, and would hide the rest of the pod.
_PLACEHOLDERS = {programs.PROBE: "(the program probe)", programs.DRAIN: "(the program drain)"}


def example(name: str) -> LLMDeployment:
    """An example as the API server would hand it out."""
    document: dict[str, Any] = yaml.safe_load((EXAMPLES / f"{name}.yaml").read_text())
    document["metadata"] |= {"namespace": "serving", "uid": "00000000-0000-0000-0000-000000000001"}
    return LLMDeployment.model_validate(document)


def text(*manifests: dict[str, Any]) -> str:
    shown = yaml.safe_dump_all([_without_programs(item) for item in manifests], sort_keys=False, width=120)
    return str(shown)


def _without_programs(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_programs(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_programs(item) for item in value]
    return _PLACEHOLDERS.get(value, value) if isinstance(value, str) else value


@pytest.mark.parametrize("name", ["owned-cpu", "owned-gpu", "sglang", "smallest", "trimtab"])
def test_the_objects_of_an_owned_deployment(name: str) -> None:
    resource = example(name)
    config = config_of(resource.spec)
    revision = revision_name(config, render.template_hash(resource))
    made = render.deployment(resource, revision, config, resource.spec.replicas)
    assert_golden(f"manifests/{name}.yaml", text(made, render.service(resource)))


def test_the_objects_for_an_adopted_deployment() -> None:
    config = EngineConfig({"maxNumSeqs": 16, "enablePrefixCaching": True})
    canary = render.canary_of(target(), adopting(), "1a2b3c4d", config, 1)
    assert_golden("manifests/adopted.yaml", text(canary, render.target_patch(target(), adopting(), config)))


def test_a_plan_as_an_object() -> None:
    resource = example("owned-cpu")
    start, result = config_of(resource.spec), config_of(resource.spec).with_changes({"maxNumSeqs": 16})
    step = Optimization(
        type=OptimizationType.BATCHING,
        title="Serve 16 sequences at once",
        description="Requests wait while the engine runs one at a time.",
        changes=(Change("maxNumSeqs", 1, 16, "31 requests wait on average and 1 runs."),),
        impact=Impact.CRITICAL,
        effects=(
            Effect(Metric.THROUGHPUT, 4.2, 2.5, 6.0, "rule batching.1"),
            Effect(Metric.ITL, 2.1, 1.4, 3.0, "rule batching.1"),
        ),
        effort=Effort.RESTART,
        addresses=(BottleneckKind.QUEUE_BUILDUP,),
        risks=("Each token takes longer while more requests run.",),
        prerequisites=(),
        trades=(Metric.ITL,),
    )
    plan = Plan(
        namespace="serving",
        target=resource.metadata.name,
        engine="vllm",
        engine_version="0.32.0",
        start=start,
        result=result,
        optimizations=(step,),
        improvement=Effect(Metric.THROUGHPUT, 4.2, 2.5, 6.0, "rule batching.1"),
        rejected=(Rejected("Serve 64 sequences at once", "The KV cache holds 21 of the prompts that were measured."),),
        fingerprint={"promptTokens": 64.0, "outputTokens": 63.5, "requestsPerSecond": 1.75},
    )
    assert_golden("manifests/plan.yaml", text(render.plan_object(resource, plan), render.export_patch(resource, plan)))
