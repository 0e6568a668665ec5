"""Ports for the programs that tests start, on addresses of this machine."""

from __future__ import annotations

import fcntl
import functools
import random
import socket
import tempfile
import threading
from pathlib import Path
from typing import IO

# Below the ports that Linux gives to whoever asks for any (`ip_local_port_range`, from 32768 on) and below Kubernetes'
# node ports (from 30000 on): between the choice and the program's start nobody else is given one of these.
_PORTS = range(20_000, 30_000)
_given: set[int] = set()
_turn = threading.Lock()


def free_port(address: str = "127.0.0.1") -> int:
    """A port that nobody listens on, and that no other process of tests is given until this one ends."""
    with _turn:
        for port in random.SystemRandom().sample(_PORTS, len(_PORTS)):
            if port not in _given and _is_ours(port) and _is_free(address, port):
                _given.add(port)
                return port
    raise OSError(f"none of the ports {_PORTS[0]} to {_PORTS[-1]} of {address} is free")


@functools.cache
def _register() -> IO[bytes]:
    """A file in which a lock of one byte stands for a port; the kernel takes the locks back when the process ends."""
    return (Path(tempfile.gettempdir()) / "trimtab-ports.lock").open("wb")


def _is_ours(port: int) -> bool:
    register = _register()
    try:
        fcntl.lockf(register, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except (BlockingIOError, PermissionError):
        return False
    return True


def _is_free(address: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: waiting connections do not count
        try:
            probe.bind((address, port))
        except OSError:
            return False
    return True
