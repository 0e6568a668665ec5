"""Sends probes to one pod, directly and one after the other, and reads how probable it finds them.

A probe is a request to `/v1/completions` with `echo` and `logprobs`: the answer holds the log-probabilities of the text
and of a short greedy continuation. vLLM computes those of the text for `echo` as for `prompt_logprobs`, and tells the
two apart by `usage.prompt_tokens` (vllm/entrypoints/openai/completion, version 0.32: `to_sampling_params`,
`_create_completion_logprobs`). Tokens are asked for by their numbers, because two of them can read alike.
"""

from __future__ import annotations

import asyncio
import ipaddress
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, Self

import requests

from trimtab.model.quality import Answers, Failed, Fault, Outcome, Probe, Scored, Unasked
from trimtab.observe.http import BoundedSession, Limits, NotAnAnswer

CONTINUATION: Final = 32  # tokens
LIMITS: Final = Limits(connect_timeout=3.0, read_timeout=30.0, deadline=30.0, in_flight=4, max_bytes=4 * 1024 * 1024)
_SECONDS = 300.0  # for all probes of a pod
_REFUSED = frozenset({400, 413, 422})
_BROKEN = frozenset({500, 501})
_STOPPING: Final = Unasked("The operator is stopping.")


@dataclass(frozen=True, slots=True)
class Engine:
    """Where a pod of a deployment serves its API: the address from the pod's own status, and the deployment's port."""

    pod: str
    address: str
    port: int
    model: str

    def url(self) -> str:
        """Raises ValueError for what is no address that a pod can have: a name, a multicast or a link-local address."""
        address = ipaddress.ip_address(self.address)
        if address.is_link_local or address.is_multicast or address.is_unspecified:
            raise ValueError(f"{self.address} is not the address of a pod")
        host = f"[{address}]" if address.version == 6 else str(address)
        return f"http://{host}:{self.port}/v1/completions"


class Prober:
    """`ask` sends every probe to a pod. Requests run in a few threads, shared by all deployments; nothing raises.

    `seconds` bounds all probes of a pod together, by a monotonic `clock`.
    """

    def __init__(
        self, limits: Limits = LIMITS, *, seconds: float = _SECONDS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._limits = limits
        self._seconds = seconds
        self._clock = clock
        self._pool = ThreadPoolExecutor(limits.in_flight, thread_name_prefix="probing")
        self._closed = threading.Event()

    async def ask(self, engine: Engine, probes: Sequence[Probe]) -> Answers:
        """What the pod says to each probe, in their order, or why it could not be asked.

        A caller that is cancelled leaves at most the request behind that is under way.
        """
        left = threading.Event()
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, self._ask_all, engine, probes, left)
        except RuntimeError:
            return _STOPPING
        finally:
            left.set()

    def _ask_all(self, engine: Engine, probes: Sequence[Probe], left: threading.Event) -> Answers:
        try:
            url = engine.url()
        except ValueError as error:
            return Unasked(f"Pod {engine.pod} has no usable address: {error}.")
        end = self._clock() + self._seconds
        outcomes: list[Outcome] = []
        with BoundedSession(self._limits) as session:
            for probe in probes:
                if left.is_set() or self._closed.is_set():
                    return _STOPPING
                if self._clock() > end:
                    return Unasked(f"Pod {engine.pod} did not answer all probes within {self._seconds:.0f} s.")
                outcome = self._ask(session, url, engine, probe)
                if isinstance(outcome, Failed) and outcome.fault is Fault.BROKEN:
                    outcome = self._ask(session, url, engine, probe)
                if isinstance(outcome, Unasked):
                    return outcome
                outcomes.append(outcome)
        return tuple(outcomes)

    def _ask(self, session: BoundedSession, url: str, engine: Engine, probe: Probe) -> Outcome | Unasked:
        try:
            return scored(session.request("POST", url, json=body(engine.model, probe)).json())
        except NotAnAnswer as error:
            if error.status in _REFUSED:
                return Failed(Fault.REFUSED, f"{engine.pod} refuses the text (HTTP status {error.status}).")
            if error.status in _BROKEN:
                return Failed(Fault.BROKEN, f"{engine.pod} fails (HTTP status {error.status}).")
            return Unasked(f"Pod {engine.pod} cannot be asked: {error}.{_hint(error.status)}")
        except requests.exceptions.JSONDecodeError:
            return Failed(Fault.BROKEN, f"The answer of {engine.pod} is not JSON.")
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            said = str(error) if isinstance(error, ValueError) else "its answer holds no log-probabilities of the text"
            return Failed(Fault.BROKEN, f"The answer of {engine.pod} cannot be read: {said}.")
        except requests.exceptions.Timeout:
            return Unasked(f"Pod {engine.pod} did not answer within {self._limits.deadline:g} s.")
        except requests.exceptions.RequestException as error:
            return Unasked(f"Pod {engine.pod} cannot be reached ({type(error).__name__}).")

    async def close(self) -> None:
        """Lets requests that run end, at most for their time-outs, and begins no other."""
        self._closed.set()
        await asyncio.to_thread(self._pool.shutdown, wait=True, cancel_futures=True)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def body(model: str, probe: Probe) -> dict[str, object]:
    """The request for one probe."""
    return {
        "model": model,
        "prompt": probe.text,
        "max_tokens": CONTINUATION,
        "temperature": 0,
        "echo": True,
        "logprobs": 1,
        "return_tokens_as_token_ids": True,
    }


def scored(answer: Mapping[str, Any]) -> Scored:
    """The answer of one probe. Raises KeyError, TypeError or ValueError for what is none."""
    found = answer["choices"][0]["logprobs"]
    tokens = tuple(str(token) for token in found["tokens"])
    logprobs = tuple(None if value is None else float(value) for value in found["token_logprobs"])
    greedy = tuple(max(top, key=lambda token: top[token]) if top else None for top in found["top_logprobs"])
    length = int(answer["usage"]["prompt_tokens"])
    if not len(tokens) == len(logprobs) == len(greedy):
        raise ValueError("its lists of tokens and of log-probabilities differ in length")
    if any(value is not None and not math.isfinite(value) for value in logprobs):
        raise ValueError("a log-probability is not a finite number")
    if not 1 < length <= len(tokens) or any(value is None for value in logprobs[1:]):
        raise ValueError("the text has no log-probabilities")
    return Scored(tokens=tokens, logprobs=logprobs, greedy=greedy, text_tokens=length)


def _hint(status: int | None) -> str:
    if status in (401, 403):
        return " The engine asks for a key, and Trimtab has none."
    if status == 404:
        return " Does it serve spec.model.name, and its API on spec.engine.port?"
    return ""
