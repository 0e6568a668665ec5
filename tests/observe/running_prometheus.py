"""A real Prometheus on loopback with a directory of its own, and a small exporter whose page a test writes."""

from __future__ import annotations

import http.server
import json
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.testkit.ports import free_port

PROGRAM = "/usr/bin/prometheus"
INTERVAL = "250ms"


class RealPrometheus:
    """Debian's Prometheus. `scrape` adds a target; `stop` and `start` keep the data."""

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._directory = directory
        self._targets: list[dict[str, Any]] = []
        self._process: subprocess.Popen[bytes] | None = None
        (directory / "prometheus.json").write_text(
            json.dumps(
                {
                    "global": {"scrape_interval": INTERVAL, "scrape_timeout": INTERVAL},
                    "scrape_configs": [
                        {
                            "job_name": "pods",
                            "honor_labels": True,
                            "file_sd_configs": [{"files": [str(directory / "targets.json")], "refresh_interval": "1s"}],
                        }
                    ],
                }
            )
        )
        self._write_targets()

    def _write_targets(self) -> None:
        fresh = self._directory / "targets.json.new"
        fresh.write_text(json.dumps(self._targets))
        fresh.rename(self._directory / "targets.json")

    def scrape(self, address: str, **labels: str) -> None:
        """Scrapes host:port from now on, under these labels."""
        self._targets.append({"targets": [address], "labels": labels})
        self._write_targets()

    def start(self) -> None:
        """Starts it and waits until it answers."""
        with (self._directory / "prometheus.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    PROGRAM,
                    f"--config.file={self._directory / 'prometheus.json'}",
                    f"--storage.tsdb.path={self._directory / 'data'}",
                    f"--web.listen-address=127.0.0.1:{self.port}",
                ],
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        wait_until(self._answers, "Prometheus is ready")

    def _answers(self) -> bool:
        assert self._process is not None and self._process.poll() is None, "Prometheus has ended: see its log"
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def stop(self) -> None:
        """Ends it."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(30)
            self._process = None

    def number(self, expression: str) -> float | None:
        """The first value of an expression, asked with nothing of ours in between; None for an empty answer."""
        data = f"query={urllib.request.quote(expression)}".encode()  # type: ignore[attr-defined]
        with urllib.request.urlopen(f"{self.url}/api/v1/query", data=data, timeout=60) as answer:
            result = json.load(answer)["data"]["result"]
        return float(result[0]["value"][1]) if result else None


class Exporter:
    """Serves `page` at /metrics."""

    def __init__(self) -> None:
        self.page = ""
        exporter = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["content-length"]))
                self.do_GET()

            def do_GET(self) -> None:
                body = exporter.page.encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self.address = f"127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Exporter:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def wait_until(holds: Callable[[], bool], what: str, seconds: float = 60.0) -> None:
    """Returns as soon as `holds()`; AssertionError naming `what` when it never does."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"still waiting after {seconds:.0f} s: {what}"
        time.sleep(0.1)
