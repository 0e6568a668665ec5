"""The command line of the bench, and the scenarios that it asks for."""

from __future__ import annotations

import argparse
from pathlib import Path

from trimtab_engine.bench.ladder import OBJECTIVES
from trimtab_engine.bench.measure import Plan
from trimtab_engine.load.runner import Traffic
from trimtab_engine.load.trace import Recorded, read_trace
from trimtab_engine.load.workload import Asking, Lengths, Workload

SCENARIOS = ("single", "concurrent", "batch", "streaming", "poisson", "bursty", "trace")
USUAL = "single,concurrent,batch,streaming"


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="trimtab-engine bench", description="Measure a server, compare results, try optimizations one by one."
    )
    verbs = made.add_subparsers(dest="verb", required=True)
    run = verbs.add_parser("run", help="put load on a server and write down each request")
    run.add_argument("--url", required=True, help="the server; loopback or private addresses only")
    run.add_argument("--scenarios", default=USUAL, help=f"some of {', '.join(SCENARIOS)} (default: {USUAL})")
    run.add_argument("--label", default="run", help="what the result is called in tables and plots")
    run.add_argument("--keep-texts", action="store_true", help="write down the answers, too")
    _traffic(run)
    _output(run)
    compare = verbs.add_parser("compare", help="say what is better in result B than in result A, and how sure that is")
    compare.add_argument("a", type=Path, metavar="A")
    compare.add_argument("b", type=Path, metavar="B")
    compare.add_argument("--confidence", type=_share, default=0.95)
    _output(compare)
    sweep = verbs.add_parser("sweep", help="try the steps of a file one by one, keep each or take it back")
    what = sweep.add_mutually_exclusive_group(required=True)
    what.add_argument("--url", help="a server that runs; its limits change while it does")
    what.add_argument("--model", help="a model that sweep serves itself, so that arguments can change, too")
    sweep.add_argument("--steps", type=Path, required=True, help="YAML: a list of `name` with `limits` or `arguments`")
    sweep.add_argument("--scenario", choices=SCENARIOS, default="streaming")
    sweep.add_argument("--objective", choices=sorted(OBJECTIVES), default="throughput")
    sweep.add_argument("--gain", type=float, default=0.02, help="what a step must bring for sure to be kept")
    sweep.add_argument("--loss", type=float, default=0.10, help="what it may cost elsewhere for sure")
    sweep.add_argument("--confidence", type=_share, default=0.95)
    sweep.add_argument("--token-file", type=Path, help="file with the server's token; needed with --url")
    sweep.add_argument("--config", type=Path, help="configuration of the server that is started")
    sweep.add_argument("--port", type=int, default=8000, help="port of the server that is started")
    sweep.add_argument("--start-seconds", type=float, default=1800.0, help="how long it may take to start")
    sweep.add_argument("--log", type=Path, default=Path("trimtab-engine-sweep.log"))
    _traffic(sweep)
    _output(sweep)
    return made


def _traffic(made: argparse.ArgumentParser) -> None:
    made.add_argument("--clients", type=int, default=16, help="of the scenarios concurrent, batch and streaming")
    made.add_argument("--rate", type=float, default=1.0, help="arrivals per second of poisson and bursty")
    made.add_argument("--burstiness", type=float, default=3.0, help="coefficient of variation of bursty's gaps (gamma)")
    made.add_argument("--trace", type=Path, help="CSV with the columns offset_seconds, prompt_tokens, output_tokens")
    made.add_argument("--speed", type=float, default=1.0, help="how much faster the trace is played")
    made.add_argument("--seconds", type=float, default=30.0, help="of each scenario")
    made.add_argument("--settle-seconds", type=float, default=2.0, help="of these, what does not count")
    made.add_argument("--prompt-tokens", type=Lengths.parse, default=Lengths.parse("uniform:48-80"), metavar="LENGTHS")
    made.add_argument("--output-tokens", type=Lengths.parse, default=Lengths.parse("uniform:24-40"), metavar="LENGTHS")
    made.add_argument("--characters-per-token", type=float, default=4.0)
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--chat", action="store_true", help="/chat/completions instead of /completions")
    made.add_argument("--temperature", type=float, default=0.0)
    made.add_argument(
        "--no-ignore-eos", dest="ignore_eos", action="store_false", help="for servers that do not know it"
    )


def _output(made: argparse.ArgumentParser) -> None:
    made.add_argument("--out", type=Path, help="where the JSON goes")
    made.add_argument("--plot", type=Path, help="where a picture goes: .png, .svg or .pdf")


def _share(text: str) -> float:
    value = float(text)
    if not 0.5 <= value < 1:
        raise argparse.ArgumentTypeError("must be from 0.5 to below 1")
    return value


def plans(names: list[str], args: argparse.Namespace) -> list[Plan]:
    """The scenarios by their names.

    Raises:
        ValueError: a name is not known, or the trace is missing or none.
        OSError: the trace cannot be read.
    """
    return [plan(name, args) for name in names]


def plan(name: str, args: argparse.Namespace) -> Plan:
    """One of them; see `plans`."""
    asking: Asking = Workload(
        prompt_tokens=args.prompt_tokens,
        output_tokens=args.output_tokens,
        characters_per_token=args.characters_per_token,
        seed=args.seed,
    )
    bounds = {"max_seconds": args.seconds}
    settle = min(args.settle_seconds, args.seconds / 2)
    if name == "trace":
        if args.trace is None:
            raise ValueError("the scenario trace needs --trace")
        arrivals = read_trace(args.trace.read_text(encoding="utf-8"), speed=args.speed)
        recorded = Recorded(arrivals=arrivals, characters_per_token=args.characters_per_token, seed=args.seed)
        traffic = Traffic(offsets=recorded.offsets, max_seconds=arrivals[-1].offset + args.seconds)
        return Plan(name=name, traffic=traffic, asking=recorded)
    made = {
        "single": (Traffic(concurrency=1, **bounds), False),
        "concurrent": (Traffic(concurrency=args.clients, **bounds), False),
        "batch": (Traffic(batch=args.clients, **bounds), False),
        "streaming": (Traffic(concurrency=args.clients, **bounds), True),
        "poisson": (Traffic(rate=args.rate, **bounds), True),
        "bursty": (Traffic(rate=args.rate, burstiness=args.burstiness, **bounds), True),
    }.get(name)
    if made is None:
        raise ValueError(f"{name!r} is no scenario; there are {', '.join(SCENARIOS)}")
    traffic, stream = made
    return Plan(name=name, traffic=traffic, asking=asking, stream=stream, settle_seconds=settle)
