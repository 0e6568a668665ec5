"""The JSON of vLLM 0.32's OpenAI API: answers, stream chunks, errors and model cards. No I/O.

Sources: `vllm/entrypoints/openai/completion/protocol.py`, `.../chat_completion/protocol.py` and
`vllm/entrypoints/serve/engine/protocol.py`.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from .engine import Mailbox, output_text
from .scheduler import Request

DONE = b"data: [DONE]\n\n"
BUSY_ENGINE = (
    "The engine is currently busy and cannot accept new requests. Please try again later or on a different instance."
)
DEAD_ENGINE = "EngineCore encountered an issue. See stack trace (above) for the root cause."

_ERROR_TYPES = {
    400: "BadRequestError",
    404: "NotFoundError",
    500: "InternalServerError",
    503: "Service Unavailable",
}


def error_body(status: int, message: str, param: str | None = None) -> dict[str, Any]:
    """The error object of an answer or a stream."""
    kind = _ERROR_TYPES.get(status, HTTPStatus(status).phrase)
    return {"error": {"message": message, "type": kind, "param": param, "code": status}}


def event(data: dict[str, Any]) -> bytes:
    """One server-sent event."""
    return f"data: {json.dumps(data, separators=(',', ':'))}\n\n".encode()


@dataclass(kw_only=True)
class Call:
    """One API call with its sequences, `copies` of each prompt; renders everything that is sent back."""

    id: str
    chat: bool
    model: str
    created: int
    fingerprint: str
    stream: bool
    include_usage: bool
    continuous_usage: bool
    prompt_details: bool
    mailbox: Mailbox
    seeds: list[int]
    copies: int = 1
    requests: list[Request] = field(default_factory=list)

    def usage(self) -> dict[str, Any]:
        """Token counts so far."""
        prompts = self.requests[:: self.copies]
        prompt, made = sum(request.prompt_tokens for request in prompts), sum(self.mailbox.counts)
        usage: dict[str, Any] = {"prompt_tokens": prompt, "total_tokens": prompt + made, "completion_tokens": made}
        if self.prompt_details:
            usage["prompt_tokens_details"] = {"cached_tokens": sum(request.cached for request in prompts)}
        return usage

    def whole(self, finish: Sequence[str | None]) -> dict[str, Any]:
        """The answer of a call that does not stream."""
        return {
            "id": self.id,
            "object": "chat.completion" if self.chat else "text_completion",
            "created": self.created,
            "model": self.model,
            "choices": [self._choice(index, reason) for index, reason in enumerate(finish)],
            "service_tier": None,
            "system_fingerprint": self.fingerprint,
            "usage": {"prompt_tokens_details": None, "completion_tokens_details": None, **self.usage()},
            **({"prompt_logprobs": None, "prompt_token_ids": None, "prompt_text": None} if self.chat else {}),
            "kv_transfer_params": None,
            "ec_transfer_params": None,
            "metrics": None,
        }

    def _choice(self, index: int, finish: str | None) -> dict[str, Any]:
        text = output_text(self.seeds[index], 0, self.mailbox.counts[index])
        common = {
            "logprobs": None,
            "finish_reason": finish,
            "stop_reason": None,
            "token_ids": None,
            "routed_experts": None,
        }
        if not self.chat:
            return {"index": index, "text": text, **common, "prompt_logprobs": None, "prompt_token_ids": None}
        unused = dict.fromkeys(("refusal", "annotations", "audio", "function_call", "reasoning"))
        message = {"role": "assistant", "content": text, **unused}
        return {"index": index, "message": message, **common}

    def _head(self) -> str:
        kind = "chat.completion.chunk" if self.chat else "text_completion"
        model = json.dumps(self.model)
        return f'data: {{"id":"{self.id}","object":"{kind}","created":{self.created},"model":{model},"choices":'

    def opening(self) -> str:
        """The first events of a chat stream: the role, before any text."""
        if not self.chat:
            return ""
        return "".join(
            f'{self._head()}[{{"index":{index},"delta":{{"role":"assistant","content":""}},"logprobs":null,'
            f'"finish_reason":null}}],"prompt_token_ids":null,"prompt_text":null}}\n\n'
            for index in range(len(self.requests))
        )

    def chunk(self, index: int, tokens: int, finish: str | None) -> str:
        """One event with `tokens` new tokens of a sequence; the alphabet of the text needs no JSON escapes."""
        before = self.mailbox.counts[index]
        made = self.mailbox.counts[index] = before + tokens
        text = output_text(self.seeds[index], before, made)
        ended = f'"{finish}"' if finish else "null"
        if self.chat:
            stop = ',"stop_reason":null' if finish else ""
            choice = f'"delta":{{"content":"{text}"}},"logprobs":null,"finish_reason":{ended}{stop},"token_ids":null'
        else:
            choice = (
                f'"text":"{text}","logprobs":null,"finish_reason":{ended},"stop_reason":null,'
                f'"prompt_token_ids":null,"token_ids":null'
            )
        tail = ""
        if finish and not self.include_usage:
            tail = f',"system_fingerprint":"{self.fingerprint}"'
        if self.continuous_usage and self.include_usage:
            prompt = self.requests[index].prompt_tokens
            counts = f'"prompt_tokens":{prompt},"total_tokens":{prompt + made},"completion_tokens":{made}'
            tail += f',"usage":{{{counts}}}'
        return f'{self._head()}[{{"index":{index},{choice}}}]{tail}}}\n\n'

    def closing(self) -> bytes:
        """The last events of a stream: the usage, if asked for, and the end mark."""
        if not self.include_usage:
            return DONE
        return (
            event(
                {
                    "id": self.id,
                    "object": "chat.completion.chunk" if self.chat else "text_completion",
                    "created": self.created,
                    "model": self.model,
                    "choices": [],
                    "usage": self.usage(),
                    "system_fingerprint": self.fingerprint,
                }
            )
            + DONE
        )


def model_cards(names: Sequence[str], *, root: str, created: int, max_model_len: int) -> dict[str, Any]:
    """The body of `/v1/models`."""
    permission = {
        "id": f"modelperm-{uuid.uuid4().hex[:16]}",
        "object": "model_permission",
        "created": created,
        "allow_create_engine": False,
        "allow_sampling": True,
        "allow_logprobs": True,
        "allow_search_indices": False,
        "allow_view": True,
        "allow_fine_tuning": False,
        "organization": "*",
        "group": None,
        "is_blocking": False,
    }
    cards = [
        {
            "id": name,
            "object": "model",
            "created": created,
            "owned_by": "vllm",
            "root": root,
            "parent": None,
            "max_model_len": max_model_len,
            "permission": [permission],
        }
        for name in names
    ]
    return {"object": "list", "data": cards}
