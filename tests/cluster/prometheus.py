"""Debian's Prometheus, scraping annotated pods and the kubelet, and the Service under which pods reach it."""

from __future__ import annotations

import os
import signal

import yaml

from tests.cluster import roles
from tests.cluster.agent import targets_file
from tests.cluster.binaries import apply
from tests.cluster.layout import (
    NODE_ADDRESS,
    NODE_NAME,
    PROMETHEUS_NODE_PORT,
    PROMETHEUS_PORT,
    PROMETHEUS_SERVICE_ADDRESS,
    Layout,
)
from tests.cluster.processes import Daemon, answers, running_pid, start, wait_for, write_if_changed

NAMESPACE = "monitoring"
USER = "trimtab-prometheus"
URL_IN_CLUSTER = f"http://{PROMETHEUS_SERVICE_ADDRESS}:{PROMETHEUS_PORT}"
URL_ON_THIS_MACHINE = f"http://127.0.0.1:{PROMETHEUS_NODE_PORT}"
_LISTEN = f"{NODE_ADDRESS}:{PROMETHEUS_PORT}"
# What container metrics are good for here; the other few hundred series of each container stay out.
_CONTAINER_METRICS = (
    "container_(cpu_usage_seconds_total|cpu_cfs_(throttled_)?periods_total|memory_(working_set|usage|rss)_bytes|"
    "memory_rss|oom_events_total|start_time_seconds|network_(receive|transmit)_bytes_total|"
    "spec_(cpu_(quota|period|shares)|memory_limit_bytes))|machine_(cpu_cores|memory_bytes)"
)


def _pods(discovery: dict[str, object]) -> dict[str, object]:
    """Annotated pods, found and labelled as the community's Prometheus chart does it."""
    annotation = "__meta_kubernetes_pod_annotation_prometheus_io_"

    def copy(source: str, target: str, regex: str = "(.*)") -> dict[str, object]:
        return {"source_labels": [source], "action": "replace", "regex": regex, "target_label": target}

    phase = "__meta_kubernetes_pod_phase"
    return {
        "job_name": "kubernetes-pods",
        "honor_labels": True,
        **discovery,
        "relabel_configs": [
            {"source_labels": [f"{annotation}scrape"], "action": "keep", "regex": "true"},
            {"source_labels": [phase], "action": "drop", "regex": "Pending|Succeeded|Failed|Completed"},
            copy(f"{annotation}scheme", "__scheme__", "(https?)"),
            copy(f"{annotation}path", "__metrics_path__", "(.+)"),
            {
                "source_labels": [f"{annotation}port", "__meta_kubernetes_pod_ip"],
                "action": "replace",
                "regex": r"(\d+);((([0-9]+?)(\.|$)){4})",
                "replacement": "$2:$1",
                "target_label": "__address__",
            },
            {"action": "labelmap", "regex": "__meta_kubernetes_pod_label_(.+)"},
            copy("__meta_kubernetes_namespace", "namespace"),
            copy("__meta_kubernetes_pod_name", "pod"),
            copy("__meta_kubernetes_pod_node_name", "node"),
        ],
    }


def _containers(discovery: dict[str, object], relabelling: list[dict[str, object]]) -> dict[str, object]:
    """The kubelet's own metrics of containers; they bring their namespace and pod labels along."""
    return {
        "job_name": "kubernetes-nodes-cadvisor",
        "honor_labels": True,
        "scheme": "https",
        "metrics_path": "/metrics/cadvisor",
        **discovery,
        "relabel_configs": relabelling,
        "metric_relabel_configs": [{"source_labels": ["__name__"], "action": "keep", "regex": _CONTAINER_METRICS}],
    }


def _document(interval: str, jobs: list[dict[str, object]]) -> dict[str, object]:
    times = {"scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": interval}
    return {"global": times, "scrape_configs": jobs}


def configuration(layout: Layout, interval: str) -> dict[str, object]:
    """prometheus.yml of the local cluster."""
    pki = layout.pki
    tls = {
        "ca_file": str(pki / "ca.crt"),
        "cert_file": str(pki / "prometheus.crt"),
        "key_file": str(pki / "prometheus.key"),
    }
    # The same labels as kubernetes_sd_configs gives, which Debian builds Prometheus without.
    found = {"file_sd_configs": [{"files": [str(targets_file(layout))], "refresh_interval": "30s"}]}
    kubelet = {"targets": [f"{NODE_ADDRESS}:10250"], "labels": {"node": NODE_NAME}}
    itself: dict[str, object] = {"job_name": "prometheus", "static_configs": [{"targets": [_LISTEN]}]}
    containers = _containers({"tls_config": tls, "static_configs": [kubelet]}, [])
    return _document(interval, [_pods(dict(found)), containers, itself])


def configuration_in_a_pod(interval: str) -> dict[str, object]:
    """prometheus.yml for a Prometheus that runs in the cluster under a service account of its own."""
    account = "/var/run/secrets/kubernetes.io/serviceaccount"
    nodes: dict[str, object] = {
        "kubernetes_sd_configs": [{"role": "node"}],
        "authorization": {"credentials_file": f"{account}/token"},
        # Kubelets often serve a certificate that they signed themselves.
        "tls_config": {"ca_file": f"{account}/ca.crt", "insecure_skip_verify": True},
    }
    node = {"source_labels": ["__meta_kubernetes_node_name"], "action": "replace", "target_label": "node"}
    return _document(interval, [_pods({"kubernetes_sd_configs": [{"role": "pod"}]}), _containers(nodes, [dict(node)])])


def interval() -> str:
    """How often to scrape: TRIMTAB_SCRAPE_INTERVAL, or 5 s."""
    return os.environ.get("TRIMTAB_SCRAPE_INTERVAL") or "5s"


def manifests() -> str:
    """The Service that leads pods to Prometheus, which is a process outside any pod."""
    documents: list[dict[str, object]] = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "prometheus", "namespace": NAMESPACE},
            "spec": {
                "type": "NodePort",
                "clusterIP": PROMETHEUS_SERVICE_ADDRESS,
                "ports": [{"name": "http", "port": PROMETHEUS_PORT, "nodePort": PROMETHEUS_NODE_PORT}],
            },
        },
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": "prometheus-on-the-node",
                "namespace": NAMESPACE,
                "labels": {"kubernetes.io/service-name": "prometheus"},
            },
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": PROMETHEUS_PORT, "protocol": "TCP"}],
            "endpoints": [{"addresses": [NODE_ADDRESS], "conditions": {"ready": True}}],
        },
    ]
    return yaml.safe_dump_all(documents, sort_keys=False)


def daemon(layout: Layout) -> Daemon:
    """Prometheus, on the bridge: pods reach it through its Service, this machine through the NodePort."""
    return Daemon(
        "prometheus",
        (
            "prometheus",
            f"--config.file={layout.config / 'prometheus.yml'}",
            f"--storage.tsdb.path={layout.cluster / 'prometheus'}",
            "--storage.tsdb.retention.time=1d",
            f"--web.listen-address={_LISTEN}",
        ),
    )


def start_prometheus(layout: Layout) -> None:
    """Starts Prometheus, or has it read a changed configuration, and waits until it serves."""
    apply(layout, roles.manifests(USER, [{"apiGroups": [""], "resources": ["nodes/metrics"], "verbs": ["get"]}]))
    apply(layout, manifests())
    text = yaml.safe_dump(configuration(layout, interval()), sort_keys=False)
    changed = write_if_changed(layout.config / "prometheus.yml", text)
    pid = running_pid(layout, "prometheus")
    if pid is None:
        start(layout, daemon(layout))
    elif changed:
        os.kill(pid, signal.SIGHUP)
    wait_for(layout, "prometheus", "it is ready", lambda: answers(f"http://{_LISTEN}/-/ready"), seconds=60)
