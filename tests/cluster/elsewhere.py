"""`CLUSTER=kind` and `CLUSTER=current`: clusters that Docker or somebody else runs.

Only what is missing is added to them: our images, a Prometheus where none is named, and on kind, GPUs on the node.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import yaml

from tests.cluster import images, prometheus
from tests.cluster.handle import Handle
from tests.cluster.layout import PROMETHEUS_NODE_PORT, Layout
from tests.cluster.node import gpu_patch
from tests.cluster.processes import Commands, output
from tests.cluster.steps import Progress, StepError

KIND_CLUSTER = "trimtab"
GPUS = 4
_NAMESPACE = "trimtab-monitoring"
_URL_IN_CLUSTER = f"http://prometheus.{_NAMESPACE}.svc:9090"
_MANIFESTS = Path(__file__).with_name("prometheus_pod.yaml")


def program(name: str) -> Path:
    """A program on PATH; StepError where there is none."""
    found = shutil.which(name)
    if found is None:
        raise StepError(f"{name} is not installed, and this kind of cluster needs it")
    return Path(found)


def kind_configuration() -> str:
    """One node, and Prometheus' port on this machine's loopback address."""
    mapping = {"containerPort": PROMETHEUS_NODE_PORT, "hostPort": PROMETHEUS_NODE_PORT, "listenAddress": "127.0.0.1"}
    return yaml.safe_dump(
        {
            "kind": "Cluster",
            "apiVersion": "kind.x-k8s.io/v1alpha4",
            "nodes": [{"role": "control-plane", "extraPortMappings": [mapping]}],
        },
        sort_keys=False,
    )


def docker_build(layout: Layout, name: str, tag: str, base: str | None) -> list[str]:
    """`docker build` of one of our images. Without `base`, the Dockerfile's own public base is used."""
    spec = images.image(name)
    arguments: Mapping[str, str] = {**spec.build_args, **({} if base is None else {"BASE": base})}
    return [
        "docker", "build", f"--tag={tag}", f"--file={layout.repository / spec.dockerfile}",
        *(f"--build-arg={key}={value}" for key, value in sorted(arguments.items())),
        str(layout.repository / spec.context),
    ]  # fmt: skip


def prometheus_manifests() -> str:
    """Prometheus in a pod, with its configuration."""
    text = yaml.safe_dump(prometheus.configuration_in_a_pod(prometheus.interval()), sort_keys=False)
    configuration = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "prometheus", "namespace": _NAMESPACE},
        "data": {"prometheus.yml": text},
    }
    return _MANIFESTS.read_text() + "---\n" + yaml.safe_dump(configuration, sort_keys=False)


class _Elsewhere:
    """What both have in common."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._commands = Commands(layout, logs=layout.cache / "logs")

    def _handle(self, in_cluster: str, here: str | None) -> Handle:
        return Handle(
            kubeconfig=self._layout.kubeconfig,
            kubectl_program=program("kubectl"),
            helm_program=program("helm"),
            prometheus_in_cluster=in_cluster,
            prometheus_here=here,
            audit_log=None,
        )

    def _kubectl(self, *words: str, stdin: str | None = None) -> str:
        return output([program("kubectl"), f"--kubeconfig={self._layout.kubeconfig}", *words], stdin=stdin)

    def _answers(self) -> bool:
        if not self._layout.kubeconfig.exists():
            return False
        try:
            self._kubectl("get", "--raw=/readyz", "--request-timeout=5s")
        except StepError:
            return False
        return True

    def _install_prometheus(self, progress: Progress) -> None:
        progress.say("start: Prometheus")
        how = ("--server-side", "--field-manager=trimtab-cluster", "--force-conflicts")
        self._kubectl("apply", *how, "--filename=-", stdin=prometheus_manifests())
        self._kubectl("rollout", "status", "deployment/prometheus", f"--namespace={_NAMESPACE}", "--timeout=300s")
        progress.say("done:  Prometheus")

    def _reference(self, name: str) -> str:
        return images.reference(self._layout, name)

    def _deliver(self, name: str, reference: str) -> None:
        raise NotImplementedError

    def _build(self, name: str) -> str:
        spec, reference = images.image(name), self._reference(name)
        base = self._build(spec.on) if spec.on else None
        self._commands.run(f"image-{name}", docker_build(self._layout, name, reference, base))
        return reference

    def bring(self, names: tuple[str, ...], progress: Progress) -> dict[str, str]:
        """Builds images with Docker and brings them to the cluster; their references by name."""
        program("docker")
        found: dict[str, str] = {}
        for name in names:
            progress.say(f"start: image {name}")
            found[name] = self._build(name)
            self._deliver(name, found[name])
            progress.say(f"done:  image {name}: {found[name]}")
        return found


class Kind(_Elsewhere):
    """A cluster of kind's, named `trimtab`."""

    def _exists(self) -> bool:
        return KIND_CLUSTER in output([program("kind"), "get", "clusters"]).split()

    def up(self, names: tuple[str, ...], progress: Progress) -> None:
        """Creates the cluster where there is none, adds GPUs and Prometheus, and loads the images."""
        for needed in ("docker", "kind", "kubectl", "helm"):
            program(needed)
        self._layout.cluster.mkdir(parents=True, exist_ok=True)
        where = [f"--name={KIND_CLUSTER}", f"--kubeconfig={self._layout.kubeconfig}"]
        if self._exists():
            output(["kind", "export", "kubeconfig", *where])
        else:
            progress.say("start: kind cluster")
            config = self._layout.cluster / "kind.yaml"
            config.write_text(kind_configuration())
            self._commands.run("kind", ["kind", "create", "cluster", *where, f"--config={config}", "--wait=300s"])
            progress.say("done:  kind cluster")
        patch = ("--subresource=status", "--type=merge", f"--patch={gpu_patch(GPUS)}")
        self._kubectl("patch", "node", f"{KIND_CLUSTER}-control-plane", *patch)
        self._install_prometheus(progress)
        self.bring(names, progress)

    def _deliver(self, name: str, reference: str) -> None:
        self._commands.run(f"image-{name}", ["kind", "load", "docker-image", reference, f"--name={KIND_CLUSTER}"])

    def down(self, progress: Progress) -> None:
        """Deletes the cluster."""
        if self._exists():
            progress.say("deleting the kind cluster")
            self._commands.run("kind", ["kind", "delete", "cluster", f"--name={KIND_CLUSTER}"])
        shutil.rmtree(self._layout.cluster, ignore_errors=True)

    def state(self) -> dict[str, bool]:
        """Whether its API server answers."""
        return {"API server of the kind cluster": self._answers()}

    def handle(self) -> Handle:
        """Access as kind's administrator."""
        return self._handle(_URL_IN_CLUSTER, prometheus.URL_ON_THIS_MACHINE)


class Current(_Elsewhere):
    """The cluster of the current kubeconfig context.

    TRIMTAB_REGISTRY is where images are pushed and pulled from; TRIMTAB_PROMETHEUS_URL an existing Prometheus, as pods
    reach it.
    """

    def up(self, names: tuple[str, ...], progress: Progress) -> None:
        """Notes the present context, adds Prometheus where none is named, and pushes the images."""
        for needed in ("kubectl", "helm"):
            program(needed)
        # A copy of this context alone: switching contexts later must not turn a test on another cluster.
        text = output([program("kubectl"), "config", "view", "--minify", "--flatten", "--raw", "--output=json"])
        context = json.loads(text).get("current-context", "")
        if not context:
            raise StepError("CLUSTER=current: the kubeconfig has no current context")
        self._layout.cluster.mkdir(parents=True, exist_ok=True)
        self._layout.kubeconfig.touch(mode=0o600)
        self._layout.kubeconfig.write_text(text)
        progress.say(f"using the cluster of the context {context}")
        if not os.environ.get("TRIMTAB_PROMETHEUS_URL"):
            self._install_prometheus(progress)
        self.bring(names, progress)

    def _reference(self, name: str) -> str:
        registry = os.environ.get("TRIMTAB_REGISTRY")
        if not registry:
            raise StepError("CLUSTER=current: set TRIMTAB_REGISTRY to a registry that the cluster pulls from")
        return super()._reference(name).replace(images.REGISTRY, registry.rstrip("/"), 1)

    def _deliver(self, name: str, reference: str) -> None:
        self._commands.run(f"image-{name}", ["docker", "push", reference])

    def down(self, progress: Progress) -> None:
        """Removes our Prometheus and the copy of the kubeconfig; the cluster stays."""
        if self._answers():
            progress.say("removing what was added to the cluster")
            self._kubectl("delete", "--ignore-not-found", "--filename=-", stdin=prometheus_manifests())
        shutil.rmtree(self._layout.cluster, ignore_errors=True)

    def state(self) -> dict[str, bool]:
        """Whether its API server answers."""
        return {"API server of the current context": self._answers()}

    def handle(self) -> Handle:
        """Access as the kubeconfig's user."""
        return self._handle(os.environ.get("TRIMTAB_PROMETHEUS_URL") or _URL_IN_CLUSTER, None)
