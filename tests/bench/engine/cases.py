"""What is run: engine configurations and loads. Structure was decided on `DEVELOPMENT`, results are those of `TEST`.

The two share no model, no load and no value of a tuned knob but the defaults.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tests.models.make_llama import SHAPES, Shape

MIB: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """How vLLM is started."""

    seqs: int
    step: int = 2048
    prefix: bool = True
    kv_cache: str = "bf16"
    space: int = 256  # MiB of KV cache

    def arguments(self) -> tuple[str, ...]:
        cache = ("--kv-cache-dtype", "fp8") if self.kv_cache == "fp8" else ()
        return (
            "--enforce-eager", "--max-num-seqs", str(self.seqs), "--max-num-batched-tokens", str(self.step),
            "--enable-prefix-caching" if self.prefix else "--no-enable-prefix-caching",
            "--kv-cache-memory-bytes", f"{self.space}M", *cache,
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Closed loop of `clients`. Lengths are drawn evenly from 25 % below to 25 % above; `shared` tokens come before
    each prompt, one of `prefixes` texts.
    """

    clients: int
    prompt: int
    output: int
    shared: int = 0
    prefixes: int = 0

    @property
    def whole(self) -> int:
        """Tokens of a prompt, with what is shared."""
        return self.prompt + self.shared


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One configuration under one load."""

    name: str
    served: Served
    load: Load


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """What one knob changes: two cases that differ in it alone."""

    knob: str
    old: str
    new: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """`again` are measured a second time at the end, on another start of the engine: how far repeats differ."""

    model: str
    shape: Shape
    cases: tuple[Case, ...]
    effects: tuple[Effect, ...]
    again: tuple[str, ...]

    def case(self, name: str) -> Case:
        return next(case for case in self.cases if case.name == name)


def _suite(
    model: str, shape: Shape, base: Served, loads: dict[str, Load], other: dict[str, tuple[Served, tuple[str, ...]]],
    effects: tuple[tuple[str, str, str], ...], again: tuple[str, ...],
) -> Suite:  # fmt: skip
    cases = [Case(name=f"base, {load}", served=base, load=loads[load]) for load in loads]
    cases += [
        Case(name=f"{name}, {load}", served=served, load=loads[load])
        for name, (served, names) in other.items()
        for load in names
    ]
    return Suite(
        model=model,
        shape=shape,
        cases=tuple(cases),
        effects=tuple(Effect(knob=knob, old=old, new=new) for knob, old, new in effects),
        again=again,
    )


TEST: Final = _suite(
    "m75",
    SHAPES["m75"],
    Served(seqs=32),
    {
        "chat": Load(clients=32, prompt=64, output=64),
        "mid": Load(clients=12, prompt=192, output=96),
        "long": Load(clients=6, prompt=640, output=48),
        "shared": Load(clients=6, prompt=96, output=32, shared=768, prefixes=4),
    },
    {
        "seqs 2": (Served(seqs=2), ("chat",)),
        "seqs 8": (Served(seqs=8), ("chat", "mid")),
        "step 64": (Served(seqs=32, step=64), ("long",)),
        "step 256": (Served(seqs=32, step=256), ("long", "mid")),
        "no prefix": (Served(seqs=32, prefix=False), ("shared",)),
        "fp8": (Served(seqs=32, kv_cache="fp8"), ("long", "mid")),
        "small": (Served(seqs=32, space=32), ("mid",)),
        "small fp8": (Served(seqs=32, space=32, kv_cache="fp8"), ("mid",)),
    },
    (
        ("maxNumSeqs", "seqs 2, chat", "seqs 8, chat"),
        ("maxNumSeqs", "seqs 8, chat", "base, chat"),
        ("maxNumSeqs", "seqs 8, mid", "base, mid"),
        ("maxNumBatchedTokens", "step 64, long", "step 256, long"),
        ("maxNumBatchedTokens", "step 256, long", "base, long"),
        ("maxNumBatchedTokens", "step 256, mid", "base, mid"),
        ("prefixCaching", "no prefix, shared", "base, shared"),
        ("kvCacheDtype", "base, long", "fp8, long"),
        ("kvCacheDtype", "base, mid", "fp8, mid"),
        ("kvCacheDtype", "small, mid", "small fp8, mid"),
        ("kvCacheBytes", "small, mid", "base, mid"),
    ),
    ("base, chat",),
)

DEVELOPMENT: Final = _suite(
    "m45",
    Shape(hidden=640, intermediate=1792, layers=10, heads=10, kv_heads=2),
    Served(seqs=24, step=1024),
    {
        "chat": Load(clients=24, prompt=96, output=48),
        "mid": Load(clients=10, prompt=256, output=64),
        "long": Load(clients=5, prompt=768, output=32),
        "shared": Load(clients=5, prompt=64, output=40, shared=512, prefixes=3),
    },
    {
        "seqs 4": (Served(seqs=4, step=1024), ("chat", "mid")),
        "seqs 12": (Served(seqs=12, step=1024), ("chat",)),
        "step 128": (Served(seqs=24, step=128), ("long", "chat")),
        "no prefix": (Served(seqs=24, step=1024, prefix=False), ("shared",)),
        "fp8": (Served(seqs=24, step=1024, kv_cache="fp8"), ("long", "mid")),
        "small": (Served(seqs=24, step=1024, space=12), ("mid",)),
        "small fp8": (Served(seqs=24, step=1024, space=12, kv_cache="fp8"), ("mid",)),
    },
    (
        ("maxNumSeqs", "seqs 4, chat", "seqs 12, chat"),
        ("maxNumSeqs", "seqs 12, chat", "base, chat"),
        ("maxNumSeqs", "seqs 4, mid", "base, mid"),
        ("maxNumBatchedTokens", "step 128, long", "base, long"),
        ("maxNumBatchedTokens", "step 128, chat", "base, chat"),
        ("prefixCaching", "no prefix, shared", "base, shared"),
        ("kvCacheDtype", "base, long", "fp8, long"),
        ("kvCacheDtype", "base, mid", "fp8, mid"),
        ("kvCacheDtype", "small, mid", "small fp8, mid"),
        ("kvCacheBytes", "small, mid", "base, mid"),
    ),
    ("base, chat",),
)

SUITES: Final = {"test": TEST, "development": DEVELOPMENT}
