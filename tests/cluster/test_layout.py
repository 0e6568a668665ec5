"""Directories and names."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cluster.layout import Layout, LayoutError, default_layout


def test_the_environment_chooses_the_directories(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIMTAB_CLUSTER_DIR", "/srv/trimtab/one")
    monkeypatch.setenv("TRIMTAB_CACHE", "/srv/trimtab/cache")
    layout = default_layout()
    assert layout.kubeconfig == Path("/srv/trimtab/one/kubeconfig")
    assert layout.containerd_root == Path("/srv/trimtab/cache/containerd")


@pytest.mark.parametrize("directory", ["/", "/var", "/var/lib/" + "x" * 90])
def test_a_directory_that_must_not_be_removed_or_is_too_long_for_sockets_is_refused(
    monkeypatch: pytest.MonkeyPatch, directory: str
) -> None:
    monkeypatch.setenv("TRIMTAB_CLUSTER_DIR", directory)
    with pytest.raises(LayoutError, match="TRIMTAB_CLUSTER_DIR"):
        default_layout()


def test_two_cluster_directories_have_different_tags() -> None:
    one = Layout(cluster=Path("/srv/one"), cache=Path("/c"), repository=Path("/r"))
    two = Layout(cluster=Path("/srv/two"), cache=Path("/c"), repository=Path("/r"))
    assert one.tag != two.tag
