"""The pages and examples of the serving image agree with the code: every example is read by what reads it in use."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry

from trimtab_engine.bench.ladder import read_steps
from trimtab_engine.config.load import load
from trimtab_engine.config.model import Config
from trimtab_engine.config.parallel import contradictions
from trimtab_engine.limits.limits import LIMITS, Capacity, Limits
from trimtab_engine.limits.parse import Refused
from trimtab_engine.limits.settings import Settings, read_settings
from trimtab_engine.server.metrics import Metrics

DOCS = Path(__file__).resolve().parents[3] / "docs"
PAGES = DOCS / "engine"
EXAMPLES = DOCS / "examples" / "engine"
MANIFEST = EXAMPLES / "kubernetes.yaml"
CONFIGURATIONS = sorted(path for path in EXAMPLES.glob("*.yaml") if path != MANIFEST)
# Pages whose one example is a part of a configuration.
PARTS = ("gpus", "kv-reuse", "observing", "semantic-cache", "speculation", "tuner")
CAPACITY = Capacity(running_requests=256, tokens_per_step=2048, longest_context=2048)
BASE = Settings(limits=Limits(max_running_requests=256, max_tokens_per_step=2048))


def blocks(page: str) -> list[Any]:
    """The YAML of a page."""
    text = (PAGES / f"{page}.md").read_text(encoding="utf-8")
    return [yaml.safe_load(block) for block in re.findall(r"^```yaml\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)]


def manifests() -> dict[tuple[str, str], dict[str, Any]]:
    """The objects of the example for Kubernetes by kind and name."""
    found = [each for each in yaml.safe_load_all(MANIFEST.read_text(encoding="utf-8")) if each]
    return {(each["kind"], each["metadata"]["name"]): each for each in found}


@pytest.mark.parametrize("page", PARTS)
def test_the_part_of_a_configuration_on_a_page_is_valid(page: str) -> None:
    (part,) = blocks(page)
    (name, fields), *_ = part.items()
    assert getattr(load(yaml.safe_dump(part), {}, {"model": "m"}), name) != getattr(Config(model="m"), name), fields


def test_the_configuration_of_the_first_page_is_valid_with_the_parts_of_others() -> None:
    (configuration,) = blocks("README")
    assert load(yaml.safe_dump(configuration), {}, {}).limits.max_running_requests == 64
    (tracing,), (tuner,) = blocks("observing"), blocks("tuner")
    whole = load(yaml.safe_dump({**configuration, **tracing, **tuner}), {}, {})
    assert whole.tracing.endpoint is not None and whole.tuner.enabled


def test_the_settings_of_the_page_about_limits_are_taken() -> None:
    settings, batching = blocks("limits")
    assert not isinstance(read_settings(settings, base=BASE, capacity=CAPACITY), Refused)
    assert not isinstance(read_settings(batching, base=BASE, capacity=replace(CAPACITY, adaptive=True)), Refused)
    assert load(yaml.safe_dump(batching), {}, {"model": "m"}).batching.target_token_seconds == 0.05


def test_the_ladder_of_the_page_about_the_bench_is_read() -> None:
    (steps,) = blocks("bench")
    assert [step.live for step in read_steps(yaml.safe_dump(steps))] == [True, True, False]


def test_there_are_examples() -> None:
    assert len(CONFIGURATIONS) >= 6


@pytest.mark.parametrize("path", CONFIGURATIONS, ids=lambda path: path.stem)
def test_an_example_is_a_configuration_without_contradictions_and_the_guide_names_it(path: Path) -> None:
    assert contradictions(load(path.read_text(encoding="utf-8"), {}, {})) == []
    assert f"(../examples/engine/{path.name})" in (PAGES / "deploying.md").read_text(encoding="utf-8")


def test_the_example_for_kubernetes_mounts_what_its_configuration_names() -> None:
    objects = manifests()
    config = load(objects["ConfigMap", "engine-config"]["data"]["config.yaml"], {}, {})
    settings = yaml.safe_load(objects["ConfigMap", "engine-settings"]["data"]["settings.yaml"])
    assert not isinstance(read_settings(settings, base=BASE, capacity=CAPACITY), Refused)
    pod = objects["Deployment", "engine"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    mounted = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    named = {volume["name"] for volume in pod["volumes"]}
    assert set(mounted.values()) == named
    for path in (Path(container["command"][-1]), config.settings_file, config.server.token_file):
        assert path is not None and str(path.parent) in mounted
    assert config.server.port == container["ports"][0]["containerPort"]


def test_a_pod_of_the_example_may_take_as_long_as_its_requests() -> None:
    objects = manifests()
    config = load(objects["ConfigMap", "engine-config"]["data"]["config.yaml"], {}, {})
    pod = objects["Deployment", "engine"]["spec"]["template"]["spec"]
    drain = pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
    deadline = int(drain[drain.index("--deadline") + 1])
    assert pod["terminationGracePeriodSeconds"] > deadline + config.server.drain_seconds


def test_every_limit_and_every_metric_is_in_the_documentation() -> None:
    limits = (PAGES / "limits.md").read_text(encoding="utf-8")
    assert all(f"| `{limit}` |" in limits for limit in LIMITS)
    observing = (PAGES / "observing.md").read_text(encoding="utf-8")
    registry = CollectorRegistry()
    Metrics(registry)
    names = {metric.name for metric in registry.collect()} - {"trimtab_engine_limits_revision_in_force"}
    assert len(names) >= 7
    assert [name for name in sorted(names) if name not in observing] == []
