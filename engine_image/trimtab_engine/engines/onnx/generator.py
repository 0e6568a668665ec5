"""The generator of ONNX Runtime: the converted model, the batcher over it, and the way back to the event loop."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable

from trimtab_engine.config.engines import OnnxConfig
from trimtab_engine.config.speculation import SpeculationConfig
from trimtab_engine.engines.common.metrics import EngineMetrics, PrefixCache
from trimtab_engine.engines.common.protocol import Output
from trimtab_engine.engines.common.requests import Wish
from trimtab_engine.engines.common.tokenizer import Tokenizer
from trimtab_engine.engines.onnx.batcher import Batcher, Bounds, Job
from trimtab_engine.engines.onnx.convert import converted
from trimtab_engine.engines.onnx.draft import Draft
from trimtab_engine.engines.onnx.kept import BLOCK, Kept
from trimtab_engine.engines.onnx.reuse import Reused
from trimtab_engine.engines.onnx.sampling import Sampling
from trimtab_engine.engines.onnx.session import Session
from trimtab_engine.limits.limits import Limits
from trimtab_engine.speculation.acceptance import Guessed
from trimtab_engine.speculation.guess import Guesser, lookup

log = logging.getLogger("trimtab_engine.onnx")


class Generator:
    """`start` it in the event loop that takes the outputs. `guesser` None: nothing is guessed, and `unable` tells why
    where that was asked for."""

    def __init__(
        self,
        session: Session,
        tokenizer: Tokenizer,
        config: OnnxConfig,
        *,
        reuse: bool,
        speculation: SpeculationConfig,
        guesser: Guesser | None = None,
        unable: str = "",
    ) -> None:
        self.attention = session.attention
        self.context = session.context
        self.page = session.context  # a request holds a row
        self.room = session.context * config.running_requests
        self.end_tokens = session.end_tokens or [token for token in [tokenizer.end_token] if token is not None]
        self._tokenizer = tokenizer
        self._unable = unable
        self._prefixes: PrefixCache | None = None
        self._reused = Reused()
        blocks = config.reuse_megabytes * 1_000_000 // (BLOCK * session.bytes_per_token) if reuse else 0
        self._reuses = blocks > 0
        self._batcher = Batcher(
            session,
            rows=config.running_requests,
            bounds=Bounds(tokens_per_step=config.tokens_per_step),
            draft_tokens=speculation.tokens,
            guesser=guesser,
            kept=Kept(blocks) if self._reuses else None,
        )

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._batcher.start()

    def stop(self) -> None:
        self._batcher.stop()

    def alive(self) -> bool:
        return self._batcher.alive()

    def take(self, limits: Limits) -> None:
        """In force at the batcher's next step."""
        self._batcher.bounds = Bounds(
            tokens_per_step=limits.max_tokens_per_step, prompt_tokens_per_step=limits.long_prompt_tokens_per_step
        )

    def measure(self, metrics: EngineMetrics) -> None:
        self._prefixes = metrics.prefix_cache() if self._reuses else None

    def encode(self, wish: Wish) -> list[int]:
        return self._tokenizer.encode(wish)

    def decoder(self) -> Callable[[int], str]:
        return self._tokenizer.decoder()

    def submit(
        self,
        name: str,
        tokens: list[int],
        wish: Wish,
        *,
        most: int,
        scope: int | None,
        on_output: Callable[[Output], None],
    ) -> None:
        """Begins a request; `on_output` is called in the event loop."""
        self._batcher.submit(
            Job(
                name=name,
                tokens=tokens,
                most=most,
                sampling=Sampling(temperature=wish.temperature, top_p=wish.top_p, top_k=wish.top_k),
                end_tokens=frozenset() if wish.ignore_eos else frozenset(self.end_tokens),
                deliver=lambda output: self._deliver(output, on_output),
                scope=scope,
            )
        )

    def cancel(self, name: str) -> None:
        self._batcher.cancel(name)

    def forget(self, scope: int) -> None:
        self._batcher.forget(scope)

    @property
    def unable(self) -> str:
        return self._unable or self._batcher.fault

    @property
    def guessed(self) -> Guessed:
        return self._batcher.guessed

    def speculate(self, on: bool) -> None:
        """In force at the batcher's next step."""
        self._batcher.guessing = on

    def _deliver(self, output: Output, on_output: Callable[[Output], None]) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(on_output, output)
        found, known = self._batcher.reused, self._reused
        if self._prefixes is not None and found != known:
            self._reused = found
            self._prefixes.queries.inc(found.queries - known.queries)
            self._prefixes.hits.inc(found.hits - known.hits)


def open_generator(model: str, config: OnnxConfig, *, reuse: bool, speculation: SpeculationConfig) -> Generator:
    """Raises ConversionError where the model cannot be converted faithfully. A draft model that cannot be used is left
    out."""
    session = _session(model, config, rows=config.running_requests)
    guesser, unable = _guesser(speculation, config)
    tokenizer = Tokenizer(model, session.vocabulary)
    return Generator(session, tokenizer, config, reuse=reuse, speculation=speculation, guesser=guesser, unable=unable)


def _session(model: str, config: OnnxConfig, *, rows: int) -> Session:
    threads = config.threads or int(os.environ.get("OMP_NUM_THREADS") or 0)
    return Session(converted(model, config), rows=rows, context=config.context_tokens, threads=threads)


def _guesser(speculation: SpeculationConfig, config: OnnxConfig) -> tuple[Guesser | None, str]:
    """Who guesses, or why nobody does."""
    if speculation.method == "ngram":
        return lookup(speculation), ""
    if speculation.method == "off":
        return None, ""
    try:
        session = _session(str(speculation.draft_model), config, rows=1)
    except Exception as error:
        log.exception("The draft model cannot be used")
        return None, f"the draft model cannot be used: {error}"[:300]
    return Draft(session, context=session.context).guess, ""
