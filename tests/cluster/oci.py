"""OCI image layouts: writing a small image without any tool, and handing containerd only the blobs that it lacks."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from tests.cluster.containerd import CONTENT, NAMESPACE, ctr
from tests.cluster.layout import Layout
from tests.cluster.processes import environment
from tests.cluster.steps import StepError

_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar"
_REFERENCE = "org.opencontainers.image.ref.name"


@dataclass(frozen=True)
class Descriptor:
    """A blob as an index or a manifest names it."""

    media_type: str
    digest: str
    size: int

    def document(self) -> dict[str, object]:
        """The descriptor's JSON form."""
        return {"mediaType": self.media_type, "digest": self.digest, "size": self.size}


def blob_path(directory: Path, digest: str) -> Path:
    """Where a layout keeps the blob `sha256:<hex>`."""
    algorithm, _, value = digest.partition(":")
    return directory / "blobs" / algorithm / value


def write_blob(directory: Path, media_type: str, content: bytes) -> Descriptor:
    """Adds a blob to a layout."""
    digest = "sha256:" + hashlib.sha256(content).hexdigest()
    path = blob_path(directory, digest)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_bytes(content)
    part.replace(path)
    return Descriptor(media_type, digest, len(content))


def single_file_image(directory: Path, program: Path) -> Descriptor:
    """Writes an image that holds one static program at its root and runs it; gives the manifest's descriptor.

    The same program always gives the same image: no times, no owners.
    """
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        entry = tarfile.TarInfo(program.name)
        entry.mode = 0o755
        entry.size = program.stat().st_size
        with program.open("rb") as file:
            archive.addfile(entry, file)
    layer = write_blob(directory, _LAYER, buffer.getvalue())
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Entrypoint": [f"/{program.name}"], "User": "65535:65535", "WorkingDir": "/"},
        "rootfs": {"type": "layers", "diff_ids": [layer.digest]},
    }
    config_blob = write_blob(directory, _CONFIG, json.dumps(config).encode())
    manifest = {
        "schemaVersion": 2,
        "mediaType": _MANIFEST,
        "config": config_blob.document(),
        "layers": [layer.document()],
    }
    return write_blob(directory, _MANIFEST, json.dumps(manifest).encode())


def read_index(directory: Path) -> dict[str, Descriptor]:
    """The manifests of a layout by their reference name."""
    try:
        index = json.loads((directory / "index.json").read_text())
    except FileNotFoundError:
        return {}
    return {
        entry["annotations"][_REFERENCE]: Descriptor(entry["mediaType"], entry["digest"], entry["size"])
        for entry in index.get("manifests", [])
        if _REFERENCE in entry.get("annotations", {})
    }


def index_document(manifests: Mapping[str, Descriptor], annotation: str = _REFERENCE) -> dict[str, Any]:
    """An index.json that names these manifests under `annotation`."""
    return {
        "schemaVersion": 2,
        "manifests": [
            {**descriptor.document(), "annotations": {annotation: name}} for name, descriptor in manifests.items()
        ],
    }


def write_index(directory: Path, manifests: Mapping[str, Descriptor]) -> None:
    """Replaces a layout's index."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    part = directory / "index.json.part"
    part.write_text(json.dumps(index_document(manifests)))
    part.replace(directory / "index.json")


def blobs_of(directory: Path, manifest: Descriptor) -> list[str]:
    """The digests that an image consists of: manifest, configuration, layers."""
    document = json.loads(blob_path(directory, manifest.digest).read_text())
    return [manifest.digest, document["config"]["digest"], *(layer["digest"] for layer in document["layers"])]


def write_archive(file: IO[bytes], directory: Path, name: str, manifest: Descriptor, present: set[str]) -> None:
    """Writes an image as a tar stream for `ctr images import`, without the blobs that containerd has already.

    The name goes under containerd's own annotation: the standard one holds only tags, which ctr would prefix.
    """
    with tarfile.open(fileobj=file, mode="w|", format=tarfile.PAX_FORMAT) as archive:
        index = index_document({name: manifest}, annotation="io.containerd.image.name")
        for path, text in (("oci-layout", '{"imageLayoutVersion": "1.0.0"}'), ("index.json", json.dumps(index))):
            entry = tarfile.TarInfo(path)
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))
        blobs = blobs_of(directory, manifest)
        for digest in dict.fromkeys(blobs):
            # Manifest and configuration always travel: they are small, and containerd reads them from the stream.
            if digest in present and digest not in blobs[:2]:
                continue
            path_in_archive = str(blob_path(Path(), digest))
            archive.add(blob_path(directory, digest), arcname=path_in_archive, recursive=False)


def import_image(layout: Layout, directory: Path, name: str, manifest: Descriptor) -> None:
    """Brings an image of a layout into containerd under `name`, and shares the blobs' disk space with it."""
    present = set(ctr(layout, "content", "list", "--quiet").split())
    command = ["ctr", f"--address={layout.containerd_socket}", f"--namespace={NAMESPACE}", "images", "import", "-"]
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment(layout),
        start_new_session=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    broken = False
    try:
        write_archive(process.stdin, directory, name, manifest, present)
        process.stdin.close()
    except BrokenPipeError:
        broken = True  # ctr said why on its output
    said = process.stdout.read().decode(errors="replace")
    process.stdout.close()
    if process.wait() != 0 or broken:
        raise StepError(f"containerd refused the image {name}: {said.strip()[-1500:]}", layout.logs / "containerd.log")
    share_blobs(directory, layout.containerd_root, blobs_of(directory, manifest))


def share_blobs(directory: Path, containerd_root: Path, digests: Iterable[str]) -> None:
    """Makes a layout's blobs hard links to containerd's: both treat them as immutable, and one copy is enough."""
    store = containerd_root / CONTENT
    for digest in digests:
        ours, theirs = blob_path(directory, digest), blob_path(store, digest)
        if not theirs.exists() or not ours.exists() or ours.samefile(theirs):
            continue
        part = ours.with_suffix(".link")
        part.unlink(missing_ok=True)
        try:
            os.link(theirs, part)
        except OSError:
            return  # two file systems: each keeps its copy
        part.replace(ours)


def prune_blobs(directory: Path) -> None:
    """Removes blobs that no manifest of the layout's index leads to."""
    needed = {digest for manifest in read_index(directory).values() for digest in blobs_of(directory, manifest)}
    for path in (directory / "blobs" / "sha256").glob("*"):
        if f"sha256:{path.name}" not in needed:
            path.unlink()
