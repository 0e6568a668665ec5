"""Command lines and configuration files of the components."""

from __future__ import annotations

import json
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

from tests.cluster import agent, certificates, containerd, control_plane, local, network, node, prometheus, roles
from tests.cluster.layout import NODE_ADDRESS, Layout
from tests.cluster.processes import Daemon
from tests.cluster.steps import Progress, check_order

LAYOUT = Layout(cluster=Path("/srv/cluster"), cache=Path("/srv/cache"), repository=Path("/srv/checkout"))
DAEMONS = [
    control_plane.etcd(LAYOUT),
    control_plane.apiserver(LAYOUT),
    control_plane.controller_manager(LAYOUT),
    control_plane.scheduler(LAYOUT),
    node.kubelet(LAYOUT),
    node.proxy(LAYOUT),
    agent.daemon(LAYOUT),
    prometheus.daemon(LAYOUT),
]


@pytest.mark.parametrize("daemon", DAEMONS, ids=lambda daemon: daemon.name)
def test_no_component_listens_on_an_address_that_other_machines_reach(daemon: Daemon) -> None:
    assert daemon.name in local.DAEMONS
    text = " ".join(daemon.command)
    for word in ("0.0.0.0", "[::]", "=:"):
        assert word not in text


def test_rbac_is_enforced_and_every_write_is_logged() -> None:
    command = control_plane.apiserver(LAYOUT).command
    assert "--authorization-mode=Node,RBAC" in command
    assert f"--audit-log-path={LAYOUT.audit_log}" in command
    rules = control_plane.AUDIT_POLICY["rules"]
    assert isinstance(rules, list)
    assert rules[-1] == {"level": "Metadata"}
    left_out = [rule for rule in rules if rule["level"] == "None" and "users" not in rule and "userGroups" not in rule]
    assert left_out == [{"level": "None", "verbs": ["get", "list", "watch"]}]


def test_the_kubelet_writes_below_the_cluster_directory_and_serves_nobody_unknown() -> None:
    config = node.kubelet_configuration(LAYOUT)
    assert str(config["podLogsDir"]).startswith("/srv/cluster/")
    assert config["cgroupRoot"] == f"/{LAYOUT.tag}"
    assert config["address"] == NODE_ADDRESS
    assert config["authentication"] == {
        "anonymous": {"enabled": False},
        "webhook": {"enabled": True},
        "x509": {"clientCAFile": "/srv/cluster/pki/ca.crt"},
    }


def test_a_node_port_answers_on_the_loopback_address_alone() -> None:
    assert node.proxy_configuration(LAYOUT)["nodePortAddresses"] == ["127.0.0.0/8"]


def test_containerd_keeps_images_in_the_cache_and_everything_else_in_the_cluster_directory() -> None:
    config = tomllib.loads(
        containerd.configuration(LAYOUT, sandbox_image="trimtab.local/pause:1", cni_plugins="/plugins")
    )
    assert config["root"] == "/srv/cache/containerd"
    assert config["state"].startswith("/srv/cluster/")
    cri = config["plugins"]["io.containerd.grpc.v1.cri"]
    assert cri["sandbox_image"] == "trimtab.local/pause:1"
    assert cri["restrict_oom_score_adj"] is True
    assert cri["netns_mounts_under_state_dir"] is True
    assert cri["containerd"]["runtimes"]["runc"]["options"] == {
        "SystemdCgroup": False,
        "Root": "/srv/cluster/containerd/runc",
    }
    assert config["disabled_plugins"] == []


def test_containerd_without_a_sandbox_image_has_no_cri_service() -> None:
    config = tomllib.loads(containerd.configuration(LAYOUT, sandbox_image=None, cni_plugins=""))
    assert config["disabled_plugins"] == ["io.containerd.grpc.v1.cri"]
    assert "io.containerd.grpc.v1.cri" not in config["plugins"]


def test_pods_get_their_addresses_from_the_bridge_and_nothing_is_masqueraded() -> None:
    config = json.loads(network.cni_configuration(LAYOUT))
    (plugin,) = config["plugins"]
    assert config["name"] == LAYOUT.tag
    assert plugin["ipMasq"] is False
    assert plugin["hairpinMode"] is True
    assert plugin["ipam"]["ranges"] == [[{"subnet": "10.201.0.0/24", "gateway": NODE_ADDRESS}]]
    assert plugin["ipam"]["dataDir"].startswith("/srv/cluster/")


def test_the_gpu_patch_counts_them_in_capacity_and_allocatable() -> None:
    status = json.loads(node.gpu_patch(4))["status"]
    assert status == {"capacity": {"nvidia.com/gpu": "4"}, "allocatable": {"nvidia.com/gpu": "4"}}


@pytest.mark.parametrize(
    ("conditions", "ready"),
    [
        ([{"type": "Ready", "status": "True"}], True),
        ([{"type": "Ready", "status": "Unknown"}], False),
        ([{"type": "MemoryPressure", "status": "True"}], False),
        ([], False),
    ],
)
def test_a_node_is_ready_when_its_ready_condition_is_true(conditions: list[dict[str, str]], ready: bool) -> None:
    assert node.is_ready({"status": {"conditions": conditions}}) is ready
    assert node.is_ready(None) is False


@pytest.mark.parametrize("where", ["process", "pod"])
def test_prometheus_accepts_its_configuration(tmp_path: Path, where: str) -> None:
    layout = Layout(cluster=tmp_path / "cluster", cache=tmp_path / "cache", repository=tmp_path)
    certificates.create(layout)
    config = prometheus.configuration(layout, "5s") if where == "process" else prometheus.configuration_in_a_pod("5s")
    if where == "pod":
        # Debian's promtool knows no discovery of Kubernetes: the rest of the configuration is checked without it.
        jobs = config["scrape_configs"]
        assert isinstance(jobs, list)
        assert [job.pop("kubernetes_sd_configs") for job in jobs] == [[{"role": "pod"}], [{"role": "node"}]]
        for job in jobs:
            job.pop("authorization", None)
            job.pop("tls_config", None)
    path = tmp_path / "prometheus.yml"
    path.write_text(yaml.safe_dump(config))
    done = subprocess.run(["promtool", "check", "config", path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_roles_are_bound_to_the_names_in_the_certificates() -> None:
    users = {identity.common_name for identity in certificates.IDENTITIES}
    assert {agent.USER, prometheus.USER} <= users
    role, binding = yaml.safe_load_all(roles.manifests(agent.USER, agent.rules()))
    assert binding["subjects"] == [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": agent.USER}]
    verbs = {verb for rule in role["rules"] for verb in rule["verbs"]}
    assert verbs == {"list", "watch"}


def test_the_steps_of_up_are_in_an_order_that_works() -> None:
    steps = local.Up(LAYOUT, Progress(write=lambda _line: None), ("operator", "engine")).steps()
    check_order(steps)
    by_name = {step.name: step for step in steps}
    assert by_name["build image engine"].after == ()  # in parallel with the Go build
    assert set(by_name["load image engine"].after) == {"containerd", "build image engine"}
