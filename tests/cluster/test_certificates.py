"""Keys and certificates."""

from __future__ import annotations

import stat
from pathlib import Path

import yaml
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.cluster import certificates
from tests.cluster.layout import API_SERVICE_ADDRESS, NODE_ADDRESS, Layout


def layout(tmp_path: Path) -> Layout:
    return Layout(cluster=tmp_path / "cluster", cache=tmp_path / "cache", repository=tmp_path)


def read(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def test_every_certificate_is_signed_by_the_one_authority_and_names_its_user(tmp_path: Path) -> None:
    made = layout(tmp_path)
    certificates.create(made)
    authority = read(made.pki / "ca.crt")
    for identity in certificates.IDENTITIES:
        certificate = read(made.pki / f"{identity.file}.crt")
        certificate.verify_directly_issued_by(authority)
        (name,) = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        assert name.value == identity.common_name
        groups = certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
        assert [group.value for group in groups] == ([identity.organization] if identity.organization else [])


def test_the_api_server_answers_under_the_addresses_that_clients_use(tmp_path: Path) -> None:
    made = layout(tmp_path)
    certificates.create(made)
    certificate = read(made.pki / "apiserver.crt")
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    addresses = {str(address) for address in names.get_values_for_type(x509.IPAddress)}
    assert {NODE_ADDRESS, API_SERVICE_ADDRESS, "127.0.0.1"} <= addresses
    assert "kubernetes.default.svc" in names.get_values_for_type(x509.DNSName)


def test_a_client_certificate_cannot_serve(tmp_path: Path) -> None:
    made = layout(tmp_path)
    certificates.create(made)
    usage = read(made.pki / "admin.crt").extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]


def test_keys_and_kubeconfigs_can_be_read_by_their_owner_alone(tmp_path: Path) -> None:
    made = layout(tmp_path)
    certificates.create(made)
    for path in [*made.pki.iterdir(), made.kubeconfig]:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


def test_a_second_call_keeps_what_is_there_and_half_written_files_are_made_anew(tmp_path: Path) -> None:
    made = layout(tmp_path)
    certificates.create(made)
    first = made.kubeconfig.read_text()
    certificates.create(made)
    assert made.kubeconfig.read_text() == first

    made.kubeconfig.unlink()  # as if killed before its last act
    (made.cluster / "pki.part").mkdir()
    certificates.create(made)
    document = yaml.safe_load(made.kubeconfig.read_text())
    assert document["clusters"][0]["cluster"]["server"] == f"https://{NODE_ADDRESS}:6443"
    assert made.kubeconfig.read_text() != first
