"""The Go build: its flags, its key, and which Go it takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cluster import binaries
from tests.cluster.steps import StepError


def test_the_version_flags_carry_the_versions_of_go_mod() -> None:
    flags = binaries.linker_flags((binaries.SOURCE / "go.mod").read_text())
    version = binaries.module_version((binaries.SOURCE / "go.mod").read_text(), "k8s.io/kubernetes")
    assert version.startswith("v1.34.")
    assert f"-X k8s.io/component-base/version.gitVersion={version}" in flags
    assert "-X k8s.io/component-base/version.gitMinor=34" in flags
    assert "-X helm.sh/helm/v3/internal/version.version=v3.19." in flags


def test_all_kubernetes_modules_have_one_version() -> None:
    go_mod = (binaries.SOURCE / "go.mod").read_text()
    kubernetes = binaries.module_version(go_mod, "k8s.io/kubernetes")
    staging = {line.split()[-1] for line in go_mod.splitlines() if "=> k8s.io/" in line}
    assert staging == {kubernetes.replace("v1.", "v0.", 1)}


def test_a_module_that_go_mod_does_not_require_is_an_error() -> None:
    with pytest.raises(StepError, match=r"example\.org/none"):
        binaries.module_version("module x\n", "example.org/none")


@pytest.mark.parametrize(
    ("text", "version"),
    [("go version go1.19.8 linux/amd64", (1, 19)), ("go version go1.26.8 linux/amd64", (1, 26))],
)
def test_the_version_of_go_is_read(text: str, version: tuple[int, int]) -> None:
    assert binaries.parse_go_version(text) == version


def test_the_key_changes_with_content_names_and_compiler(tmp_path: Path) -> None:
    (tmp_path / "main.go").write_text("package main")
    keys = [binaries.source_key(tmp_path, "go1.24")]
    keys.append(binaries.source_key(tmp_path, "go1.25"))
    (tmp_path / "main.go").write_text("package other")
    keys.append(binaries.source_key(tmp_path, "go1.24"))
    (tmp_path / "main.go").rename(tmp_path / "other.go")
    keys.append(binaries.source_key(tmp_path, "go1.24"))
    assert len(set(keys)) == 4
    assert binaries.source_key(tmp_path, "go1.24") == keys[-1]
