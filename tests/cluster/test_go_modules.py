"""What is built from published modules: its key, and the copy that it is built from."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.cluster import traefik


def test_the_key_of_the_gateway_changes_with_its_version_its_change_and_the_compiler(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    keys = [traefik.key("go1.25"), traefik.key("go1.26")]
    for name in ("VERSION", "SUM", "_NO_PROVIDERS"):
        with monkeypatch.context() as changed:
            changed.setattr(traefik, name, "another")
            keys.append(traefik.key("go1.25"))
    assert len(set(keys)) == 5
    assert traefik.key("go1.25") == keys[0]


def test_a_copy_of_a_module_can_be_changed_where_the_module_cannot(tmp_path: Path) -> None:
    module = tmp_path / "module"
    (module / "providers").mkdir(parents=True)
    file = module / "providers" / "all.go"
    file.write_text("package providers")
    for path, mode in ((file, 0o444), (file.parent, 0o555), (module, 0o555)):
        path.chmod(mode)
    copy = traefik.copied(module, tmp_path / "copy")
    found = copy / "providers" / "all.go"
    assert found.stat().st_mode & 0o200 and found.parent.stat().st_mode & 0o200
    assert os.access(found, os.W_OK) and found.read_text() == "package providers"
