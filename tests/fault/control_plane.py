"""A control plane of the fault tests' own: etcd, the API server and the controller manager, but no node.

It shares nothing with the local cluster but the programs: its own directory, ports on 127.0.0.1 and certificates, so
that a test may break what it likes. What a kubelet would do is played by `tests.fault.kubelet`.
"""

from __future__ import annotations

import contextlib
import datetime
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.cluster.binaries import build
from tests.cluster.certificates import Authority, Identity, kubeconfig
from tests.cluster.definitions import established
from tests.cluster.fixtures import REPOSITORY
from tests.cluster.layout import API_URL, default_layout
from tests.cluster.processes import Commands
from tests.fault.programs import Programs
from tests.testkit.ports import free_port

_SERVER = Identity("apiserver", "kube-apiserver", hosts=("127.0.0.1", "localhost"))
_ADMIN = Identity("admin", "fault-admin", "system:masters")
# What the workloads need; the controllers of nodes would only find that there are none.
_CONTROLLERS = "deployment-controller,replicaset-controller,garbage-collector-controller,namespace-controller,resourcequota-controller"  # noqa: E501


@dataclass
class ControlPlane:
    """Running programs. `url` and the client's certificate files are what a proxy needs to reach the API server."""

    directory: Path
    port: int
    programs: Programs

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's, straight to the API server."""
        return self.directory / "kubeconfig"

    def file(self, name: str) -> Path:
        return self.directory / name

    def tls(self) -> ssl.SSLContext:
        """Trusts this API server, and carries the administrator's certificate."""
        context = ssl.create_default_context(cafile=str(self.file("ca.crt")))
        context.load_cert_chain(self.file("admin.crt"), self.file("admin.key"))
        return context

    def get(self, path: str) -> int:
        """The status of a GET, 0 where nobody answers."""
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=self.tls())
        )
        try:
            with opener.open(self.url + path, timeout=3) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0

    def kubectl(self, *words: str) -> str:
        """The output of kubectl as the administrator."""
        command = [str(self.file("kubectl")), f"--kubeconfig={self.kubeconfig}", *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"kubectl {' '.join(words)}: {done.stderr}"
        return done.stdout

    def wait(self, name: str, path: str, *, seconds: float = 90.0) -> None:
        """Until a GET of `path` succeeds; AssertionError with the log's end when it does not."""
        end = time.monotonic() + seconds
        while self.get(path) != 200:
            assert self.programs.all_alive(), f"a program ended: {self.programs.log(name)}"
            assert time.monotonic() < end, f"{name} does not answer {path}: {self.programs.log(name)}"
            time.sleep(0.1)


@contextlib.contextmanager
def running(directory: Path) -> Iterator[ControlPlane]:
    """A control plane with the resources' definitions, ended at the end."""
    plane = ControlPlane(directory, free_port(), Programs(directory))
    _link_programs(plane)
    _make_certificates(plane)
    try:
        _start_etcd_and_apiserver(plane)
        definitions = f"--filename={REPOSITORY / 'crds'}"
        plane.kubectl("apply", "--server-side", definitions)
        established(plane.kubectl, definitions)
        # Only now: the garbage collector would look for new kinds every 30 s only.
        _start_controllers(plane)
        yield plane
    finally:
        plane.programs.stop()


def _link_programs(plane: ControlPlane) -> None:
    layout = default_layout()
    built, _ = build(layout, Commands(layout, plane.directory / "build-logs"))
    for name in ("kube-apiserver", "kube-controller-manager", "kubectl"):
        plane.file(name).symlink_to(built / "kubernetes")


def _make_certificates(plane: ControlPlane) -> None:
    authority = Authority(datetime.datetime.now(datetime.UTC))
    plane.file("ca.crt").write_bytes(authority.files[0])
    for identity in (_SERVER, _ADMIN):
        certificate, key = authority.issue(identity)
        plane.file(f"{identity.file}.crt").write_bytes(certificate)
        plane.file(f"{identity.file}.key").write_bytes(key)
    text = kubeconfig(authority.files[0], certificate, key, _ADMIN.common_name).replace(API_URL, plane.url)
    plane.kubeconfig.write_text(text)
    accounts = ec.generate_private_key(ec.SECP256R1())
    plane.file("accounts.key").write_bytes(
        accounts.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    plane.file("accounts.pub").write_bytes(
        accounts.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )


def _start_etcd_and_apiserver(plane: ControlPlane) -> None:
    etcd, peer = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
    plane.programs.start(
        "etcd",
        [
            "etcd",
            f"--data-dir={plane.file('etcd')}",
            f"--listen-client-urls={etcd}",
            f"--advertise-client-urls={etcd}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            "--unsafe-no-fsync",
        ],
    )
    plane.programs.start(
        "apiserver",
        [
            plane.file("kube-apiserver"),
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            f"--secure-port={plane.port}",
            f"--etcd-servers={etcd}",
            "--service-cluster-ip-range=10.203.0.0/24",
            "--authorization-mode=RBAC",
            # No service account is made for a namespace here, and pods would be refused without one.
            "--disable-admission-plugins=ServiceAccount",
            f"--client-ca-file={plane.file('ca.crt')}",
            f"--tls-cert-file={plane.file('apiserver.crt')}",
            f"--tls-private-key-file={plane.file('apiserver.key')}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={plane.file('accounts.pub')}",
            f"--service-account-signing-key-file={plane.file('accounts.key')}",
            "--endpoint-reconciler-type=none",
            "--profiling=false",
        ],
    )
    plane.wait("apiserver", "/readyz")


def _start_controllers(plane: ControlPlane) -> None:
    plane.programs.start(
        "controller-manager",
        [
            plane.file("kube-controller-manager"),
            "--bind-address=127.0.0.1",
            "--secure-port=0",
            f"--kubeconfig={plane.kubeconfig}",
            "--leader-elect=false",
            "--profiling=false",
            f"--controllers={_CONTROLLERS}",
            "--kube-api-qps=400",
            "--kube-api-burst=800",
        ],
    )


def kubeconfig_for(url: str, path: Path) -> Path:
    """A kubeconfig without credentials for a plain address, which is the proxy's: it has credentials of its own."""
    cluster = {"name": "proxy", "cluster": {"server": url}}
    context = {"name": "proxy", "context": {"cluster": "proxy", "user": "nobody"}}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [cluster],
        "users": [{"name": "nobody", "user": {"token": "not-looked-at"}}],
        "contexts": [context],
        "current-context": "proxy",
    }
    path.write_text(yaml.safe_dump(document))
    return path
