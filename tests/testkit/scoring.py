"""A small server that answers probes as vLLM does, with the numbers that a test gives it.

It has no model: a text is cut at its spaces, and how probable each word is follows from the word alone, so that two
servers agree but for what the test makes different. A contract test holds its answers to those of real vLLM.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from tests.testkit.client import MODEL_NAME


@dataclass
class Manner:
    """How an engine answers. `worse`: nats by which every token is less probable; `other`: of ten places, those at
    which another token is the most probable; `status` of the answer to a text, and what is sent instead of an answer.
    """

    worse: float = 0.0
    other: int = 0
    status: Callable[[str], int] = field(default=lambda _: 200)
    raw: bytes | None = None
    before: Callable[[], None] = field(default=lambda: None)


class ScoringServer:
    """Serves `/v1/completions` on `host` and `port` while it is used with `with`; `asked` holds the texts."""

    def __init__(self, manner: Manner | None = None, *, host: str = "127.0.0.1", port: int = 0) -> None:
        self.manner = manner or Manner()
        self.asked: list[str] = []
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                owner.asked.append(body["prompt"])
                owner.manner.before()
                status = owner.manner.status(body["prompt"])
                if body["model"] != MODEL_NAME or self.path != "/v1/completions":
                    status = 404
                found = error(status) if status != 200 else answer(body, owner.manner)
                content = owner.manner.raw if owner.manner.raw is not None else json.dumps(found).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                """Nothing: a test has no use for it."""

        self._server = _Quiet((host, port), Handler)
        self._server.daemon_threads = True
        self.host, self.port = host, int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Quiet(ThreadingHTTPServer):
    """A client that has gone before its answer is a part of the tests."""

    def handle_error(self, request: object, client_address: object) -> None:
        """Nothing."""


def answer(body: dict[str, Any], manner: Manner) -> dict[str, Any]:
    """The answer of vLLM to a completion with `echo` and `logprobs`."""
    words = body["prompt"].split()
    continued = [f"{words[-1]}{number}" for number in range(int(body["max_tokens"]))]
    tokens = [f"token_id:{_number(word)}" for word in (*words, *continued)]
    logprobs: list[float | None] = [None]
    tops: list[dict[str, float] | None] = [None]
    for place, word in enumerate((*words, *continued)):
        if place == 0:
            continue
        value = -(_number(word) % 300) / 100 - manner.worse
        top = {tokens[place]: value}
        if manner.other > place % 10:
            top["token_id:999999"] = value + 0.01
        logprobs.append(value)
        tops.append(top)
    offsets = [0]
    for token in tokens[:-1]:
        offsets.append(offsets[-1] + len(token))
    return {
        "id": "cmpl-0123456789abcdef",
        "object": "text_completion",
        "created": 1_800_000_000,
        "model": body["model"],
        "choices": [
            {
                "index": 0,
                "text": body["prompt"] + " ".join(continued),
                "logprobs": {
                    "text_offset": offsets,
                    "token_logprobs": logprobs,
                    "tokens": tokens,
                    "top_logprobs": tops,
                },
                "finish_reason": "length",
                "stop_reason": None,
                "token_ids": None,
                "prompt_logprobs": None,
                "prompt_token_ids": None,
                "routed_experts": None,
            }
        ],
        "service_tier": None,
        "system_fingerprint": "vllm-0.32.0",
        "usage": {
            "prompt_tokens": len(words),
            "total_tokens": len(tokens),
            "completion_tokens": len(continued),
            "prompt_tokens_details": None,
            "completion_tokens_details": None,
        },
        "kv_transfer_params": None,
        "ec_transfer_params": None,
        "metrics": None,
    }


def error(status: int) -> dict[str, Any]:
    """The answer of vLLM to a request that it refuses."""
    return {"error": {"message": "refused", "type": "BadRequestError", "param": None, "code": status}}


def _number(word: str) -> int:
    return int.from_bytes(hashlib.sha256(word.encode()).digest()[:3], "big") % 50_000
