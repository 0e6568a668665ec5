"""The emulated engine behind the layer of the serving image: its limits change while it serves.

All that decides is the image's own code: `trimtab-engine serve` starts the emulator as it starts vLLM, with the name of
our scheduler; settings are read, validated, stored and counted by its `Control`, and requests admitted by its `admit`.
What stands in is the scheduler that takes the limits before each step, and the way from HTTP to the admission: the
image's middleware is ASGI, which this server is not.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from aiohttp import web
from prometheus_client import CollectorRegistry

from trimtab_engine.admission.decide import Load, admit
from trimtab_engine.asgi.answers import error_body
from trimtab_engine.config.model import Config
from trimtab_engine.engines.chain import Chain
from trimtab_engine.limits.limits import Capacity, Limits, within
from trimtab_engine.server.control import Control
from trimtab_engine.server.gpu_view import GpuView
from trimtab_engine.server.health import Facts, degradations
from trimtab_engine.server.metrics import Metrics
from trimtab_engine.shared.board import Board, Notice
from trimtab_engine.shared.folder import START, read_json, run_folder
from trimtab_engine.shared.wanted import WantedFile

from .engine import Engine

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
COMPUTING = frozenset({"/v1/completions", "/v1/chat/completions"})
CLASS_HEADER = "x-request-class"


class LiveLayer:
    """One engine's limits, from the settings file to its next step."""

    def __init__(self, engine: Engine, registry: CollectorRegistry, folder: Path | None = None) -> None:
        folder, metrics = folder or run_folder(), Metrics(registry)
        metrics.chain(Chain(engine="vllm"))
        config, limits = engine.config, engine.config.limits
        self._ours = Config.model_validate(read_json(folder / START))
        capacity = Capacity(
            running_requests=config.max_num_seqs,
            tokens_per_step=limits.max_batched_tokens,
            longest_context=limits.max_model_len,
            priorities=limits.priority,
        )
        resting = Limits(
            max_running_requests=limits.max_num_seqs,
            max_tokens_per_step=limits.max_batched_tokens,
            long_prompt_tokens_per_step=limits.long_prefill_token_threshold,
            kv_headroom_percent=min(90, round(100 * limits.watermark)),
        )
        self._engine = engine
        self._metrics = metrics
        self._capacity = capacity
        self._wanted = WantedFile(folder)
        self._board = Board(folder)
        self._revision = self._steps = 0
        self._refused_at: float | None = None
        self._gpus = GpuView(folder, metrics.gpus)
        self._gpus.look()
        self.control = Control(config=self._ours, folder=folder, capacity=capacity, resting=resting, metrics=metrics)
        engine.before_step, engine.after_step = self.before_step, self.after_step

    async def keep_ticking(self) -> None:
        """Looks at the settings for ever; cancel it to end it."""
        while True:
            await asyncio.to_thread(self.control.tick)
            await asyncio.to_thread(self._gpus.look)
            self._metrics.degraded(degradations(self._facts()))
            await asyncio.sleep(self._ours.settings_interval_seconds)

    def before_step(self) -> None:
        """What the image's scheduler class does before vLLM's `schedule()`."""
        wanted = self._wanted.read_if_changed()
        if wanted is None or wanted.revision == self._revision:
            return
        limits, scheduler = within(wanted.limits, self._capacity), self._engine.scheduler
        scheduler.limits = dataclasses.replace(
            scheduler.limits,
            max_num_seqs=limits.max_running_requests,
            max_batched_tokens=limits.max_tokens_per_step,
            long_prefill_token_threshold=limits.long_prompt_tokens_per_step,
            watermark=limits.kv_headroom_percent / 100,
        )
        self._revision = wanted.revision

    def after_step(self) -> None:
        """What it does after it."""
        scheduler = self._engine.scheduler
        self._steps += 1
        self._board.post(
            Notice(
                revision=self._revision,
                steps=self._steps,
                running=len(scheduler.running),
                waiting=scheduler.waiting,
                at=time.monotonic(),
            )
        )

    @web.middleware
    async def gate(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuses what may not come in, and says how the server is."""
        if request.path == "/health":
            return web.json_response(self._health())
        if request.path == "/v1/optimization/status":
            return web.json_response({**self.control.status(), "gpus": self._gpus.shown()})
        if request.path in COMPUTING:
            wanted = self.control.wanted
            rule = wanted.classes.rule(request.headers.get(CLASS_HEADER))
            refusal = admit(self._load(), wanted.limits, rule)
            if refusal is not None:
                self._refused_at = time.monotonic()
                self._metrics.refused(refusal.why)
                body = error_body(429, refusal.message, kind=refusal.why.value)
                return web.json_response(body, status=429, headers={"retry-after": str(refusal.retry_after_seconds)})
        return await handler(request)

    def _load(self) -> Load:
        notice = self.control.notice
        return Load(inside=self._engine.in_flight, running=notice.running, waiting=notice.waiting)

    def _facts(self) -> Facts:
        now = time.monotonic()
        return Facts(
            settings_problem=self.control.settings_problem,
            seconds_since_refusal=None if self._refused_at is None else now - self._refused_at,
            seconds_since_step=None,
            inside=self._engine.in_flight,
            gpu_problem=self._gpus.problem,
            fewer_gpus=self._gpus.fewer,
        )

    def _health(self) -> dict[str, object]:
        reasons = degradations(self._facts())
        state = "degraded" if reasons else "ok"
        told = {reason.value: text for reason, text in reasons.items()}
        return {"status": state, "engine": "vllm", "gpus": self._gpus.health(), "reasons": told}
