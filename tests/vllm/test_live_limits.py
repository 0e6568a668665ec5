"""Limits that change while real vLLM serves under load: several times, without a restart, without a lost request."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.models.make_llama import cached
from tests.testkit.client import MODEL_NAME
from tests.vllm import venv
from tests.vllm.server import ROOT, VllmServer, environment, trimtab_command
from trimtab_engine import probe
from trimtab_engine.load.client import Target
from trimtab_engine.load.ledger import Ledger
from trimtab_engine.load.runner import Runner, Traffic
from trimtab_engine.load.workload import Lengths, Workload

pytestmark = [pytest.mark.vllm, pytest.mark.slow]

TOKEN = "a-token-of-some-length"
CLIENTS = 24
PATHS = {"PYTHONPATH": str(ROOT / "engine_image")}
STEPS = 60


class Served:
    """The server, its settings file, and what it says of itself."""

    def __init__(self, server: VllmServer, settings: Path) -> None:
        self.server = server
        self.settings = settings

    def status(self) -> Any:
        return json.loads(self.server.get("/v1/optimization/status"))

    def configure(self, limits: Mapping[str, object], token: str = TOKEN) -> tuple[int, Any]:
        return self.post("configure", {"limits": limits}, token)

    def post(self, name: str, document: Mapping[str, object], token: str = TOKEN) -> tuple[int, Any]:
        request = urllib.request.Request(
            f"{self.server.url}/v1/optimization/{name}",
            data=json.dumps(document).encode(),
            headers={"content-type": "application/json", "authorization": f"Bearer {token}"},
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read())

    def metric(self, name: str) -> float:
        """The sum of a metric's samples."""
        starts = (name + " ",) if name.endswith("}") else (name + " ", name + "{")
        lines = [line for line in self.server.get("/metrics").splitlines() if line.startswith(starts)]
        assert lines, name
        return sum(float(line.rpartition(" ")[2]) for line in lines)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A capacity of 32 requests, of which 2 may run at first."""
    folder = tmp_path_factory.mktemp("live")
    token, settings = folder / "token", folder / "settings.yaml"
    token.write_text(TOKEN)
    own = {
        **PATHS,
        "TRIMTAB_ENGINE_SERVED_MODEL_NAME": MODEL_NAME,
        "TRIMTAB_ENGINE_SETTINGS_FILE": str(settings),
        "TRIMTAB_ENGINE_ENGINES__PREFERENCE": "[vllm, pytorch]",
        "TRIMTAB_ENGINE_SERVER__TOKEN_FILE": str(token),
        "TRIMTAB_ENGINE_LIMITS__MAX_RUNNING_REQUESTS": "2",
    }
    arguments = ("--enforce-eager", "--max-num-seqs", "32", "--max-num-batched-tokens", "1024")
    log = ROOT / "build" / "vllm" / "live-limits.log"
    server = VllmServer(*arguments, log=log, env=own, start=trimtab_command)
    server.start()
    try:
        server.wait_until_ready()
        yield Served(server, settings)
    finally:
        server.stop()


@asynccontextmanager
async def load(served: Served) -> AsyncIterator[Ledger]:
    """Clients that each send a request as soon as the last one is answered; at the end none is left unanswered."""
    ledger = Ledger()
    target = Target(url=served.server.url + "/v1", model=MODEL_NAME, timeout=300)
    workload = Workload(prompt_tokens=Lengths.parse("32"), output_tokens=Lengths.parse("32"))
    runner = Runner(target, workload, Traffic(concurrency=CLIENTS, max_seconds=900), ledger)
    running = asyncio.create_task(runner.run())
    try:
        yield ledger
    finally:
        runner.set_state("stopped")
        await running


def child_of(process: int) -> int:
    """The engine's process."""
    (child,) = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return int(child)


async def until(what: Callable[[], bool]) -> None:
    async with asyncio.timeout(300):
        while not await asyncio.to_thread(what):  # noqa: ASYNC110 - the server does not tell
            await asyncio.sleep(0.2)


async def settle(served: Served, limit: int) -> None:
    """Until the limit is in force and no more requests run than it allows."""

    def settled() -> bool:
        status = served.status()
        wanted = status["limits"]["max_running_requests"] == limit
        running = (status["load"]["running"], served.metric("vllm:num_requests_running"))  # told by two processes
        return bool(wanted and status["in_force"] and max(running) <= limit)

    await until(settled)


async def observe(served: Served) -> tuple[int, float]:
    """The most requests that ran at once, as /metrics shows them, and the tokens of a step, over some steps."""
    tokens, begun = served.metric("vllm:generation_tokens_total"), served.status()["load"]["steps"]
    most, steps = 0, begun
    while steps - begun < STEPS:
        most = max(most, int(await asyncio.to_thread(served.metric, "vllm:num_requests_running")))
        steps = (await asyncio.to_thread(served.status))["load"]["steps"]
    return most, (served.metric("vllm:generation_tokens_total") - tokens) / (steps - begun)


async def test_throughput_follows_the_limit_while_it_serves_and_no_request_fails(served: Served) -> None:
    process = served.server.process.pid
    async with load(served) as ledger:
        await settle(served, 2)
        _, two = await observe(served)

        served.settings.write_text("limits:\n  max_running_requests: 1\n")
        await settle(served, 1)
        most_one, one = await observe(served)

        status, _ = await asyncio.to_thread(served.configure, {"max_running_requests": 16})
        assert status == 200
        await settle(served, 16)
        await until(lambda: served.status()["load"]["running"] == 16)
        most_sixteen, sixteen = await observe(served)

        served.settings.write_text('{"limits": {"max_running_requests": 4, "max_tok')
        await until(lambda: served.status()["settings_file"]["problem"] is not None)
        assert served.status()["limits"]["max_running_requests"] == 16
        health = json.loads(served.server.get("/health"))
        assert (health["status"], list(health["reasons"])) == ("degraded", ["settings_refused"])

        served.settings.write_text('{"limits": {"max_running_requests": 4, "max_tokens_per_step": 64}}')
        await settle(served, 4)
        most_four, four = await observe(served)
        assert served.metric("trimtab_engine_limits_revision_in_force") == served.status()["revision"] == 4

    assert (most_one, most_sixteen, most_four) == (1, 16, 4)
    assert 0.5 < one < 1.5
    assert one < two < four < sixteen
    assert sixteen > 5 * one
    assert ledger.total.failed == 0
    assert ledger.total.sent == ledger.total.succeeded > CLIENTS
    assert served.server.process.pid == process
    assert served.server.process.poll() is None


def test_what_cannot_be_is_refused_and_changes_nothing(served: Served) -> None:
    revision = served.status()["revision"]
    for limits, field in (
        ({"max_running_requests": 33}, "limits.max_running_requests"),
        ({"max_running_requests": 8, "max_tokens_per_step": 7}, "limits.max_tokens_per_step"),
        ({"max_queue": 7}, "limits.max_queue"),
    ):
        status, answer = served.configure(limits)
        assert (status, answer["error"]["param"]) == (400, field)
    assert served.configure({"max_running_requests": 8}, token="wrong")[0] == 401
    assert served.status()["revision"] == revision


async def test_a_full_queue_is_refused_with_429_and_what_was_accepted_is_answered(served: Served) -> None:
    served.configure({"max_running_requests": 2, "max_queued_requests": 3})
    body = {"prompt": "x", "max_tokens": 64, "ignore_eos": True}

    def ask() -> tuple[int, str]:
        try:
            return 200, served.server.post_raw("/v1/completions", body)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, str(error.headers["retry-after"])

    answers = await asyncio.gather(*(asyncio.to_thread(ask) for _ in range(12)))
    accepted = [text for status, text in answers if status == 200]
    refused = [text for status, text in answers if status == 429]
    assert len(accepted) >= 5
    assert len(refused) == 12 - len(accepted) > 0
    assert all(json.loads(text)["usage"]["completion_tokens"] == 64 for text in accepted)
    assert all(1 <= int(text) <= 60 for text in refused)
    assert served.metric("trimtab_engine_requests_refused_total") == len(refused)
    served.configure({"max_queued_requests": None})


def test_the_probe_and_vllms_own_endpoints_work_behind_the_gate(served: Served) -> None:
    assert probe.main(["--port", str(served.server.port), "--timeout", "60"]) == 0
    chat = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4}
    assert served.server.post("/v1/chat/completions", chat)["choices"][0]["finish_reason"] == "length"
    assert '"data"' in served.server.get("/v1/models")


async def test_the_kernel_that_vllm_chose_is_told(served: Served) -> None:
    def attention() -> Any:
        return json.loads(served.server.get("/health"))["attention"]

    await until(lambda: attention() is not None)
    assert attention() == {"kernel": "CPU_ATTN", "device": "cpu", "why": ""}
    assert served.metric("trimtab_engine_attention_info") == 1
    assert "Attention is computed by CPU_ATTN on cpu." in served.server.log.read_text(errors="replace")


def test_vllms_prefix_cache_is_seen_and_can_be_reset(served: Served) -> None:
    text = "".join(random.Random(5).choices("abcdefgh ", k=300))
    body = {"prompt": text, "max_tokens": 2, "ignore_eos": True}

    def hits() -> float:
        before = served.metric("vllm:prefix_cache_hits_total")
        served.server.post("/v1/completions", body)
        return served.metric("vllm:prefix_cache_hits_total") - before

    assert [hits() > 0 for _ in range(2)] == [False, True]
    assert served.post("reset_prefix_cache", {}) == (200, {"reset": True})
    assert hits() == 0


def test_both_of_vllms_schedulers_take_the_limits_in_the_next_step(tmp_path: Path) -> None:
    """Without a model: the asynchronous one runs models on GPUs only, and schedules the same way here."""
    program = Path(__file__).with_name("scheduler_steps.py")
    command = [str(venv.python()), str(program), str(cached("m75"))]
    own = environment({**PATHS, "TRIMTAB_ENGINE_RUN": str(tmp_path)})
    done = subprocess.run(command, env=own, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    plain, asynchronous = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"asynchronous"')]
    assert (plain["asynchronous"], asynchronous["asynchronous"]) == (False, True)
    for found in (plain, asynchronous):
        assert [(step["running"], step["new"]) for step in found["steps"]] == [(3, 3), (8, 5), (3, 3)]
        assert [step["revision"] for step in found["steps"]] == [1, 2, 3]
        assert (found["steps"][0]["tokens"], found["steps"][2]["tokens"]) == (120, 100)


async def test_when_vllm_dies_the_next_engine_answers_and_health_says_why(served: Served) -> None:
    server = served.server
    os.kill(child_of(server.process.pid), signal.SIGKILL)

    def answers() -> bool:
        try:
            return bool(json.loads(server.get("/health"))["engine"] == "pytorch")
        except OSError:
            return False

    await until(answers)
    health = json.loads(server.get("/health"))
    assert health["status"] == "degraded"
    assert health["reasons"]["fallback_engine"] == "vllm ended by signal 9 while it served."
    await until(lambda: served.metric('trimtab_engine_degraded{reason="fallback_engine"}') == 1)
    answer = server.post("/v1/completions", {"prompt": "Once", "max_tokens": 4, "ignore_eos": True})
    assert answer["usage"]["completion_tokens"] == 4
    await settle(served, 4)


def test_sigterm_ends_the_server(served: Served) -> None:
    """The last test: the server has gone afterwards."""
    served.server.process.terminate()
    assert served.server.process.wait(60) == 0
