"""The command `trimtab-engine`: one verb per program of this package."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from trimtab_engine import alive, drain, probe


def serve(arguments: Sequence[str]) -> int:
    """Imported when it is asked for: the probe and the drain need nothing but the standard library."""
    from trimtab_engine import serve as program

    return program.main(arguments)


def bench(arguments: Sequence[str]) -> int:
    """As above: only the bench needs its libraries."""
    from trimtab_engine.bench import program

    return program.main(arguments)


def quantize(arguments: Sequence[str]) -> int:
    """As above."""
    from trimtab_engine.quantize import program

    return program.main(arguments)


VERBS: dict[str, tuple[Callable[[Sequence[str]], int], str]] = {
    "serve": (serve, "serve a model, with limits that change while it serves"),
    "bench": (bench, "measure a server, compare results, try optimizations one by one"),
    "quantize": (quantize, "round a model's weights, and keep it when the engine says the same of a text"),
    "probe": (probe.main, "end with 0 when the engine completes one token (startupProbe)"),
    "alive": (alive.main, "end with 0 when /health answers 200 (HEALTHCHECK)"),
    "drain": (drain.main, "wait until the engine has answered its requests (preStop)"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given and given[0] in VERBS:
        return VERBS[given[0]][0](given[1:])
    lines = ["usage: trimtab-engine VERB [options]", ""]
    lines += [f"  {verb:10}{text}" for verb, (_, text) in VERBS.items()]
    asked = given[:1] in (["--help"], ["-h"])
    print("\n".join([*lines, "", "trimtab-engine VERB --help tells more."]), file=sys.stdout if asked else sys.stderr)
    return 0 if asked else 2


if __name__ == "__main__":
    sys.exit(main())
