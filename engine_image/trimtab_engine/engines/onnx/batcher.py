"""Continuous batching over a model that computes rows: requests join and leave the batch between two steps.

onnxruntime-genai's own engine batches statically on the CPU (0.18): a request that comes later waits until all of the
batch have ended. Its models compute rows of different lengths in one step, though, and so this batcher keeps the rows
of those that decode side by side, and computes the prompt of one further request piece by piece between their steps.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from trimtab_engine.engines.common.protocol import Output
from trimtab_engine.engines.onnx.kept import Kept
from trimtab_engine.engines.onnx.reuse import Copied, Reuse, Reused
from trimtab_engine.engines.onnx.sampling import Logits, Sampling, pick
from trimtab_engine.speculation.acceptance import Guessed
from trimtab_engine.speculation.guess import Guesser

log = logging.getLogger("trimtab_engine.onnx")


class Rows(Copied, Protocol):
    """A model with a KV cache of so many rows. Logits are one line per token, one number per word of the vocabulary."""

    def extend(self, row: int, tokens: list[int], past: int) -> Logits:
        """Computes tokens of one row after `past` others; the logits of each."""
        ...

    def step(self, tokens: list[int], past: list[int]) -> Logits:
        """Computes one token of each of the first rows; the logits of each."""
        ...

    def move(self, source: int, target: int, length: int) -> None:
        """Copies what the cache holds of a row."""
        ...


@dataclass(kw_only=True)
class Job:
    """A request. `deliver` is called in the batcher's thread. `scope`: whose keys and values it shares; None: none."""

    name: str
    tokens: list[int]
    most: int
    sampling: Sampling
    end_tokens: frozenset[int]
    deliver: Callable[[Output], None]
    scope: int | None = None
    answer: list[int] = field(default_factory=list)
    held: int = 0  # tokens in the cache
    reused: int = 0  # of them, those of an earlier text

    @property
    def finished(self) -> bool:
        return len(self.answer) >= self.most or bool(self.answer and self.answer[-1] in self.end_tokens)

    def said(self, token: int) -> None:
        self.answer.append(token)
        self.deliver(Output(tokens=list(self.answer), finished=self.finished, reused=self.reused))


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """The limits in force: tokens of one step, and of a prompt in a step while others decode (0: no bound)."""

    tokens_per_step: int
    prompt_tokens_per_step: int = 0


class Batcher:
    """`rows` is how many requests run at once, at most. `start` runs it in a thread of its own. `guesser` guesses up to
    `draft_tokens` at a time while `guessing`."""

    def __init__(
        self,
        model: Rows,
        *,
        rows: int,
        bounds: Bounds,
        draft_tokens: int = 0,
        guesser: Guesser | None = None,
        kept: Kept[Any] | None = None,
        seed: int | None = None,
    ) -> None:
        self.bounds = bounds
        self.guessed = Guessed()
        self.guessing = True
        self.fault = ""  # why it guesses no more
        self._model = model
        self._rows = rows
        self._draft_tokens = draft_tokens
        self._guesser = guesser
        self._reuse = Reuse(model, kept)
        self._source = np.random.default_rng(seed)
        self._news = threading.Condition()
        self._waiting: deque[Job] = deque()
        self._cancelled: set[str] = set()
        self._forgotten: set[int] = set()
        self._stopping = False
        self._decoding: list[Job] = []  # the job at place i has row i
        self._reading: Job | None = None  # its prompt is being computed, in row `_reading_row`
        self._reading_row = 0
        self._thread = threading.Thread(target=self._run, name="batcher", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, seconds: float = 10) -> None:
        with self._news:
            self._stopping = True
            self._news.notify()
        self._thread.join(seconds)

    def alive(self) -> bool:
        return self._thread.is_alive()

    def submit(self, job: Job) -> None:
        """Takes up a request; more than there are rows wait in order."""
        with self._news:
            self._waiting.append(job)
            self._news.notify()

    def cancel(self, name: str) -> None:
        with self._news:
            self._cancelled.add(name)
            self._news.notify()

    def forget(self, scope: int) -> None:
        """Gives up what is kept of a scope, between two steps."""
        with self._news:
            self._forgotten.add(scope)
            self._news.notify()

    @property
    def reused(self) -> Reused:
        return self._reuse.counted

    def _run(self) -> None:
        try:
            while self.take_news():
                self.turn()
        except Exception:
            log.exception("The batch failed")
        for job in (*self._decoding, *filter(None, [self._reading]), *self._waiting):
            job.deliver(Output(tokens=job.answer, finished=True, error="the batcher ended"))

    def take_news(self, *, wait: bool = True) -> bool:
        """Drops what is cancelled and what is to be forgotten. Waits while there is nothing to do. False: the end."""
        with self._news:
            if wait:
                self._news.wait_for(self._is_news)
            if self._stopping:
                return False
            cancelled, self._cancelled = self._cancelled, set()
            forgotten, self._forgotten = self._forgotten, set()
            self._waiting = deque(job for job in self._waiting if job.name not in cancelled)
        if self._reading is not None and self._reading.name in cancelled:
            self._keep(self._reading, self._reading_row)
            self._reading = None
        self._drop(lambda job: job.name in cancelled)
        for scope in forgotten:
            self._reuse.forget(scope)
        return True

    def _is_news(self) -> bool:
        told = self._stopping or self._cancelled or self._forgotten
        return bool(told or self._waiting or self._decoding or self._reading)

    def turn(self) -> None:
        """One token of each that decodes, and a piece of one prompt."""
        if self._decoding:
            self._decode()
        if self._reading is None:
            self._begin()
        if self._reading is not None:
            self._read(self._reading)

    def _begin(self) -> None:
        with self._news:
            if self._waiting and len(self._decoding) < self._rows:
                self._reading, self._reading_row = self._waiting.popleft(), len(self._decoding)
        if self._reading is not None:
            job = self._reading
            job.held = job.reused = self._reuse.begin(self._reading_row, job.scope, job.tokens)

    def _read(self, job: Job) -> None:
        """A piece of the prompt. The last one gives the first token of the answer."""
        bounds = self.bounds
        most = max(1, bounds.tokens_per_step - len(self._decoding))
        if self._decoding and bounds.prompt_tokens_per_step:
            most = min(most, bounds.prompt_tokens_per_step)
        piece = job.tokens[job.held : job.held + most]
        logits = self._model.extend(self._reading_row, piece, job.held)
        job.held += len(piece)
        if job.held < len(job.tokens):
            return
        self._reading = None
        self._keep(job, self._reading_row)  # now, so that those that wait find it
        job.said(pick(logits[-1], job.sampling, self._source))
        if not job.finished:
            row = len(self._decoding)  # others may have left since it began
            if row != self._reading_row:
                self._model.move(self._reading_row, row, job.held)
            self._decoding.append(job)

    def _decode(self) -> None:
        alone = self._decoding[0] if len(self._decoding) == 1 and self._reading is None else None
        if alone is not None and self._guesser is not None and self.guessing and alone.sampling.greedy:
            self._decode_guessing(alone, self._guesser)
        else:
            jobs = self._decoding
            logits = self._model.step([job.answer[-1] for job in jobs], [job.held for job in jobs])
            for job, line in zip(jobs, logits, strict=True):
                job.held += 1
                job.said(pick(line, job.sampling, self._source))
        self._drop(lambda job: job.finished)

    def _decode_guessing(self, job: Job, guesser: Guesser) -> None:
        """Several tokens of one request at once: those guessed that the model says itself, and the one after them.

        What the cache holds of wrong guesses is overwritten by the next step.
        """
        most = min(self._draft_tokens, job.most - len(job.answer) - 1, self.bounds.tokens_per_step - 1)
        draft = self._guess(guesser, job, most) if most > 0 else []
        logits = self._model.extend(0, [job.answer[-1], *draft], job.held)
        accepted = 0
        for place in range(len(draft) + 1):
            token = pick(logits[place], job.sampling, self._source)
            job.held += 1
            job.said(token)
            if job.finished or place == len(draft) or token != draft[place]:
                break
            accepted += 1
        if draft:
            self.guessed += Guessed(drafts=1, tokens=len(draft), accepted=accepted)

    def _guess(self, guesser: Guesser, job: Job, most: int) -> list[int]:
        """A draft model that fails ends the guessing, and nothing else."""
        try:
            return guesser([*job.tokens, *job.answer], most)
        except Exception as error:
            log.exception("Guessing failed")
            self._guesser, self.fault = None, f"{type(error).__name__}: {error}"[:300]
            return []

    def _drop(self, leaves: Callable[[Job], bool]) -> None:
        """Takes jobs out; the last rows move into their places, so that those that decode stay side by side."""
        place = 0
        while place < len(self._decoding):
            if not leaves(self._decoding[place]):
                place += 1
                continue
            self._keep(self._decoding[place], place)
            last = self._decoding.pop()
            if place < len(self._decoding):
                self._decoding[place] = last
                self._model.move(len(self._decoding), place, last.held)

    def _keep(self, job: Job, row: int) -> None:
        self._reuse.keep(row, job.scope, (job.tokens + job.answer)[: job.held])
