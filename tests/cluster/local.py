"""`CLUSTER=local`: the steps from nothing to a cluster that runs the project's images."""

from __future__ import annotations

import os
import shutil

from tests.cluster import (
    agent,
    binaries,
    certificates,
    containerd,
    control_plane,
    images,
    leftovers,
    network,
    node,
    prometheus,
    teardown,
)
from tests.cluster.layout import Layout
from tests.cluster.processes import Commands, is_running, members
from tests.cluster.steps import Progress, Step, StepError, run_steps

DAEMONS = (
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "containerd",
    "kubelet",
    "kube-proxy",
    "agent",
    "prometheus",
)
PROGRAMS = ("etcd", "containerd", "ctr", "runc", "prometheus", "buildah", "mmdebstrap", "ip", "iptables", "unshare")
GPUS = 4


def running(layout: Layout) -> dict[str, bool]:
    """Which daemons of this cluster run."""
    return {name: is_running(layout, name) for name in DAEMONS}


def is_up(layout: Layout) -> bool:
    """Whether an `up` was completed and all its daemons still run."""
    return layout.ready.exists() and all(running(layout).values())


def check_machine(layout: Layout) -> None:
    """Raises StepError where this machine cannot hold the cluster, with what to do about it."""
    if os.geteuid() != 0:
        raise StepError("the local cluster makes namespaces, mounts and interfaces: run this as root")
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    missing = [name for name in PROGRAMS if shutil.which(name, path=path) is None]
    if missing:
        raise StepError(f"not installed: {', '.join(missing)}; run `make setup`")
    others = {cluster for cluster in members().values() if cluster != layout.member}
    if others:
        raise StepError(
            f"another cluster of this kind runs here ({', '.join(sorted(others))}), and kube-proxy's rules hold for a "
            "whole machine: take it down first, or use it by setting TRIMTAB_CLUSTER_DIR"
        )


def prepare(layout: Layout, progress: Progress) -> None:
    """Clears away what an interrupted `up`, a crash or a reboot left, and notes how the machine is now."""
    alive = any(running(layout).values())
    if not (layout.ready.exists() and alive) and (found := leftovers.find(layout)):
        progress.say(f"clearing away {len(found)} leftovers of an earlier cluster (the first: {found[0]})")
        teardown.tear_down(layout)
    leftovers.record(layout)


class Up:
    """The steps of one `up`; each may be repeated without harm."""

    def __init__(self, layout: Layout, progress: Progress, names: tuple[str, ...]) -> None:
        self._layout = layout
        self._progress = progress
        self._names = names
        self._commands = Commands(layout, logs=layout.cache / "logs")
        self._pause = ""
        self._references: dict[str, str] = {}

    def _programs(self) -> str:
        built, now = binaries.build(self._layout, self._commands)
        binaries.link(self._layout, built)
        self._pause = images.write_pause(self._layout, built / "pause")
        return f"built into {built}" if now else f"from the cache: {built}"

    def _containerd(self) -> None:
        containerd.start_containerd(self._layout, self._pause)
        images.import_pause(self._layout, self._pause)

    def _gpus(self) -> str:
        node.wait_until_ready(self._layout)
        node.advertise_gpus(self._layout, GPUS)
        return f"{GPUS} x {node.GPU_RESOURCE}"

    def _build_image(self, name: str) -> str:
        self._references[name], built = images.build(self._layout, self._commands, name)
        return ("built " if built else "from the cache: ") + self._references[name]

    def _load_image(self, name: str) -> str:
        loaded = images.load(self._layout, self._commands, name, self._references[name])
        return "loaded" if loaded else "was there"

    def steps(self) -> list[Step]:
        """All steps in order of need."""
        layout = self._layout

        def build(name: str) -> Step:
            return Step(f"build image {name}", lambda: self._build_image(name))

        def load(name: str) -> Step:
            return Step(f"load image {name}", lambda: self._load_image(name), ("containerd", f"build image {name}"))

        return [
            Step("programs", self._programs),
            Step("certificates", lambda: certificates.create(layout)),
            Step("network", lambda: network.set_up(layout)),
            Step("etcd", lambda: control_plane.start_etcd(layout)),
            Step("containerd", self._containerd, ("programs", "network")),
            Step(
                "API server",
                lambda: control_plane.start_apiserver(layout),
                ("programs", "certificates", "network", "etcd"),
            ),
            Step("controllers", lambda: control_plane.start_controllers(layout), ("API server",)),
            Step("kubelet", lambda: node.start_kubelet(layout), ("API server", "containerd")),
            Step("kube-proxy", lambda: node.start_proxy(layout), ("API server",)),
            Step("agent", lambda: agent.start_agent(layout), ("API server",)),
            Step("Prometheus", lambda: prometheus.start_prometheus(layout), ("API server",)),
            Step("node and GPUs", self._gpus, ("kubelet", "controllers", "kube-proxy")),
            *(build(name) for name in self._names),
            *(load(name) for name in self._names),
        ]

    def run(self) -> None:
        """Runs all steps and marks the cluster as complete."""
        run_steps(self.steps(), self._progress, cancel=self._commands.cancel)
        self._layout.ready.touch()


def up(layout: Layout, names: tuple[str, ...], progress: Progress) -> None:
    """Brings the cluster up with the named images, or completes what is there."""
    check_machine(layout)
    prepare(layout, progress)
    Up(layout, progress, names).run()
