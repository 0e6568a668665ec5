"""Records what real vLLM says, for those that read it (observe), imitate it (the emulator) or configure it (catalogue).

    python -m tests.vllm.record            # everything, about ten minutes on two cores
    python -m tests.vllm.record refused    # one part: api, help, refused, shutdown, starts

The files go to tests/vllm/recordings/; its README says what each one holds. Nothing but loopback is used.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.models.make_llama import cache_root, cached
from tests.testkit.client import MODEL_NAME
from tests.testkit.process import NotStartedError
from tests.vllm import venv
from tests.vllm.server import ROOT, VllmServer

FOLDER = ROOT / "tests" / "vllm" / "recordings"
LOGS = ROOT / "build" / "vllm"
EAGER = ("--enforce-eager", "--max-num-seqs", "4")

# Each is refused by the engine itself; what comes last is where a user looks first.
REFUSED = {
    "max-num-seqs-zero": ["--max-num-seqs", "0"],
    "more-sequences-than-batched-tokens": ["--max-num-seqs", "64", "--max-num-batched-tokens", "32"],
    "more-active-sequences-than-sequences": ["--max-num-seqs", "8", "--max-num-active-seqs", "16"],
    "block-size-16": ["--block-size", "16"],
    "context-longer-than-the-model": ["--max-model-len", "9000"],
    "kv-cache-too-small": ["--kv-cache-memory-bytes", "1M"],
    "unknown-flag": ["--no-such-flag", "1"],
    "value-for-a-boolean-flag": ["--enable-prefix-caching", "True"],
    "unknown-kv-cache-dtype": ["--kv-cache-dtype", "int8"],
    "unknown-quantization": ["--quantization", "nonsense"],
    "fp8-on-this-cpu": ["--quantization", "fp8_per_tensor"],
}


def clean(text: str) -> str:
    """`text` without the folders of this machine and without terminal colours."""
    for path, name in (
        (str(cached()), "/models/m75"),
        (str(venv.ensure()), "/opt/engine"),
        (str(cache_root()), "/cache"),
        (sys.base_prefix, "/usr/local"),
        (str(Path.home()), "/home/user"),
    ):
        text = text.replace(path, name)
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def save(name: str, content: str | dict[str, Any]) -> None:
    text = content if isinstance(content, str) else json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / name).write_text(clean(text), encoding="utf-8")
    print(f"wrote {name}")


def prompt(number: int, tokens: int) -> str:
    """A prompt of that many tokens (one per byte) that differs from all others from its first token on."""
    return (f"{number:08d} " + "The quick brown fox jumps over the lazy dog. " * 50)[:tokens]


@contextmanager
def load(server: VllmServer, clients: int, *, tokens_in: int, tokens_out: int) -> Iterator[list[Any]]:
    """A closed loop of `clients` while the body runs; yields the list of answers, or of errors, so far."""
    over, answers, numbers = threading.Event(), [], iter(range(10**8))

    def client() -> None:
        while not over.is_set():
            body = {"prompt": prompt(next(numbers), tokens_in), "max_tokens": tokens_out, "ignore_eos": True}
            try:
                answers.append(server.post("/v1/completions", body))
            except (OSError, urllib.error.HTTPError) as error:
                answers.append(error)

    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield answers
    finally:
        over.set()
        for thread in threads:
            thread.join()


def error_answer(server: VllmServer, path: str, body: dict[str, Any]) -> dict[str, Any]:
    try:
        server.post(path, body)
    except urllib.error.HTTPError as error:
        return {"path": path, "request": body, "status": error.code, "answer": json.loads(error.read())}
    raise AssertionError(f"{path} accepted {body}")


def record_api() -> None:
    """Metrics and answers of a server with four sequences and room for three waiting ones."""
    buckets = json.dumps({"time_to_first_token": [0.02, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6]})
    with VllmServer(*EAGER, log=LOGS / "record-api.log") as server:
        save("metrics-idle.txt", server.get("/metrics"))
        save("health.json", {"status": 200, "body": server.get("/health")})
        save("models.json", json.loads(server.get("/v1/models")))
        save("version.json", json.loads(server.get("/version")))
        save_answers(server)
        with load(server, 12, tokens_in=200, tokens_out=100):
            time.sleep(12)
            save("metrics-under-load.txt", server.get("/metrics"))
        save("metrics-after-load.txt", server.get("/metrics"))
    limited = (*EAGER, "--max-num-queued-reqs", "6", "--custom-histogram-buckets", buckets)
    with VllmServer(*limited, log=LOGS / "record-rejections.log") as server:
        with load(server, 12, tokens_in=200, tokens_out=100) as answers:
            time.sleep(5)
            save("metrics-rejections-own-buckets.txt", server.get("/metrics"))
        refused = next(a for a in answers if isinstance(a, urllib.error.HTTPError))
        retry = refused.headers.get("retry-after")
        save("rejected.json", {"status": refused.code, "retry-after": retry, "answer": json.loads(refused.read())})


def save_answers(server: VllmServer) -> None:
    usage = {"stream": True, "stream_options": {"include_usage": True}, "max_tokens": 8, "temperature": 0}
    chat = [{"role": "user", "content": "Say something."}]
    save("stream-completions.txt", server.post_raw("/v1/completions", {"prompt": "Once upon a time", **usage}))
    save("stream-chat.txt", server.post_raw("/v1/chat/completions", {"messages": chat, **usage}))
    plain = {"max_tokens": 8, "temperature": 0}
    save("completion.json", server.post("/v1/completions", {"prompt": "Once upon a time", **plain}))
    save("chat.json", server.post("/v1/chat/completions", {"messages": chat, **plain}))
    errors = [
        error_answer(server, "/v1/completions", {"model": "unknown", "prompt": "x"}),
        error_answer(server, "/v1/completions", {"prompt": prompt(0, 2100), "max_tokens": 1}),
        error_answer(server, "/v1/completions", {"prompt": "x", "max_tokens": -1}),
    ]
    for error in errors:
        request = error["request"]
        if len(request["prompt"]) > 100:
            request["prompt"] = f"({len(request['prompt'])} tokens)"
    save("errors.json", {"errors": errors})


def record_help() -> None:
    """Every flag with its default."""
    command = [str(venv.python()), "-m", "vllm.entrypoints.cli.main", "serve", "--help=all"]
    environment = {**os.environ, "COLUMNS": "120", "VLLM_NO_USAGE_STATS": "1"}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    save("serve-help-all.txt", done.stdout)


def record_refused() -> None:
    """What each refused configuration ends with."""
    found: dict[str, Any] = {}
    for name, arguments in REFUSED.items():
        server = VllmServer("--enforce-eager", *arguments, log=LOGS / f"refused-{name}.log")
        server.start()
        began = time.monotonic()
        try:
            server.wait_until_ready()
            raise AssertionError(f"vLLM started with {arguments}")
        except NotStartedError:
            seconds = time.monotonic() - began
        code = server.stop()
        found[name] = {
            "arguments": arguments,
            "exit_code": code,
            "seconds": round(seconds, 1),
            "termination_message": termination_message(server.log.read_text(errors="replace")),
        }
        print(f"{name}: exit {code} after {seconds:.1f} s")
    save("refused.json", found)


def termination_message(log: str) -> str:
    """What Kubernetes shows of a container that failed, with terminationMessagePolicy FallbackToLogsOnError."""
    return "\n".join(clean(log).splitlines()[-80:])[-2048:]


def record_shutdown() -> None:
    """What happens to requests in flight on SIGTERM, with and without --shutdown-timeout."""
    found: dict[str, Any] = {}
    for name, arguments in {"default": (), "shutdown-timeout-60": ("--shutdown-timeout", "60")}.items():
        with VllmServer(*EAGER, *arguments, log=LOGS / f"shutdown-{name}.log") as server:
            found[name] = {"arguments": [*EAGER, *arguments], **watch_shutdown(server)}
    save("shutdown.json", found)


def read_stream(server: VllmServer, number: int, began: float, *, silent: float | None = 15.0) -> dict[str, Any]:
    """One streamed request, read until it ends, fails or stays silent for so many seconds."""
    body = {"model": MODEL_NAME, "prompt": prompt(number, 50), "max_tokens": 400, "ignore_eos": True, "stream": True}
    outcome: dict[str, Any] = {"request": number, "chunks": 0, "last_event": ""}
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=silent)
    try:
        connection.request("POST", "/v1/completions", json.dumps(body), {"content-type": "application/json"})
        for line in connection.getresponse():
            event = line.decode().strip()
            outcome["chunks"] += event.startswith("data: {")
            outcome["last_event"] = event or outcome["last_event"]
    except (OSError, http.client.HTTPException) as error:
        outcome["error"] = f"{type(error).__name__}: {error}"
    finally:
        connection.close()
    return {**outcome, "ended_at_s": round(time.monotonic() - began, 1)}


def watch_shutdown(server: VllmServer) -> dict[str, Any]:
    """Eight streams on four sequences, SIGTERM while the first four run, and polls until the process has ended."""
    began = time.monotonic()
    polls: list[dict[str, Any]] = []
    with ThreadPoolExecutor(8) as pool:
        streams = [pool.submit(read_stream, server, number, began) for number in range(8)]
        time.sleep(2.0)
        server.process.terminate()
        signalled = time.monotonic() - began
        while server.process.poll() is None:
            answers = poll(server)
            if not polls or any(polls[-1][key] != answers[key] for key in answers):
                polls.append({"from_s": round(time.monotonic() - began, 1), **answers})
            time.sleep(0.2)
        ended = time.monotonic() - began
    return {
        "sigterm_at_s": round(signalled, 1),
        "exit_at_s": round(ended, 1),
        "exit_code": server.process.returncode,
        "requests": [stream.result() for stream in streams],
        "answers_after_sigterm": polls,
        "log": [line for line in server.log.read_text().splitlines() if "[shutdown]" in line],
    }


def poll(server: VllmServer) -> dict[str, Any]:
    """How /health, /metrics and a new completion answer while the server shuts down."""

    def status(call: Callable[[], object]) -> str:
        try:
            call()
        except urllib.error.HTTPError as error:
            return f"{error.code} {error.read().decode()[:200]}"
        except OSError as error:
            return f"{type(error).__name__}: {error}"
        return "200"

    return {
        "health": status(lambda: server.get("/health", seconds=3)),
        "metrics": status(lambda: server.get("/metrics", seconds=3)),
        "new_completion": status(lambda: server.post("/v1/completions", {"prompt": "x", "max_tokens": 1}, seconds=3)),
    }


def record_starts() -> None:
    """Seconds until /health answers, eager and compiled, with an empty and with a filled compile cache."""
    found: dict[str, Any] = {"cores": os.cpu_count(), "seconds": {}}
    with tempfile.TemporaryDirectory() as empty:
        caches = {"VLLM_CACHE_ROOT": f"{empty}/vllm", "TORCHINDUCTOR_CACHE_DIR": f"{empty}/inductor"}
        cases = {"eager": ["--enforce-eager"], "compiled-cold": [], "compiled-warm": []}
        for name, arguments in cases.items():
            log = LOGS / f"start-{name}.log"
            with VllmServer(*arguments, "--max-num-seqs", "16", log=log, env=caches) as server:
                found["seconds"][name] = round(server.start_seconds, 1)
                server.post("/v1/completions", {"prompt": "x", "max_tokens": 1})
        found["load_average"] = [round(value, 1) for value in os.getloadavg()]
    save("starts.json", found)


PARTS: dict[str, Callable[[], None]] = {
    "api": record_api,
    "help": record_help,
    "refused": record_refused,
    "shutdown": record_shutdown,
    "starts": record_starts,
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Record what real vLLM says.")
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="default: all")
    for part in parser.parse_args().parts or PARTS:
        PARTS[part]()
    print(f"recorded {MODEL_NAME} into {FOLDER}")


if __name__ == "__main__":
    main()
