"""How a model is spread over GPUs, and in which of vLLM's arguments that stands. Pure.

The flags are those of `vllm serve` 0.32 (`vllm/engine/arg_utils.py`); its parser takes `_` for `-` in their names, and
beginnings of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

# The sizes of a layout by name, with the flags that say the same to vLLM.
FLAGS: Mapping[str, tuple[str, str]] = {
    "tensor": ("--tensor-parallel-size", "-tp"),
    "pipeline": ("--pipeline-parallel-size", "-pp"),
    "data": ("--data-parallel-size", "-dp"),
}
# With these the engine has parts on other machines, takes its place among them from outside, or is spread in a way that
# is not counted here: nothing to move.
ELSEWHERE = frozenset(
    {
        *("--nnodes", "-n", "--node-rank", "-r", "--data-parallel-rank", "-dpn", "--data-parallel-start-rank", "-dpr"),
        *("--data-parallel-size-local", "-dpl", "--data-parallel-address", "-dpa"),
        *("--data-parallel-hybrid-lb", "-dph", "--data-parallel-external-lb", "-dpe"),
        *("--data-parallel-multi-port-external-lb", "-dpm", "--prefill-context-parallel-size", "-pcp"),
    }
)
_SHORTEST = len("--tensor")


@dataclass(frozen=True, kw_only=True)
class Layout:
    """`tensor` GPUs share each layer, `pipeline` groups of them the layers, and there are `data` copies of it all."""

    tensor: int = 1
    pipeline: int = 1
    data: int = 1

    @property
    def gpus(self) -> int:
        """GPUs that it takes."""
        return self.tensor * self.pipeline * self.data

    @property
    def parts(self) -> int:
        """Parts that one copy of the model is in."""
        return self.tensor * self.pipeline

    def as_json(self) -> dict[str, int]:
        return asdict(self)

    def sentence(self) -> str:
        """The sizes above 1, such as `tensor 4, data 2`."""
        return ", ".join(f"{name} {size}" for name, size in self.as_json().items() if size > 1) or "one GPU"


@dataclass(frozen=True, kw_only=True)
class Given:
    """A size that stands in vLLM's arguments: its name in a layout, the flag as it was written, and its value."""

    size: str
    flag: str
    value: str


def given_in(arguments: Sequence[str]) -> tuple[Given, ...]:
    """The sizes in vLLM's arguments, in their order."""
    return tuple(given for given, _ in _parts(arguments) if given is not None)


def without_sizes(arguments: Sequence[str]) -> tuple[str, ...]:
    """The arguments without those sizes."""
    return tuple(word for given, words in _parts(arguments) if given is None for word in words)


def from_arguments(arguments: Sequence[str], base: Layout) -> Layout:
    """`base` with the sizes in the arguments; the last one counts, as in vLLM's parser. Values must be whole."""
    return replace(base, **{given.size: int(given.value) for given in given_in(arguments)})


def is_spread_elsewhere(arguments: Sequence[str]) -> bool:
    """Whether the engine is one part of something larger."""
    return any(_name(word) in ELSEWHERE for word in arguments)


def _name(word: str) -> str:
    flag = word.partition("=")[0]
    return flag.replace("_", "-") if flag.startswith("--") else flag


def _size(name: str) -> str | None:
    for size, (long, short) in FLAGS.items():
        if name in (long, short) or (len(name) >= _SHORTEST and long.startswith(name)):
            return size
    return None


def _parts(arguments: Sequence[str]) -> Iterator[tuple[Given | None, tuple[str, ...]]]:
    """The arguments in pieces: one with a size (the flag and its value), or a single word."""
    at = 0
    while at < len(arguments):
        word = arguments[at]
        size = _size(_name(word))
        _, joined, value = word.partition("=")
        if size is None:
            yield None, (word,)
            at += 1
        elif joined:
            yield Given(size=size, flag=_name(word), value=value), (word,)
            at += 1
        else:
            words = tuple(arguments[at : at + 2])
            yield Given(size=size, flag=_name(word), value=words[1] if len(words) == 2 else ""), words
            at += 2
