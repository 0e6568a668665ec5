"""Classes of requests on real vLLM: who goes first is a setting, and it changes while the server runs."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.waiting import until
from tests.testkit.client import MODEL_NAME
from tests.vllm.server import ROOT, VllmServer, trimtab_command

pytestmark = [pytest.mark.vllm, pytest.mark.slow]

TOKENS = 48
FIRST_TOKENS = 400


class Served:
    """The server and its settings file."""

    def __init__(self, server: VllmServer, settings: Path) -> None:
        self.server = server
        self.settings = settings
        self.ended: list[str] = []

    def status(self) -> Any:
        return json.loads(self.server.get("/v1/optimization/status"))

    def settle(self, number: int, **settings: Any) -> None:
        """Until the settings of this number are in force."""
        self.settings.write_text(json.dumps({"id": number, **settings}))
        ends = time.monotonic() + 60
        while not ((status := self.status())["id"] == number and status["in_force"]):
            assert time.monotonic() < ends, status
            self.complete("settle", 1)  # an idle engine makes no step
            time.sleep(0.1)

    def complete(self, name: str, tokens: int = TOKENS) -> int:
        """One request of a class; its end is noted under its name."""
        body = {"model": MODEL_NAME, "prompt": name, "max_tokens": tokens, "ignore_eos": True, "temperature": 0}
        headers = {"content-type": "application/json", "x-request-class": name.partition("-")[0]}
        request = urllib.request.Request(
            self.server.url + "/v1/completions", data=json.dumps(body).encode(), headers=headers
        )
        with urllib.request.urlopen(request, timeout=120) as answer:
            status = int(answer.status)
            answer.read()
        self.ended.append(name)
        return status

    def crowd(self, late: str) -> list[str]:
        """Six requests of the class `batch`, of which one runs, and then one named `late`: the order of their ends."""
        self.ended.clear()
        with ThreadPoolExecutor(7) as pool:
            # Long enough for all others to be there before its end.
            asked: list[Future[int]] = [pool.submit(self.complete, "batch-0", FIRST_TOKENS)]
            self._until("running", 1)
            asked += [pool.submit(self.complete, f"batch-{number}") for number in range(1, 6)]
            self._until("waiting", 5)
            asked.append(pool.submit(self.complete, late))
            self._until("waiting", 6)
            assert [task.result() for task in asked] == [200] * 7
        return list(self.ended)

    def _until(self, what: str, requests: int) -> None:
        told = f"{requests} are {what}"
        until(
            told,
            lambda: self.status()["load"][what] >= requests,
            seconds=60,
            every=0.01,
            say=lambda: str(self.status()),
        )


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One request runs at a time, by priority."""
    settings = tmp_path_factory.mktemp("classes") / "settings.json"
    own = {
        "PYTHONPATH": str(ROOT / "engine_image"),
        "TRIMTAB_ENGINE_SERVED_MODEL_NAME": MODEL_NAME,
        "TRIMTAB_ENGINE_SETTINGS_FILE": str(settings),
        "TRIMTAB_ENGINE_LIMITS__MAX_RUNNING_REQUESTS": "1",
    }
    arguments = ("--enforce-eager", "--max-num-seqs", "8", "--scheduling-policy", "priority")
    log = ROOT / "build" / "vllm" / "request-classes.log"
    server = VllmServer(*arguments, log=log, env=own, start=trimtab_command)
    server.start()
    try:
        server.wait_until_ready()
        yield Served(server, settings)
    finally:
        server.stop()


def test_without_classes_the_last_one_waits_for_all(served: Served) -> None:
    served.settle(1, limits={})
    assert served.crowd("chat-late").index("chat-late") == 6


def test_a_class_that_goes_first_passes_those_that_wait_and_none_is_lost(served: Served) -> None:
    served.settle(2, classes={"chat": {"priority": -1}, "batch": {"priority": 5}})
    assert served.crowd("chat-late").index("chat-late") <= 2, "only what ran already ends before it"


def test_the_order_turns_while_the_server_runs(served: Served) -> None:
    served.settle(3, classes={"chat": {"priority": 9}})
    assert served.crowd("chat-late").index("chat-late") == 6
