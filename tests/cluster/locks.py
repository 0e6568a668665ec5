"""Locks between processes. They lie in the cache, since `down` removes the cluster's directory."""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from tests.cluster.layout import Layout


@contextmanager
def _held(layout: Layout, name: str, waiting: Callable[[], None]) -> Iterator[None]:
    layout.cache.mkdir(parents=True, exist_ok=True)
    with (layout.cache / f"{name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def cluster(layout: Layout, say: Callable[[str], None] = lambda _text: None) -> AbstractContextManager[None]:
    """One `up` or `down` at a time."""
    return _held(layout, "cluster", lambda: say("waiting for another command on this cluster to end"))


def images(layout: Layout, say: Callable[[str], None] = lambda _text: None) -> AbstractContextManager[None]:
    """One process at a time builds or loads images."""
    return _held(layout, "images", lambda: say("waiting for images that another command builds or loads"))
