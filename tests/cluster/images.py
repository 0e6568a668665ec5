"""The project's images: the one table, their content hashes, and the way from a Dockerfile into containerd."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.cluster import buildah, locks, oci
from tests.cluster.containerd import ctr
from tests.cluster.layout import Layout
from tests.cluster.processes import Commands
from tests.cluster.steps import Progress, StepError

REGISTRY = "trimtab.local"
_KEPT_TAGS = 2  # the current image and the one before it, which running pods may still name
_RECIPE = "1"  # raise it when this file builds something different from the same inputs
_BASE = f"{REGISTRY}/base"
_BASE_SUITE = "bookworm"
_BASE_PACKAGES = ("ca-certificates", "python-is-python3", "python3", "python3-pip", "python3-venv")
_LEFT_OUT = {"__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis", ".import_linter_cache"}


@dataclass(frozen=True)
class Image:
    """One of our images. Paths are relative to the checkout; `inputs` are files and directories whose content
    decides whether the image must be built again (the Dockerfile counts by itself). `on` names the image of ours that
    it is built on, where that is not the base.
    """

    dockerfile: str
    inputs: tuple[str, ...]
    context: str = "."
    build_args: Mapping[str, str] = field(default_factory=dict)
    on: str = ""


IMAGES: Mapping[str, Image] = {
    "operator": Image("operator/Dockerfile", ("operator", "requirements-operator.lock")),
    "engine": Image(
        "engine_image/Dockerfile.cpu",
        (
            "engine_image/bin",
            "engine_image/trimtab_engine",
            "engine_image/cuda_standins.py",
            "engine_image/vllm_metadata.py",
            "requirements-engine-cpu.lock",
        ),
    ),
    "engine-demo": Image("engine_image/Dockerfile.demo", ("tests/models/make_llama.py",), on="engine"),
    "engine-fallback": Image(
        "engine_image/Dockerfile.fallback", ("requirements-engine-fallback.lock",), on="engine-demo"
    ),
    "testkit": Image("tests/testkit/Dockerfile", ("tests/testkit", "engine_image/bin", "engine_image/trimtab_engine")),
}


def image(name: str) -> Image:
    """The table's entry; StepError where there is none."""
    try:
        return IMAGES[name]
    except KeyError:
        raise StepError(f"no image is named {name!r}; known: {', '.join(sorted(IMAGES))}") from None


def input_files(repository: Path, spec: Image) -> list[Path]:
    """Every file that an image is made of, sorted."""
    found: set[Path] = set()
    for name in (spec.dockerfile, *spec.inputs):
        path = repository / name
        if path.is_dir():
            found.update(file for file in path.rglob("*") if file.is_file() and not _LEFT_OUT & set(file.parts))
        elif path.is_file():
            found.add(path)
        else:
            raise StepError(f"{name} is not there, and an image is made of it")
    for lock in (repository / spec.context).glob(".dockerignore"):
        found.add(lock)
    return sorted(found)


def content_hash(repository: Path, spec: Image, base: str) -> str:
    """Twelve hex digits that change when anything changes that the image is made of."""
    digest = hashlib.sha256(json.dumps([_RECIPE, base, spec.context, sorted(spec.build_args.items())]).encode())
    for path in input_files(repository, spec):
        executable = bool(path.stat().st_mode & 0o100)
        digest.update(f"{path.relative_to(repository)}\0{executable}\0".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:12]


def base_reference() -> str:
    """The base image that stands in for the public one: the same Python, made from Debian's packages."""
    key = hashlib.sha256(json.dumps([_RECIPE, _BASE_SUITE, _BASE_PACKAGES, _base_recipe("")]).encode()).hexdigest()
    return f"{_BASE}:{key[:12]}"


def reference(layout: Layout, name: str) -> str:
    """The image's name for a pod: `trimtab.local/<name>:<hash of its inputs>`, as the checkout is now."""
    spec = image(name)
    base = reference(layout, spec.on) if spec.on else base_reference()
    return f"{REGISTRY}/{name}:{content_hash(layout.repository, spec, base)}"


def _base_recipe(target: str | Path) -> list[str]:
    # Debian forbids pip to install beside its own packages; in an image that has no other purpose it may, as in the
    # public Python images that our Dockerfiles name. The empty pip.conf is what a build's own is mounted over.
    return [
        "mmdebstrap", "--mode=root", "--variant=minbase", f"--include={','.join(_BASE_PACKAGES)}",
        "--customize-hook=rm -f \"$1\"/usr/lib/python3*/EXTERNALLY-MANAGED",
        "--customize-hook=touch \"$1\"/etc/pip.conf",
        "--customize-hook=rm -rf \"$1\"/var/cache/apt/archives/*.deb \"$1\"/var/log/*.log",
        _BASE_SUITE, str(target),
    ]  # fmt: skip


def build_base(layout: Layout, commands: Commands) -> bool:
    """Makes the base image unless it is there; whether it had to be made."""
    name = base_reference()
    if buildah.has(layout, name):
        return False
    work = layout.cache / "tmp" / "base"
    work.mkdir(parents=True, exist_ok=True)
    archive = work / "base.tar"
    archive.unlink(missing_ok=True)
    commands.run("image-base", buildah.alone(_base_recipe(archive)), attempts=2)
    (work / "Dockerfile").write_text('FROM scratch\nADD base.tar /\nENV LANG=C.UTF-8\nCMD ["python3"]\n')
    arguments = buildah.build_arguments(
        tag=name, dockerfile=work / "Dockerfile", context=work, base=None, build_args={}
    )
    buildah.run(layout, commands, "image-base", *(word for word in arguments if not str(word).startswith("--volume")))
    archive.unlink()
    return True


def build(layout: Layout, commands: Commands, name: str) -> tuple[str, bool]:
    """Builds an image unless one of the same content is there; its reference, and whether it had to be built."""
    with locks.images(layout):
        return _build(layout, commands, name)


def _build(layout: Layout, commands: Commands, name: str) -> tuple[str, bool]:
    for _ in range(3):
        wanted = reference(layout, name)
        if wanted in oci.read_index(_layout_directory(layout)) or buildah.has(layout, wanted):
            return wanted, False
        _make(layout, commands, name, wanted)
        if reference(layout, name) == wanted:
            return wanted, True
        # Somebody edited a file meanwhile: what was built may be of either content, and must not keep this name.
        buildah.run(layout, commands, f"image-{name}", "rmi", wanted)
    raise StepError(f"the files that the image {name} is made of change faster than it can be built")


def _make(layout: Layout, commands: Commands, name: str, wanted: str) -> None:
    """Builds an image, and first the one that it is built on unless that is there."""
    spec = image(name)
    base = reference(layout, spec.on) if spec.on else base_reference()
    if spec.on and not buildah.has(layout, base):
        _make(layout, commands, spec.on, base)
    elif not spec.on:
        build_base(layout, commands)
    arguments = buildah.build_arguments(
        tag=wanted,
        dockerfile=layout.repository / spec.dockerfile,
        context=layout.repository / spec.context,
        base=base,
        build_args=spec.build_args,
    )
    buildah.run(layout, commands, f"image-{name}", *arguments)
    for old in _older_builds(buildah.read(layout, "images", "--format={{.Name}}:{{.Tag}}").splitlines(), name, wanted):
        buildah.run(layout, commands, f"image-{name}", "rmi", old)


def _older_builds(references: Sequence[str], name: str, current: str) -> list[str]:
    """Which builds of an image may go, from all references in the image store, the newest first."""
    mine = [tag for tag in references if tag.startswith(f"{REGISTRY}/{name}:") and tag != current]
    return mine[_KEPT_TAGS - 1 :]


def _layout_directory(layout: Layout) -> Path:
    return layout.cache / "oci"


def in_containerd(layout: Layout) -> set[str]:
    """The names of all images that the cluster has."""
    return set(ctr(layout, "images", "list", "--quiet").split())


def load(layout: Layout, commands: Commands, name: str, wanted: str) -> bool:
    """Brings a built image into the cluster unless it is there, and prunes older ones; whether it was brought."""
    with locks.images(layout):
        if wanted in in_containerd(layout):
            return False
        _load(layout, commands, name, wanted)
        prune(layout, name, wanted)
    return True


def _load(layout: Layout, commands: Commands, name: str, wanted: str) -> None:
    directory = _layout_directory(layout)
    if wanted not in oci.read_index(directory):
        # ctr and pods know the name with its registry; inside the layout it is only a label.
        buildah.run(layout, commands, f"image-{name}", *buildah.push_arguments(wanted, directory, wanted))
    oci.import_image(layout, directory, wanted, oci.read_index(directory)[wanted])


def prune(layout: Layout, name: str, current: str) -> None:
    """Removes older images of the same name from the cluster, but the last one before the current and those in use."""
    directory = _layout_directory(layout)
    index = oci.read_index(directory)
    mine = [tag for tag in index if tag.startswith(f"{REGISTRY}/{name}:") and tag != current]
    old = mine[: max(0, len(mine) - (_KEPT_TAGS - 1))]
    oci.write_index(directory, {tag: manifest for tag, manifest in index.items() if tag not in old})
    oci.prune_blobs(directory)
    present = ctr(layout, "images", "list").splitlines()[1:]
    containers = ctr(layout, "containers", "list").splitlines()[1:]
    for unneeded in unneeded_references(present, containers, old):
        ctr(layout, "images", "remove", unneeded)


def unneeded_references(present: Sequence[str], containers: Sequence[str], old: Sequence[str]) -> list[str]:
    """Which references containerd can do without, from the lines of `ctr images list` and `ctr containers list`.

    Its CRI service names each image once more, by the digest of its configuration, and such a name alone keeps
    content. What a container was made from stays, so that it can be restarted.
    """
    digests = {line.split()[0]: line.split()[2] for line in present}
    used = {digests.get(line.split()[1], "") for line in containers if len(line.split()) > 1}
    kept = {digest for name, digest in digests.items() if not name.startswith("sha256:") and name not in old}
    return [
        name
        for name, digest in digests.items()
        if (name in old or name.startswith("sha256:")) and digest not in used and (name in old or digest not in kept)
    ]


def _pause_directory(layout: Layout) -> Path:
    # Apart from the other images, which may be busy for minutes while the cluster waits for this one.
    return layout.cache / "oci-pause"


def write_pause(layout: Layout, program: Path) -> str:
    """Makes the sandbox image from its program; gives its name. It is imported once containerd runs."""
    name = f"{REGISTRY}/pause:{hashlib.sha256(program.read_bytes()).hexdigest()[:12]}"
    directory = _pause_directory(layout)
    if name not in oci.read_index(directory):
        oci.write_index(directory, {name: oci.single_file_image(directory, program)})
        oci.prune_blobs(directory)
    return name


def import_pause(layout: Layout, name: str) -> None:
    """Brings the sandbox image into containerd."""
    if name not in in_containerd(layout):
        directory = _pause_directory(layout)
        oci.import_image(layout, directory, name, oci.read_index(directory)[name])


def bring(
    layout: Layout, commands: Commands, names: tuple[str, ...], progress: Progress, *, loading: bool
) -> dict[str, str]:
    """Builds the named images, and loads them into the running cluster when asked to; their references by name."""
    found: dict[str, str] = {}
    for name in names:
        progress.say(f"start: image {name}")
        found[name], built = build(layout, commands, name)
        loaded = loading and load(layout, commands, name, found[name])
        progress.say(f"done:  image {name}: {found[name]}{', built' if built else ''}{', loaded' if loaded else ''}")
    return found
