"""`python -m tests.cluster up|down|status|images`: the local cluster from the command line."""

from __future__ import annotations

import argparse
import fcntl
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tests.cluster import images, leftovers, local, prometheus, teardown
from tests.cluster.layout import Layout, LayoutError, default_layout
from tests.cluster.processes import Commands
from tests.cluster.steps import Progress, StepError, StepsFailed, describe_failure


@contextmanager
def _alone(layout: Layout, progress: Progress) -> Iterator[None]:
    """One `up` or `down` at a time; the lock lies in the cache, since `down` removes the cluster's directory."""
    layout.cache.mkdir(parents=True, exist_ok=True)
    with (layout.cache / "cluster.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress.say("waiting for another command on this cluster to end")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _up(layout: Layout, arguments: argparse.Namespace, progress: Progress) -> int:
    with _alone(layout, progress):
        local.up(layout, _names(arguments.images), progress)
    return 0


def _down(layout: Layout, _arguments: argparse.Namespace, progress: Progress) -> int:
    with _alone(layout, progress):
        if not leftovers.find(layout):
            progress.say("there is no cluster")
            return 0
        teardown.tear_down(layout, progress)
    progress.say("the cluster is gone; images and programs stay in the cache")
    return 0


def _status(layout: Layout, arguments: argparse.Namespace, _progress: Progress) -> int:
    up = local.is_up(layout)
    if arguments.kubeconfig:
        print(layout.kubeconfig)
        return 0 if up else 1
    print(f"cluster:    {'up' if up else 'not up'} ({layout.cluster})")
    for name, runs in local.running(layout).items():
        print(f"  {name:<24} {'runs' if runs else 'does not run'}")
    if up:
        print(f"kubeconfig: {layout.kubeconfig}")
        print(f"Prometheus: {prometheus.URL_IN_CLUSTER} for pods, {prometheus.URL_ON_THIS_MACHINE} on this machine")
        print(f"audit log:  {layout.audit_log}")
        present = images.in_containerd(layout)
        for name in images.IMAGES:
            try:
                wanted = images.reference(layout, name)
            except StepError as error:
                print(f"image {name}: {error}")
                continue
            print(f"image {wanted} {'is loaded' if wanted in present else 'is not loaded'}")
    return 0 if up else 1


def _images(layout: Layout, arguments: argparse.Namespace, progress: Progress) -> int:
    if arguments.reference:
        for name in arguments.names:
            print(images.reference(layout, name))
        return 0
    commands = Commands(layout, logs=layout.cache / "logs")
    if local.is_up(layout):
        images.bring(layout, commands, tuple(arguments.names), progress)
        return 0
    for name in arguments.names:
        progress.say(f"start: image {name}")
        wanted, built = images.build(layout, commands, name)
        progress.say(f"done:  image {name}: {wanted}{', built' if built else ''}; not loaded: the cluster is not up")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.cluster", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="up|down|status|images")
    up = commands.add_parser("up", help="bring the cluster up, or complete what is there")
    up.add_argument("--images", default="", help=f"comma-separated images to build and load: {','.join(images.IMAGES)}")
    up.set_defaults(run=_up)
    down = commands.add_parser("down", help="remove everything of the cluster from this machine")
    down.set_defaults(run=_down)
    status = commands.add_parser("status", help="say what runs; exit status 0 when the cluster is up")
    status.add_argument("--kubeconfig", action="store_true", help="print the path of the kubeconfig only")
    status.set_defaults(run=_status)
    bring = commands.add_parser("images", help="build images and load them into the running cluster")
    bring.add_argument("names", nargs="+", metavar="NAME")
    bring.add_argument("--reference", action="store_true", help="only print the references, build nothing")
    bring.set_defaults(run=_images)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; the exit status is 0 when it did what it was asked to."""
    arguments = _parser().parse_args(argv)
    progress = Progress()
    try:
        layout = default_layout()
        run = arguments.run
        return int(run(layout, arguments, progress))
    except StepsFailed as error:
        print(f"error: {error}", file=sys.stderr)
    except (StepError, LayoutError, teardown.LeftoversError) as error:
        print(f"error: {describe_failure('start', error) if isinstance(error, StepError) else error}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    os.umask(0o022)
    sys.exit(main())
