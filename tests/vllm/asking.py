"""What the tests ask of a server of ours, whichever engine is behind it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from tests.testkit.client import MODEL_NAME
from tests.vllm.server import VllmServer
from trimtab_engine.load.client import Target
from trimtab_engine.load.ledger import Ledger
from trimtab_engine.load.runner import Runner, Traffic
from trimtab_engine.load.workload import Lengths, Workload

PROMPT = "Once upon a time there was a king who"
CLIENTS = 16


def complete(server: VllmServer, **body: object) -> Any:
    return server.post("/v1/completions", {"prompt": PROMPT, "max_tokens": 24, "ignore_eos": True, **body})


def text_of(answer: Any) -> str:
    return str(answer["choices"][0]["text"])


def streamed(server: VllmServer) -> list[str]:
    """The texts of the events of a stream without temperature, which ends as it should."""
    body = {"prompt": PROMPT, "max_tokens": 24, "ignore_eos": True, "temperature": 0, "stream": True}
    lines = [line.removeprefix("data: ") for line in server.post_raw("/v1/completions", body).split("\n\n") if line]
    assert lines.pop() == "[DONE]"
    return [str(json.loads(line)["choices"][0]["text"]) for line in lines]


async def most_at_once(server: VllmServer, *, requests: int) -> int:
    """The most requests that were seen to run at once while `CLIENTS` sent so many; all of them are answered."""
    ledger = Ledger()
    target = Target(url=server.url + "/v1", model=MODEL_NAME, timeout=300)
    workload = Workload(prompt_tokens=Lengths.parse("uniform:8-64"), output_tokens=Lengths.parse("uniform:4-16"))
    traffic = Traffic(concurrency=CLIENTS, max_seconds=300, max_requests=requests)
    running = asyncio.create_task(Runner(target, workload, traffic, ledger).run())
    most = 0
    while not running.done():
        status = json.loads(await asyncio.to_thread(server.get, "/v1/optimization/status"))
        most = max(most, status["load"]["running"])
        await asyncio.sleep(0.05)
    await running
    assert (ledger.total.failed, ledger.total.succeeded) == (0, requests)
    return most
