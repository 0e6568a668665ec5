"""From the configuration to an engine's layout over GPUs, and back; what contradicts what. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from trimtab_engine.config.gpus import FIELDS
from trimtab_engine.config.model import Config
from trimtab_engine.gpus.layout import Layout, from_arguments, given_in, is_spread_elsewhere, without_sizes
from trimtab_engine.gpus.shape import Heads, Shape

# Which sizes an engine can have, and how it shares out the heads; the others compute on one device.
SIZES: Mapping[str, tuple[str, ...]] = {"vllm": ("tensor", "pipeline", "data"), "deepspeed": ("tensor",)}
HEADS: Mapping[str, Heads] = {"vllm": Heads.SHARED, "deepspeed": Heads.OWN}
# ONNX Runtime computes on the CPU here.
WITHOUT_GPUS = frozenset({"onnx"})


def asked_layout(config: Config, engine: str) -> Layout:
    """How the configuration wants the model spread by this engine."""
    sizes = {size: value for size, value in config.gpus.sizes.items() if value is not None}
    whole = from_arguments(config.engines.vllm.arguments, Layout(**sizes))
    if engine == "vllm":
        return whole
    if engine == "deepspeed":
        return Layout(tensor=config.engines.deepspeed.tensor_parallel or whole.tensor)
    return Layout()


def placed(config: Config, engine: str, layout: Layout) -> Config:
    """The configuration with which this engine is spread so; the same one where it is already."""
    if engine == "deepspeed":
        own = config.engines.deepspeed.model_copy(update={"tensor_parallel": layout.tensor})
        return config.model_copy(update={"engines": config.engines.model_copy(update={"deepspeed": own})})
    if engine != "vllm" or layout == asked_layout(config, engine):
        return config
    vllm = config.engines.vllm
    arguments = vllm.model_copy(update={"arguments": without_sizes(vllm.arguments)})
    gpus = config.gpus.model_copy(update={FIELDS[size]: value for size, value in layout.as_json().items()})
    return config.model_copy(update={"gpus": gpus, "engines": config.engines.model_copy(update={"vllm": arguments})})


def is_movable(config: Config, engine: str) -> bool:
    """Whether this engine's layout may change: not when it is a part of something on other machines."""
    return engine != "vllm" or not is_spread_elsewhere(config.engines.vllm.arguments)


def contradictions(config: Config) -> list[str]:
    """What the configuration says twice or cannot have, each with the field and the way out."""
    return [*_flags(config), *_deepspeed_twice(config), *_engine_without(config)]


def misfits(config: Config, shape: Shape | None, gpus: int | None) -> list[str]:
    """What the model (None: not known) or the number of GPUs (None: not known) does not allow, for the engine that is
    tried first, each with the field and the way out."""
    engine = config.engines.preference[0]
    if engine not in SIZES or not is_movable(config, engine):
        return []
    if engine == "deepspeed" and config.engines.deepspeed.tensor_parallel is not None:
        return []  # the engine's own field, which it checks itself
    layout = asked_layout(config, engine)
    return [*_wrong_heads(config, engine, layout, shape), *_too_large(config, layout, shape, gpus)]


def _flags(config: Config) -> Iterator[str]:
    for given in given_in(config.engines.vllm.arguments):
        if not given.value.isdecimal() or int(given.value) < 1:
            yield f"engines.vllm.arguments: {given.flag} must be a whole number from 1 on, and is {given.value[:20]!r}"
        elif config.gpus.sizes[given.size] is not None:
            field = f"gpus.{FIELDS[given.size]}"
            yield (
                f"{field}: is {config.gpus.sizes[given.size]}, and {given.flag} in engines.vllm.arguments is "
                f"{given.value}; leave out one of the two"
            )


def _deepspeed_twice(config: Config) -> Iterator[str]:
    own, whole = config.engines.deepspeed.tensor_parallel, config.gpus.tensor_parallel
    if own is not None and whole is not None and own != whole:
        yield (
            f"engines.deepspeed.tensor_parallel: is {own}, and gpus.tensor_parallel is {whole}; "
            "leave out one of the two"
        )


def _engine_without(config: Config) -> Iterator[str]:
    """The engine that is tried first must be able to do what is asked for; those after it serve as they can."""
    engine = config.engines.preference[0]
    for size, value in config.gpus.sizes.items():
        if value is not None and value > 1 and size not in SIZES.get(engine, ()):
            able = " or ".join(name for name, sizes in SIZES.items() if size in sizes)
            yield (
                f"gpus.{FIELDS[size]}: is {value}, and {engine} has no {size} parallelism; "
                f"put {able} first in engines.preference, or leave it out"
            )


def _wrong_heads(config: Config, engine: str, layout: Layout, shape: Shape | None) -> Iterator[str]:
    problem = shape.problem(layout.tensor, HEADS[engine]) if shape else ""
    if shape and problem:
        possible = ", ".join(str(size) for size in shape.possible(HEADS[engine], 64))
        yield f"{_named(config, 'tensor')}: {problem}; possible are {possible}"


def _too_large(config: Config, layout: Layout, shape: Shape | None, gpus: int | None) -> Iterator[str]:
    if shape and layout.pipeline > shape.layers:
        yield (
            f"{_named(config, 'pipeline')}: is {layout.pipeline}, and the model has {shape.layers} layers; "
            f"give {shape.layers} or less"
        )
    if gpus is not None and layout.gpus > gpus:
        largest = max(layout.as_json().items(), key=lambda item: item[1])[0]
        yield (
            f"{_named(config, largest)}: {layout.sentence()} needs {layout.gpus} GPUs, and there "
            f"{'is' if gpus == 1 else 'are'} {gpus}; ask for more GPUs or for smaller sizes"
        )


def _named(config: Config, size: str) -> str:
    """Where the size stands."""
    flag = next((given.flag for given in given_in(config.engines.vllm.arguments) if given.size == size), None)
    return f"gpus.{FIELDS[size]}" if flag is None else f"engines.vllm.arguments: {flag}"
