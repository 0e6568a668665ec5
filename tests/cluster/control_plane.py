"""etcd, the API server, the controller manager and the scheduler: their command lines, and when they are up."""

from __future__ import annotations

import yaml

from tests.cluster.binaries import responds
from tests.cluster.layout import (
    API_PORT,
    NODE_ADDRESS,
    POD_NETWORK,
    SERVICE_NETWORK,
    Layout,
)
from tests.cluster.processes import Daemon, answers, start, wait_for, write_if_changed

ETCD_CLIENT_PORT = 2379
ETCD_PEER_PORT = 2380

# Metadata of every write, by whom and when, so that a test can count what a controller writes; reads are left out, and
# so is what Kubernetes itself writes all the time (leases and events of its own components).
AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived", "ResponseStarted"],
    "rules": [
        {"level": "None", "verbs": ["get", "list", "watch"]},
        {
            "level": "None",
            "users": ["system:apiserver", "system:kube-scheduler", "system:kube-controller-manager"],
            "resources": [{"group": "coordination.k8s.io", "resources": ["leases"]}],
        },
        {
            "level": "None",
            "userGroups": ["system:nodes"],
            "resources": [{"group": "coordination.k8s.io", "resources": ["leases"]}],
        },
        {"level": "Metadata"},
    ],
}


def etcd(layout: Layout) -> Daemon:
    """etcd on the loopback address. Its data lives as long as the cluster."""
    client = f"http://127.0.0.1:{ETCD_CLIENT_PORT}"
    peer = f"http://127.0.0.1:{ETCD_PEER_PORT}"
    return Daemon(
        "etcd",
        (
            "etcd",
            "--name=trimtab",
            f"--data-dir={layout.cluster / 'etcd'}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=trimtab={peer}",
            "--logger=zap",
            "--log-outputs=stderr",
        ),
    )


def apiserver(layout: Layout) -> Daemon:
    """The API server, with node and RBAC authorization and an audit log."""
    pki = layout.pki
    return Daemon(
        "kube-apiserver",
        (
            str(layout.bin / "kube-apiserver"),
            f"--bind-address={NODE_ADDRESS}",
            f"--advertise-address={NODE_ADDRESS}",
            f"--secure-port={API_PORT}",
            f"--etcd-servers=http://127.0.0.1:{ETCD_CLIENT_PORT}",
            f"--service-cluster-ip-range={SERVICE_NETWORK}",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--allow-privileged=true",
            f"--client-ca-file={pki / 'ca.crt'}",
            f"--tls-cert-file={pki / 'apiserver.crt'}",
            f"--tls-private-key-file={pki / 'apiserver.key'}",
            f"--kubelet-client-certificate={pki / 'apiserver-kubelet-client.crt'}",
            f"--kubelet-client-key={pki / 'apiserver-kubelet-client.key'}",
            f"--kubelet-certificate-authority={pki / 'ca.crt'}",
            "--kubelet-preferred-address-types=InternalIP",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            f"--service-account-key-file={pki / 'service-accounts.pub'}",
            f"--service-account-signing-key-file={pki / 'service-accounts.key'}",
            f"--audit-policy-file={layout.config / 'audit-policy.yaml'}",
            f"--audit-log-path={layout.audit_log}",
            "--audit-log-mode=blocking",
            "--audit-log-maxsize=200",
            "--audit-log-maxbackup=1",
            "--endpoint-reconciler-type=master-count",
            "--profiling=false",
        ),
    )


def controller_manager(layout: Layout) -> Daemon:
    """The controller manager, each controller under its own service account."""
    pki = layout.pki
    kubeconfig = pki / "controller-manager.kubeconfig"
    return Daemon(
        "kube-controller-manager",
        (
            str(layout.bin / "kube-controller-manager"),
            "--bind-address=127.0.0.1",
            f"--kubeconfig={kubeconfig}",
            f"--authentication-kubeconfig={kubeconfig}",
            f"--authorization-kubeconfig={kubeconfig}",
            "--use-service-account-credentials=true",
            f"--root-ca-file={pki / 'ca.crt'}",
            f"--service-account-private-key-file={pki / 'service-accounts.key'}",
            f"--cluster-cidr={POD_NETWORK}",
            f"--service-cluster-ip-range={SERVICE_NETWORK}",
            "--leader-elect=false",
            "--profiling=false",
        ),
    )


def scheduler(layout: Layout) -> Daemon:
    """The default scheduler."""
    kubeconfig = layout.pki / "scheduler.kubeconfig"
    return Daemon(
        "kube-scheduler",
        (
            str(layout.bin / "kube-scheduler"),
            "--bind-address=127.0.0.1",
            f"--kubeconfig={kubeconfig}",
            f"--authentication-kubeconfig={kubeconfig}",
            f"--authorization-kubeconfig={kubeconfig}",
            "--leader-elect=false",
            "--profiling=false",
        ),
    )


def start_etcd(layout: Layout) -> None:
    """Starts etcd and waits until it is healthy."""
    (layout.cluster / "etcd").mkdir(parents=True, exist_ok=True, mode=0o700)
    start(layout, etcd(layout))
    health = f"http://127.0.0.1:{ETCD_CLIENT_PORT}/health"
    wait_for(layout, "etcd", "it is healthy", lambda: answers(health), seconds=60)


def start_apiserver(layout: Layout) -> None:
    """Starts the API server and waits until it is ready."""
    policy = yaml.safe_dump(AUDIT_POLICY, sort_keys=False)
    start(layout, apiserver(layout), again=write_if_changed(layout.config / "audit-policy.yaml", policy))
    wait_for(layout, "kube-apiserver", "it is ready", lambda: responds(layout, "/readyz"), seconds=120)


def start_controllers(layout: Layout) -> None:
    """Starts the controller manager and the scheduler, and waits for the first thing that the former makes."""
    start(layout, controller_manager(layout))
    start(layout, scheduler(layout))
    account = "/api/v1/namespaces/default/serviceaccounts/default"
    what = "the default service account exists"
    wait_for(layout, "kube-controller-manager", what, lambda: responds(layout, account), seconds=90)
    health = "https://127.0.0.1:10259/healthz"
    wait_for(layout, "kube-scheduler", "it is healthy", lambda: answers(health), seconds=60)
