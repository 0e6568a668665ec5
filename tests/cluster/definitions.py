"""Waits until the API server serves what CustomResourceDefinitions define."""

from __future__ import annotations

import time
from collections.abc import Callable

from tests.cluster.handle import CommandError


def established(kubectl: Callable[..., str], *which: str, seconds: float = 60.0) -> None:
    """`which` as for kubectl, such as `crd/NAME`. `kubectl wait` itself gives up on a definition that is so new that it
    has no conditions yet, and one that is established may be found by its name a moment later only.
    """
    ends = time.monotonic() + seconds
    while True:
        try:
            kubectl("wait", "--for=condition=Established", f"--timeout={seconds:.0f}s", *which)
            for definition in kubectl("get", *which, "--output=name").split():
                kubectl("get", definition.partition("/")[2], "--all-namespaces", "--output=name")
        except (CommandError, AssertionError):
            if time.monotonic() > ends:
                raise
            time.sleep(0.5)
        else:
            return
