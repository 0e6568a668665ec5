"""Image keys, build commands, and OCI layouts."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest

from tests.cluster import buildah, images, oci
from tests.cluster.layout import Layout
from tests.cluster.steps import StepError

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "main.py").write_text("print(1)")
    (tmp_path / "Dockerfile").write_text("ARG BASE\nFROM ${BASE}\n")
    return tmp_path


SPEC = images.Image("Dockerfile", ("app",))


def test_an_image_key_changes_with_what_the_image_is_made_of_and_with_nothing_else(checkout: Path) -> None:
    first = images.content_hash(checkout, SPEC, "base:1")
    (checkout / "README.md").write_text("other")
    (checkout / "app" / "__pycache__").mkdir()
    (checkout / "app" / "__pycache__" / "main.pyc").write_bytes(b"x")
    assert images.content_hash(checkout, SPEC, "base:1") == first
    assert images.content_hash(checkout, SPEC, "base:2") != first
    (checkout / "app" / "main.py").chmod(0o755)
    executable = images.content_hash(checkout, SPEC, "base:1")
    (checkout / "app" / "main.py").write_text("print(2)")
    changed = images.content_hash(checkout, SPEC, "base:1")
    (checkout / "Dockerfile").write_text("ARG BASE\nFROM ${BASE}\nRUN true\n")
    assert len({first, executable, changed, images.content_hash(checkout, SPEC, "base:1")}) == 4


def test_an_input_that_is_not_there_is_named(checkout: Path) -> None:
    with pytest.raises(StepError, match="lock is not there"):
        images.content_hash(checkout, images.Image("Dockerfile", ("app", "lock")), "base:1")


def test_an_image_built_on_another_changes_with_it(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (checkout / "Dockerfile.top").write_text("ARG BASE\nFROM ${BASE}\n")
    monkeypatch.setattr(images, "IMAGES", {"app": SPEC, "top": images.Image("Dockerfile.top", (), on="app")})
    layout = Layout(cluster=checkout / "c", cache=checkout / "k", repository=checkout)
    first = images.reference(layout, "top")
    (checkout / "app" / "main.py").write_text("print(2)")
    assert images.reference(layout, "top") != first
    assert first.startswith("trimtab.local/top:")


def test_the_current_build_and_the_one_before_it_are_kept() -> None:
    stored = [f"trimtab.local/{tag}" for tag in ("app:3", "other:9", "app:2", "app-demo:1", "app:1", "app:0")]
    assert images._older_builds(stored, "app", "trimtab.local/app:3") == ["trimtab.local/app:1", "trimtab.local/app:0"]


def test_containerd_keeps_what_is_current_or_in_use_under_all_its_names() -> None:
    present = [
        "sha256:c1 application/x sha256:m1 1.2 GiB linux/amd64 managed",
        "sha256:c2 application/x sha256:m2 1.2 GiB linux/amd64 managed",
        "sha256:c3 application/x sha256:m3 1.2 GiB linux/amd64 managed",
        "sha256:c4 application/x sha256:m4 1.2 GiB linux/amd64 managed",
        "trimtab.local/app:1 application/x sha256:m1 1.2 GiB linux/amd64 -",
        "trimtab.local/app:2 application/x sha256:m2 1.2 GiB linux/amd64 -",
        "trimtab.local/app:3 application/x sha256:m3 1.2 GiB linux/amd64 -",
    ]
    containers = ["0123 trimtab.local/app:2 io.containerd.runc.v2", "4567 - io.containerd.runc.v2"]
    old = ["trimtab.local/app:1", "trimtab.local/app:2"]
    assert images.unneeded_references(present, containers, old) == ["sha256:c1", "sha256:c4", "trimtab.local/app:1"]


def test_an_unknown_image_is_refused_with_the_known_names() -> None:
    with pytest.raises(StepError, match=r"known: .*engine"):
        images.image("nothing")


def test_a_build_takes_the_base_as_an_argument_and_pulls_nothing() -> None:
    words = buildah.build_arguments(
        tag="trimtab.local/x:1", dockerfile=Path("/r/D"), context=Path("/r"), base="b:1", build_args={"A": "1"}
    )
    assert "--build-arg=BASE=b:1" in words
    assert "--build-arg=A=1" in words
    assert "--pull=never" in words
    assert words[-1] == Path("/r")


def test_what_the_machine_needs_for_its_indexes_is_mounted_read_only(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = tmp_path / "pip.conf"
    config.write_text("[global]\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(config))
    mounts = buildah.machine_mounts()
    assert f"--volume={config}:/etc/pip.conf:ro" in mounts
    assert all(mount.endswith(":ro") for mount in mounts)


@pytest.fixture
def directory(tmp_path: Path) -> tuple[Path, oci.Descriptor]:
    program = tmp_path / "pause"
    program.write_bytes(b"\x7fELF")
    place = tmp_path / "oci"
    manifest = oci.single_file_image(place, program)
    oci.write_index(place, {"trimtab.local/pause:1": manifest})
    return place, manifest


def test_an_image_of_one_program_is_the_same_each_time(directory: tuple[Path, oci.Descriptor], tmp_path: Path) -> None:
    place, manifest = directory
    assert oci.single_file_image(tmp_path / "again", tmp_path / "pause") == manifest
    assert oci.read_index(place) == {"trimtab.local/pause:1": manifest}


def test_an_archive_leaves_out_layers_that_containerd_has(directory: tuple[Path, oci.Descriptor]) -> None:
    place, manifest = directory
    blobs = oci.blobs_of(place, manifest)

    def members(present: set[str]) -> dict[str, bytes]:
        buffer = io.BytesIO()
        oci.write_archive(buffer, place, "trimtab.local/pause:1", manifest, present)
        buffer.seek(0)
        with tarfile.open(fileobj=buffer) as archive:
            return {entry.name: archive.extractfile(entry).read() for entry in archive}  # type: ignore[union-attr]

    everything = members(set())
    assert {name for name in everything if name.startswith("blobs/")} == {
        f"blobs/{digest.replace(':', '/')}" for digest in blobs
    }
    (entry,) = json.loads(everything["index.json"])["manifests"]
    assert entry["annotations"] == {"io.containerd.image.name": "trimtab.local/pause:1"}
    known = members(set(blobs))
    assert f"blobs/{blobs[-1].replace(':', '/')}" not in known
    assert f"blobs/{manifest.digest.replace(':', '/')}" in known


def test_blobs_are_shared_with_containerd_and_unneeded_ones_removed(
    directory: tuple[Path, oci.Descriptor], tmp_path: Path
) -> None:
    place, manifest = directory
    layer = oci.blobs_of(place, manifest)[-1]
    theirs = oci.blob_path(tmp_path / "containerd" / "io.containerd.content.v1.content", layer)
    theirs.parent.mkdir(parents=True)
    theirs.write_bytes(oci.blob_path(place, layer).read_bytes())

    oci.share_blobs(place, tmp_path / "containerd", [layer])
    assert oci.blob_path(place, layer).samefile(theirs)

    stray = oci.write_blob(place, "text/plain", b"old")
    oci.prune_blobs(place)
    assert not oci.blob_path(place, stray.digest).exists()
    assert oci.blob_path(place, layer).exists()


@pytest.mark.parametrize("name", sorted(images.IMAGES))
def test_every_dockerfile_names_a_public_base_and_lets_only_that_differ(name: str) -> None:
    spec = images.image(name)
    path = REPOSITORY / spec.dockerfile
    lines = [line.split() for line in path.read_text().splitlines() if line.split()]
    (base,) = [words[1] for words in lines if words[0] == "ARG" and words[1].startswith("BASE=")]
    assert base.removeprefix("BASE=")
    assert any(words[0] == "FROM" and words[1] in ("${BASE}", "$BASE") for words in lines)
