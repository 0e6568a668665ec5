"""`python -m tests.cluster up|down|status|images`: the local cluster from the command line."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Sequence

from tests.cluster import images, leftovers, locks, target, teardown
from tests.cluster.layout import MEMBER_VARIABLE, Layout, LayoutError, default_layout
from tests.cluster.steps import Progress, StepError, StepsFailed, describe_failure


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _up(layout: Layout, arguments: argparse.Namespace, progress: Progress) -> int:
    names = _names(arguments.images)
    for name in names:
        images.image(name)
    with locks.cluster(layout, progress.say):
        target.chosen(layout).up(names, progress)
    progress.say(f"the cluster is up; kubeconfig: {layout.kubeconfig}")
    return 0


def _down(layout: Layout, _arguments: argparse.Namespace, progress: Progress) -> int:
    with locks.cluster(layout, progress.say):
        wanted = target.chosen(layout)
        if isinstance(wanted, target.Local) and not leftovers.find(layout) and not leftovers.half_made(layout):
            progress.say("there is no cluster")
            return 0
        wanted.down(progress)
    progress.say("the cluster is gone; images and programs stay in the cache")
    return 0


def _status(layout: Layout, arguments: argparse.Namespace, _progress: Progress) -> int:
    wanted = target.chosen(layout)
    state = wanted.state()
    up = all(state.values())
    if arguments.json:
        print(json.dumps({"up": up, **(wanted.handle().document() if up else {})}, indent=2))
        return 0 if up else 1
    if arguments.kubeconfig:
        print(layout.kubeconfig)
        return 0 if up else 1
    print(f"cluster: {'up' if up else 'not up'} ({layout.cluster})")
    for name, is_so in state.items():
        print(f"  {name:<24} {'yes' if is_so else 'no'}")
    if up:
        for name, value in wanted.handle().document().items():
            print(f"{name + ':':<22} {value}")
        for name in images.IMAGES:
            print(f"{'image ' + name + ':':<22} {_image_state(layout, wanted, name)}")
    return 0 if up else 1


def _image_state(layout: Layout, wanted: target.Target, name: str) -> str:
    try:
        reference = images.reference(layout, name)
    except StepError as error:
        return str(error)
    if not isinstance(wanted, target.Local):
        return reference
    return f"{reference} ({'loaded' if reference in images.in_containerd(layout) else 'not loaded'})"


def _images(layout: Layout, arguments: argparse.Namespace, progress: Progress) -> int:
    names = tuple(arguments.names)
    if arguments.reference:
        found = {name: images.reference(layout, name) for name in names}
    else:
        quiet = Progress(write=lambda line: print(line, file=sys.stderr, flush=True)) if arguments.json else progress
        found = target.chosen(layout).bring(names, quiet)
    if arguments.json:
        print(json.dumps(found, indent=2))
    elif arguments.reference:
        print("\n".join(found.values()))
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
    status.add_argument("--json", action="store_true", help="print how to use the cluster, for programs")
    status.set_defaults(run=_status)
    bring = commands.add_parser("images", help="build images and load them into the running cluster")
    bring.add_argument("names", nargs="+", metavar="NAME")
    bring.add_argument("--reference", action="store_true", help="only print the references, build nothing")
    bring.add_argument("--json", action="store_true", help="print the references by name, for programs")
    bring.set_defaults(run=_images)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; the exit status is 0 when it did what it was asked to."""
    arguments = _parser().parse_args(argv)
    progress = Progress()
    try:
        layout = default_layout()
        # For every child, however short it lives: `down` must find it if this process is killed. It does not mark this
        # process itself, whose environment the kernel shows as it was at its start.
        os.environ[MEMBER_VARIABLE] = layout.member
        run = arguments.run
        return int(run(layout, arguments, progress))
    except KeyboardInterrupt:
        print("interrupted; `up` starts afresh, `down` removes what there is", file=sys.stderr, flush=True)
        os._exit(130)  # threads that wait for a daemon are not waited for
    except StepsFailed as error:
        print(f"error: {error}", file=sys.stderr)
    except (StepError, LayoutError, teardown.LeftoversError) as error:
        print(f"error: {describe_failure('start', error) if isinstance(error, StepError) else error}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    os.umask(0o022)
    # A shell starts what runs in the background with SIGINT ignored.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    sys.exit(main())
