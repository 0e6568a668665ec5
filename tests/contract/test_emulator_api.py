"""The emulator's API against the recorded answers of the engine, and its faults."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.testkit.process import NotStartedError
from tests.testkit.running import EmulatorServer, emulator_here

pytestmark = pytest.mark.emulator

RECORDINGS = Path(__file__).resolve().parents[1] / "vllm" / "recordings"
CHAT = [{"role": "user", "content": "Say something."}]
STREAM = {"stream": True, "stream_options": {"include_usage": True}, "max_tokens": 8, "temperature": 0}


def recorded(name: str) -> Any:
    return json.loads((RECORDINGS / name).read_text())


def shape(value: Any) -> Any:
    """Keys and types, without the values; `null` is a type of its own."""
    if isinstance(value, dict):
        return {key: shape(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [shape(inner) for inner in value]
    return type(value).__name__


async def post(url: str, path: str, body: dict[str, Any]) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.post(url + path, json=body) as answer:
        return answer.status, await answer.text()


async def get(url: str, path: str) -> str:
    async with aiohttp.ClientSession() as session, session.get(url + path) as answer:
        assert answer.status == 200
        return await answer.text()


def counter(text: str, name: str, labels: str = "") -> float:
    found = re.search(rf"^{name}\{{[^}}]*{labels}[^}}]*\}} (\S+)$", text, flags=re.MULTILINE)
    assert found is not None, name
    return float(found.group(1))


async def until(url: str, *names: str, least: float = 0, most: float = 1e9) -> str:
    """The metrics page once a value, or the sum of several, lies within bounds."""
    for _ in range(3000):
        page = await get(url, "/metrics")
        if least <= sum(counter(page, name) for name in names) <= most:
            return page
        await asyncio.sleep(0.01)
    raise AssertionError(f"{' and '.join(names)} stayed outside of {least} to {most}")


@pytest.mark.parametrize(
    ("path", "body", "name"),
    [
        ("/v1/completions", {"prompt": "Once upon a time"}, "completion.json"),
        ("/v1/chat/completions", {"messages": CHAT}, "chat.json"),
    ],
)
async def test_an_answer_has_the_recorded_keys_and_token_counts(path: str, body: dict[str, Any], name: str) -> None:
    async with emulator_here() as url:
        status, text = await post(url, path, {**body, "max_tokens": 8, "temperature": 0})
    assert status == 200
    answer, real = json.loads(text), recorded(name)
    assert shape(answer) == shape(real)
    assert answer["usage"] == real["usage"]
    assert answer["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize(
    ("path", "body", "name"),
    [
        ("/v1/completions", {"prompt": "Once upon a time"}, "stream-completions.txt"),
        ("/v1/chat/completions", {"messages": CHAT}, "stream-chat.txt"),
    ],
)
async def test_a_stream_has_the_recorded_events(path: str, body: dict[str, Any], name: str) -> None:
    async with emulator_here() as url:
        status, text = await post(url, path, {**body, **STREAM})
    assert status == 200
    ours, real = (each.strip().split("\n\n") for each in (text, (RECORDINGS / name).read_text()))
    assert ours[-1] == real[-1] == "data: [DONE]"

    def events(lines: list[str]) -> list[Any]:
        return [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]

    assert [shape(event) for event in events(ours)] == [shape(event) for event in events(real)]
    assert events(ours)[-1]["usage"] == events(real)[-1]["usage"]


async def test_errors_have_the_recorded_status_and_words() -> None:
    async with emulator_here("--max-num-queued-reqs", "0") as url:
        status, text = await post(url, "/v1/completions", {"prompt": "x"})
        assert (status, json.loads(text)) == (503, recorded("rejected.json")["answer"])
        metrics = await get(url, "/metrics")
        assert counter(metrics, "vllm:admission_rejections_total", 'reason="max_num_queued_reqs"') == 1
    async with emulator_here() as url:
        for error in recorded("errors.json")["errors"]:
            body = dict(error["request"])
            if tokens := re.fullmatch(r"\((\d+) tokens\)", body["prompt"]):
                body["prompt"] = "x" * int(tokens.group(1))
            status, text = await post(url, error["path"], body)
            assert (status, json.loads(text)) == (error["status"], error["answer"])


async def test_the_other_pages_answer_as_recorded() -> None:
    async with emulator_here() as url:
        assert await get(url, "/health") == recorded("health.json")["body"]
        assert json.loads(await get(url, "/version")) == recorded("version.json")
        assert shape(json.loads(await get(url, "/v1/models"))) == shape(recorded("models.json"))
        assert await get(url, "/ping") == ""


async def test_greedy_answers_repeat_and_depend_on_the_prompt() -> None:
    async with emulator_here() as url:

        async def text(prompt: str) -> str:
            body = {"prompt": prompt, "max_tokens": 20, "temperature": 0}
            return str(json.loads((await post(url, "/v1/completions", body))[1])["choices"][0]["text"])

        assert await text("one") == await text("one") != await text("two")


async def test_everything_sent_is_counted_once_under_concurrent_load() -> None:
    async with emulator_here("--max-num-seqs", "4") as url:
        bodies = [
            {"prompt": f"{number} hello", "max_tokens": 3 + number % 5, "n": 1 + number % 2} for number in range(40)
        ]
        answers = await asyncio.gather(*(post(url, "/v1/completions", body) for body in bodies))
        usages = [json.loads(text)["usage"] for _, text in answers]
        metrics = await get(url, "/metrics")
    sequences = sum(1 + number % 2 for number in range(40))
    assert counter(metrics, "vllm:request_success_total", 'finished_reason="length"') == sequences
    assert counter(metrics, "vllm:generation_tokens_total") == sum(usage["completion_tokens"] for usage in usages)
    # Each of several sequences of one prompt is a prefill of its own, but the call's usage has the prompt once.
    prompts = sum((1 + number % 2) * usage["prompt_tokens"] for number, usage in enumerate(usages))
    assert counter(metrics, "vllm:prompt_tokens_total") == prompts
    assert counter(metrics, "vllm:request_params_n_count") == 40
    assert counter(metrics, "vllm:request_params_n_sum") == sequences
    assert counter(metrics, "http_requests_total", 'handler="/v1/completions"') == 40
    assert counter(metrics, "vllm:num_requests_running") == counter(metrics, "vllm:num_requests_waiting") == 0


async def test_a_client_that_goes_away_frees_its_place() -> None:
    async with emulator_here("--max-num-seqs", "1", speed=1.0) as url:
        async with aiohttp.ClientSession() as session:
            body = {"prompt": "x", "max_tokens": 2000, "stream": True}
            async with session.post(url + "/v1/completions", json=body) as answer:
                await answer.content.readany()
                assert counter(await get(url, "/metrics"), "vllm:num_requests_running") == 1
                answer.close()
        status, _ = await post(url, "/v1/completions", {"prompt": "y", "max_tokens": 1})
        metrics = await get(url, "/metrics")
    assert status == 200
    assert counter(metrics, "vllm:num_requests_running") == 0
    assert counter(metrics, "vllm:request_success_total", 'finished_reason="length"') == 1


async def test_a_waiting_client_that_goes_away_leaves_the_queue() -> None:
    async with emulator_here("--max-num-seqs", "1", speed=1.0) as url:
        first = asyncio.create_task(post(url, "/v1/completions", {"prompt": "x", "max_tokens": 2000}))
        second = asyncio.create_task(post(url, "/v1/completions", {"prompt": "y", "max_tokens": 2000}))
        await until(url, "vllm:num_requests_waiting", least=1)
        for task in (first, second):
            task.cancel()
        await asyncio.gather(first, second, return_exceptions=True)
        metrics = await until(url, "vllm:num_requests_running", most=0)
    assert counter(metrics, "vllm:num_requests_waiting") == 0


async def test_an_error_rate_of_one_answers_500_and_no_tokens() -> None:
    async with emulator_here(faults={"EMULATOR_ERROR_RATE": "1"}) as url:
        status, text = await post(url, "/v1/completions", {"prompt": "x"})
        metrics = await get(url, "/metrics")
    assert (status, json.loads(text)["error"]["type"]) == (500, "InternalServerError")
    assert counter(metrics, "http_requests_total", 'status="5xx"') == 1


async def test_a_cut_stream_ends_without_done() -> None:
    async with emulator_here(faults={"EMULATOR_CUT_RATE": "1"}) as url:
        with pytest.raises(aiohttp.ClientError):
            await post(url, "/v1/completions", {"prompt": "x", **STREAM})


async def test_a_hung_engine_answers_health_but_no_request() -> None:
    async with emulator_here(faults={"EMULATOR_HANG_AFTER_SECONDS": "0"}) as url:
        request = asyncio.create_task(post(url, "/v1/completions", {"prompt": "x", "max_tokens": 1}))
        await until(url, "vllm:num_requests_waiting", least=1)
        assert await get(url, "/health") == ""
        assert not request.done()
        request.cancel()
        await asyncio.gather(request, return_exceptions=True)


def test_a_crash_on_start_has_the_wanted_code_and_message(tmp_path: Path) -> None:
    server = EmulatorServer(log=tmp_path / "log", env={"EMULATOR_CRASH_ON_START": "137:out of memory"})
    with pytest.raises(NotStartedError) as failed, server:
        raise AssertionError("started")
    assert (failed.value.code, failed.value.said.strip()) == (137, "out of memory")


def test_a_death_after_a_while_has_the_wanted_code(tmp_path: Path) -> None:
    environment = {"EMULATOR_DIE_AFTER_SECONDS": "0.3", "EMULATOR_DIE_EXIT_CODE": "139"}
    assert _ended(tmp_path / "log", environment) == 139


def test_out_of_memory_really_takes_memory(tmp_path: Path) -> None:
    environment = {"EMULATOR_OOM_AFTER_SECONDS": "0.3", "EMULATOR_OOM_LIMIT_BYTES": str(64 << 20)}
    assert _ended(tmp_path / "log", environment) == 137


def _ended(log: Path, environment: dict[str, str]) -> int:
    """The exit code of an engine that ends by itself once it serves: too soon, perhaps, to have answered anybody."""
    server = EmulatorServer(log=log, env=environment)
    server.start()
    try:
        code = server.process.wait(60)
    finally:
        server.stop()
    assert "Application startup complete" in log.read_text()
    return code


async def test_sigterm_with_a_timeout_finishes_what_is_inside_and_refuses_the_rest(tmp_path: Path) -> None:
    with EmulatorServer("--shutdown-timeout", "60", "--max-num-seqs", "1", log=tmp_path / "log") as server:
        inside = [
            asyncio.create_task(post(server.url, "/v1/completions", {"prompt": "x", "max_tokens": 400}))
            for _ in range(2)
        ]
        await until(server.url, "vllm:num_requests_waiting", "vllm:num_requests_running", least=2)
        server.process.terminate()
        for _ in range(3000):
            late = await post(server.url, "/v1/completions", {"prompt": "z", "max_tokens": 1})
            if late[0] != 200:
                break
        assert json.loads(late[1])["error"]["message"] == "cannot schedule new futures after shutdown"
        assert await get(server.url, "/health") == ""
        answers = await asyncio.gather(*inside)
        code = await asyncio.to_thread(server.process.wait, 30)
    assert [json.loads(text)["usage"]["completion_tokens"] for _, text in answers] == [400, 400]
    assert code == 0


async def test_sigterm_without_a_timeout_closes_the_port_and_leaves_requests_without_an_answer(tmp_path: Path) -> None:
    with EmulatorServer("--max-num-seqs", "1", log=tmp_path / "log") as server:
        inside = asyncio.create_task(post(server.url, "/v1/completions", {"prompt": "x", "max_tokens": 2000}))
        await until(server.url, "vllm:num_requests_running", least=1)
        server.process.terminate()
        refused = False
        while not refused:
            try:
                await asyncio.wait_for(get(server.url, "/health"), 5)
            except aiohttp.ClientConnectorError:
                refused = True
            except (aiohttp.ClientError, TimeoutError):
                continue  # the port was closed between the connection and the answer
        assert not inside.done()
        assert server.process.poll() is None
        inside.cancel()
        await asyncio.gather(inside, return_exceptions=True)
        assert await asyncio.to_thread(server.process.wait, 30) == 0
