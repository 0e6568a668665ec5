"""A real Prometheus that scrapes nothing: the tests write into it what engines would have exported."""

from __future__ import annotations

import contextlib
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from tests.fault.programs import Programs
from tests.observe.running_prometheus import PROGRAM
from tests.testkit.ports import free_port


@contextlib.contextmanager
def running(directory: Path) -> Iterator[str]:
    """Its address. Every test begins at the same time of the past, so samples older than the newest are taken."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "prometheus.yml").write_text("storage: {tsdb: {out_of_order_time_window: 7d}}\n")
    programs, url = Programs(directory), f"http://127.0.0.1:{free_port()}"
    programs.start(
        "prometheus",
        [
            PROGRAM,
            f"--config.file={directory / 'prometheus.yml'}",
            f"--storage.tsdb.path={directory / 'data'}",
            f"--web.listen-address={url.removeprefix('http://')}",
            "--web.enable-remote-write-receiver",
        ],
    )
    try:
        end = time.monotonic() + 60.0
        while not _answers(url):
            assert programs.all_alive() and time.monotonic() < end, programs.log("prometheus")
            time.sleep(0.1)
        yield url
    finally:
        programs.stop()


def _answers(url: str) -> bool:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with contextlib.suppress(OSError), opener.open(f"{url}/-/ready", timeout=2) as answer:
        return bool(answer.status == 200)
    return False
