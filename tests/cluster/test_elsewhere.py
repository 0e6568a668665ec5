"""kind and current: the commands, and what is said when something is missing. (Docker is not needed here.)"""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
import yaml

from tests.cluster import elsewhere, images, target
from tests.cluster.layout import Layout
from tests.cluster.steps import Progress, StepError

QUIET = Progress(write=lambda _line: None)
# Stands in for a program: writes its name and arguments to a file, and prints what the test wants it to.
RECORDER = """#!/bin/sh
echo "$(basename "$0") $*" >>"$RECORD"
[ ! -e "$0.says" ] || cat "$0.says"
"""


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    (tmp_path / "checkout" / "app").mkdir(parents=True)
    (tmp_path / "checkout" / "Dockerfile").write_text("ARG BASE=public\nFROM ${BASE}\n")
    return Layout(cluster=tmp_path / "cluster", cache=tmp_path / "cache", repository=tmp_path / "checkout")


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "programs"
    place.mkdir()
    for name in ("docker", "kind", "kubectl", "helm"):
        (place / name).write_text(RECORDER)
        (place / name).chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{place}:/usr/bin:/bin")
    monkeypatch.setenv("RECORD", str(tmp_path / "record"))
    monkeypatch.setattr(
        images,
        "IMAGES",
        {"app": images.Image("Dockerfile", ("app",)), "top": images.Image("Dockerfile", (), on="app")},
    )
    return place


def recorded(tmp_path: Path) -> list[str]:
    return (tmp_path / "record").read_text().splitlines()


def test_kind_is_created_gets_gpus_and_prometheus_and_images_are_loaded(
    layout: Layout, programs: Path, tmp_path: Path
) -> None:
    elsewhere.Kind(layout).up(("app",), QUIET)
    reference = images.reference(layout, "app")
    commands = recorded(tmp_path)
    order = [
        "kind get clusters",
        "kind create cluster --name=trimtab",
        "patch node trimtab-control-plane --subresource=status",
        "apply --server-side",
        "rollout status deployment/prometheus",
        f"docker build --tag={reference}",
        f"kind load docker-image {reference} --name=trimtab",
    ]
    positions = [next(i for i, line in enumerate(commands) if text in line) for text in order]
    assert positions == sorted(positions)
    config = yaml.safe_load((layout.cluster / "kind.yaml").read_text())
    (mapping,) = config["nodes"][0]["extraPortMappings"]
    assert mapping["listenAddress"] == "127.0.0.1"


def test_a_kind_cluster_that_is_there_is_used(layout: Layout, programs: Path, tmp_path: Path) -> None:
    (programs / "kind.says").write_text("other\ntrimtab\n")
    elsewhere.Kind(layout).up((), QUIET)
    commands = recorded(tmp_path)
    assert any(line.startswith("kind export kubeconfig --name=trimtab") for line in commands)
    assert not any("create cluster" in line for line in commands)


def test_kind_down_deletes_only_our_cluster(layout: Layout, programs: Path, tmp_path: Path) -> None:
    (programs / "kind.says").write_text("other\ntrimtab\n")
    layout.cluster.mkdir()
    elsewhere.Kind(layout).down(QUIET)
    assert recorded(tmp_path)[-1] == "kind delete cluster --name=trimtab"
    assert not layout.cluster.exists()


def test_an_image_on_another_is_built_after_it_with_it_as_base(layout: Layout, programs: Path, tmp_path: Path) -> None:
    elsewhere.Kind(layout).bring(("top",), QUIET)
    first, second = [line for line in recorded(tmp_path) if line.startswith("docker build")]
    assert f"--tag={images.reference(layout, 'app')}" in first
    assert "BASE=" not in first
    assert f"--build-arg=BASE={images.reference(layout, 'app')}" in second


def test_current_copies_one_context_and_pushes_to_the_registry(
    layout: Layout, programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRIMTAB_REGISTRY", "registry.example/trimtab/")
    monkeypatch.setenv("TRIMTAB_PROMETHEUS_URL", "http://prometheus.monitoring:9090")
    (programs / "kubectl.says").write_text('{"current-context": "mine"}')
    current = elsewhere.Current(layout)
    current.up(("app",), QUIET)
    reference = images.reference(layout, "app").replace("trimtab.local", "registry.example/trimtab")
    commands = recorded(tmp_path)
    assert commands[-1] == f"docker push {reference}"
    assert not any("apply" in line for line in commands)
    assert current.handle().prometheus_in_cluster == "http://prometheus.monitoring:9090"
    assert stat.S_IMODE(layout.kubeconfig.stat().st_mode) == 0o600


def test_current_without_a_named_prometheus_installs_one(
    layout: Layout, programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TRIMTAB_PROMETHEUS_URL", raising=False)
    (programs / "kubectl.says").write_text('{"current-context": "mine"}')
    elsewhere.Current(layout).up((), QUIET)
    assert any("apply --server-side" in line for line in recorded(tmp_path))
    kinds = [document["kind"] for document in yaml.safe_load_all(elsewhere.prometheus_manifests())]
    assert {"Deployment", "Service", "ConfigMap", "ClusterRole"} <= set(kinds)


def test_current_without_a_registry_says_what_to_set(
    layout: Layout, programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TRIMTAB_REGISTRY", raising=False)
    with pytest.raises(StepError, match="TRIMTAB_REGISTRY"):
        elsewhere.Current(layout).bring(("app",), QUIET)


def test_a_program_that_is_missing_is_named(layout: Layout, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StepError, match="docker is not installed"):
        elsewhere.Kind(layout).up((), QUIET)


@pytest.mark.parametrize(
    ("name", "kind"), [("local", target.Local), ("kind", elsewhere.Kind), ("current", elsewhere.Current)]
)
def test_the_environment_chooses_the_cluster(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, name: str, kind: type
) -> None:
    monkeypatch.setenv("CLUSTER", name)
    assert isinstance(target.chosen(layout), kind)


def test_an_unknown_cluster_is_refused(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLUSTER", "minikube")
    with pytest.raises(StepError, match="local, kind or current"):
        target.chosen(layout)
