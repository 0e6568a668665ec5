"""The cluster's address and credentials, from a kubeconfig."""

from __future__ import annotations

import base64
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

import pytest
import yaml
from kubernetes.config import kube_config

from trimtab.kube.errors import KubeError
from trimtab.kube.transport import api_client


def test_without_any_configuration_it_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(KubeError, match="no usable cluster configuration"):
        api_client(tmp_path / "nothing")


def test_clients_that_are_made_at_once_all_have_the_whole_certificate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slowly(name: str, mode: str = "r") -> IO[Any]:
        if "w" in mode:
            time.sleep(0.2)  # as on a busy disk
        return open(name, mode)

    monkeypatch.setattr(kube_config, "_temp_files", {})
    monkeypatch.setattr(kube_config, "open", slowly, raising=False)
    authority = b"a certificate"
    cluster = {"server": "https://127.0.0.1:1", "certificate-authority-data": base64.b64encode(authority).decode()}
    path = tmp_path / "config"
    path.write_text(
        yaml.safe_dump(
            {
                "current-context": "c",
                "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
                "clusters": [{"name": "c", "cluster": cluster}],
                "users": [{"name": "u", "user": {"token": "t"}}],
            }
        )
    )

    def size_seen(_: int) -> int:
        return Path(api_client(path).configuration.ssl_ca_cert).stat().st_size

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(size_seen, range(16))) == {len(authority)}
