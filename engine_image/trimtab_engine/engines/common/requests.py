"""Requests of OpenAI's API, as far as this engine answers them. What it cannot do it refuses, with the field. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

DEFAULT_COMPLETION_TOKENS = 16  # of /v1/completions; a chat goes on to the end of the context

# Fields that change the answer and that this engine does not know, with the values that change nothing.
UNSUPPORTED: Mapping[str, tuple[Any, ...]] = {
    "n": (1,),
    "best_of": (1,),
    "echo": (False,),
    "suffix": ("",),
    "logprobs": (False, 0),
    "prompt_logprobs": (0,),
    "top_logprobs": (0,),
    "logit_bias": ({},),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "repetition_penalty": (1,),
    "min_p": (0,),
    "min_tokens": (0,),
    "seed": (),
    "response_format": ({"type": "text"},),
    "structured_outputs": (),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "use_beam_search": (False,),
}


class _Request(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False, strict=True)

    model: str | None = None
    temperature: Annotated[float, Field(ge=0, le=100)] | None = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] | None = 1.0
    top_k: Annotated[int, Field(ge=-1, le=1_000_000)] | None = 0
    stop: str | list[str] | None = None
    stream: bool | None = False
    stream_options: dict[str, Any] | None = None
    ignore_eos: bool = False
    cache_salt: Annotated[str, Field(min_length=1, max_length=4096)] | None = None


class CompletionRequest(_Request):
    """/v1/completions: a text or the numbers of its tokens."""

    prompt: Annotated[str, Field(min_length=1)] | Annotated[list[int], Field(min_length=1)]
    max_tokens: Annotated[int, Field(ge=1)] | None = None


class ChatMessage(BaseModel):
    """One message; the template knows more roles than we need to."""

    model_config = ConfigDict(extra="allow", frozen=True)
    role: str
    content: str | list[dict[str, Any]] | None = None


class ChatRequest(_Request):
    """/v1/chat/completions: `max_tokens` is the old name of `max_completion_tokens`."""

    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What is asked of the engine, whichever endpoint it came through. `most_tokens` None: to the context's end.

    `owner` is whose keys and values it shares (None: nobody's); `cache_salt`, a field of vLLM's, is part of that.
    """

    kind: Literal["completion", "chat"]
    prompt: str | list[int] | list[dict[str, Any]]
    model: str | None
    most_tokens: int | None
    temperature: float
    top_p: float
    top_k: int
    stop: tuple[str, ...]
    stream: bool
    include_usage: bool
    ignore_eos: bool
    cache_salt: str | None = None
    owner: bytes | None = None


@dataclass(frozen=True, kw_only=True)
class BadRequest:
    """Answered with 400: what is wrong with which field."""

    field: str | None
    message: str


def read_completion(document: object) -> Wish | BadRequest:
    """A request of /v1/completions."""
    request = _read(CompletionRequest, document)
    if isinstance(request, BadRequest):
        return request
    most = request.max_tokens or DEFAULT_COMPLETION_TOKENS
    return _wish(request, kind="completion", prompt=request.prompt, most_tokens=most)


def read_chat(document: object) -> Wish | BadRequest:
    """A request of /v1/chat/completions."""
    request = _read(ChatRequest, document)
    if isinstance(request, BadRequest):
        return request
    messages: list[dict[str, Any]] = []
    for number, message in enumerate(request.messages):
        content = _text_of(message.content)
        if content is None:
            return BadRequest(field=f"messages.{number}.content", message="This engine takes texts only.")
        messages.append({**message.model_dump(exclude_none=True), "content": content})
    most = request.max_completion_tokens or request.max_tokens
    return _wish(request, kind="chat", prompt=messages, most_tokens=most)


Kind = TypeVar("Kind", bound=_Request)


def _read(kind: type[Kind], document: object) -> Kind | BadRequest:
    if not isinstance(document, dict):
        return BadRequest(field=None, message="The body must be a JSON object.")
    for name, harmless in UNSUPPORTED.items():
        value = document.get(name)
        if value is not None and value not in harmless:
            return BadRequest(field=name, message=f"This engine does not support {name}.")
    try:
        return kind.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"]) or None
        return BadRequest(field=field, message=f"{field}: {first['msg']}")


def _wish(
    request: _Request,
    *,
    kind: Literal["completion", "chat"],
    prompt: str | list[int] | list[dict[str, Any]],
    most_tokens: int | None,
) -> Wish:
    stop = [request.stop] if isinstance(request.stop, str) else request.stop or []
    return Wish(
        kind=kind,
        prompt=prompt,
        model=request.model,
        most_tokens=most_tokens,
        temperature=1.0 if request.temperature is None else request.temperature,
        top_p=1.0 if request.top_p is None else request.top_p,
        top_k=max(0, request.top_k or 0),
        stop=tuple(text for text in stop if text),
        stream=bool(request.stream),
        include_usage=bool((request.stream_options or {}).get("include_usage")),
        ignore_eos=request.ignore_eos,
        cache_salt=request.cache_salt,
    )


def _text_of(content: str | list[dict[str, Any]] | None) -> str | None:
    """The text of a message; None where it has parts of another kind."""
    if content is None or isinstance(content, str):
        return content or ""
    texts = [part.get("text") for part in content if part.get("type") == "text"]
    if len(texts) != len(content) or not all(isinstance(text, str) for text in texts):
        return None
    return "".join(str(text) for text in texts)
