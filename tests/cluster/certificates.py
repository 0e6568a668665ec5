"""One certificate authority and what it signs: servers, components, the administrator."""

from __future__ import annotations

import base64
import datetime
import ipaddress
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.cluster.layout import API_SERVICE_ADDRESS, API_URL, NODE_ADDRESS, NODE_NAME, Layout

_LIFETIME = datetime.timedelta(days=365)
ADMIN = "trimtab-admin"


@dataclass(frozen=True)
class Identity:
    """A client or server: the file's name, CN and O of the subject, and the names and addresses it serves under."""

    file: str
    common_name: str
    organization: str | None = None
    hosts: tuple[str, ...] = ()


# A client may act as its own controller only: Kubernetes' roles are bound to these names.
IDENTITIES = (
    Identity(
        "apiserver",
        "kube-apiserver",
        hosts=(NODE_ADDRESS, API_SERVICE_ADDRESS, "127.0.0.1", "localhost", "kubernetes", "kubernetes.default",
               "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"),
    ),
    Identity("apiserver-kubelet-client", "kube-apiserver-kubelet-client", "system:masters"),
    Identity("admin", ADMIN, "system:masters"),
    Identity("controller-manager", "system:kube-controller-manager"),
    Identity("scheduler", "system:kube-scheduler"),
    Identity("kubelet", f"system:node:{NODE_NAME}", "system:nodes", hosts=(NODE_ADDRESS, NODE_NAME)),
    Identity("proxy", "system:kube-proxy"),
    Identity("prometheus", "trimtab-prometheus"),
    Identity("agent", "trimtab-cluster-agent"),
)  # fmt: skip
CLIENTS = ("admin", "controller-manager", "scheduler", "kubelet", "proxy", "agent")


def _name(common_name: str, organization: str | None = None) -> x509.Name:
    parts = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
    if organization is not None:
        parts.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization))
    return x509.Name(parts)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime.datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + _LIFETIME)
    )


class Authority:
    """A certificate authority made for one cluster and kept nowhere but in its directory."""

    def __init__(self, now: datetime.datetime) -> None:
        self._now = now
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._subject = _name("trimtab-cluster-ca")
        self.certificate = (
            _builder(self._subject, self._subject, self._key.public_key(), now)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )

    @property
    def files(self) -> tuple[bytes, bytes]:
        """The authority's own certificate and key, in PEM."""
        return self.certificate.public_bytes(serialization.Encoding.PEM), _key_pem(self._key)

    def issue(self, identity: Identity) -> tuple[bytes, bytes]:
        """A certificate and its key, in PEM, for client use, and for server use where the identity has hosts."""
        key = ec.generate_private_key(ec.SECP256R1())
        usages = [ExtendedKeyUsageOID.CLIENT_AUTH]
        subject = _name(identity.common_name, identity.organization)
        builder = _builder(subject, self._subject, key.public_key(), self._now)
        if identity.hosts:
            usages.append(ExtendedKeyUsageOID.SERVER_AUTH)
            names = [_general_name(host) for host in identity.hosts]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        certificate = (
            builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return certificate.public_bytes(serialization.Encoding.PEM), _key_pem(key)


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def kubeconfig(ca: bytes, certificate: bytes, key: bytes, user: str) -> str:
    """A kubeconfig that holds its certificates itself, so that the one file can be handed on."""

    def encoded(data: bytes) -> str:
        return base64.b64encode(data).decode()

    return yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {"name": "trimtab", "cluster": {"server": API_URL, "certificate-authority-data": encoded(ca)}}
            ],
            "users": [
                {
                    "name": user,
                    "user": {"client-certificate-data": encoded(certificate), "client-key-data": encoded(key)},
                }
            ],
            "contexts": [{"name": "trimtab", "context": {"cluster": "trimtab", "user": user}}],
            "current-context": "trimtab",
        },
        sort_keys=False,
    )


def _write(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)


def create(layout: Layout, identities: Sequence[Identity] = IDENTITIES) -> None:
    """Writes all keys, certificates and kubeconfigs, unless they are there. They appear together or not at all."""
    if layout.pki.is_dir() and layout.kubeconfig.exists():
        return
    part = layout.cluster / "pki.part"
    shutil.rmtree(part, ignore_errors=True)
    shutil.rmtree(layout.pki, ignore_errors=True)
    part.mkdir(parents=True, mode=0o700)
    authority = Authority(datetime.datetime.now(datetime.UTC))
    ca, ca_key = authority.files
    _write(part / "ca.crt", ca)
    _write(part / "ca.key", ca_key)
    for identity in identities:
        certificate, key = authority.issue(identity)
        _write(part / f"{identity.file}.crt", certificate)
        _write(part / f"{identity.file}.key", key)
        if identity.file in CLIENTS:
            text = kubeconfig(ca, certificate, key, identity.common_name)
            _write(part / f"{identity.file}.kubeconfig", text.encode())
    accounts = ec.generate_private_key(ec.SECP256R1())
    _write(part / "service-accounts.key", _key_pem(accounts))
    public = accounts.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    _write(part / "service-accounts.pub", public)
    part.rename(layout.pki)
    _write(layout.kubeconfig, (layout.pki / "admin.kubeconfig").read_bytes())
