"""`trimtab-engine bench`: run, compare, sweep."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import secrets
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import aiohttp
from rich.console import Console

from trimtab_engine.bench.compare import compare
from trimtab_engine.bench.hands import CannotError, Hands, Running, Started
from trimtab_engine.bench.ladder import Rung, read_steps
from trimtab_engine.bench.measure import measure, scenario
from trimtab_engine.bench.options import parser, plan, plans
from trimtab_engine.bench.result import Result, Scenario, result_from_json
from trimtab_engine.bench.server import RefusedError, Server
from trimtab_engine.bench.sweep import judge_by, sweep
from trimtab_engine.bench.table import compare_table, ladder_table, result_table
from trimtab_engine.load.client import Target

PROBLEMS = (OSError, ValueError, ImportError, aiohttp.ClientError, CannotError, RefusedError)


def main(arguments: Sequence[str] | None = None) -> int:
    """0, or 1 where requests failed, or 2 where nothing could be measured. Tables go to the standard output."""
    args = parser().parse_args(arguments)
    verbs = {"run": _run, "compare": _compare, "sweep": _sweep}
    try:
        return verbs[args.verb](args, Console())
    except PROBLEMS as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 2


def _run(args: argparse.Namespace, console: Console) -> int:
    found = asyncio.run(_measured(args))
    console.print(result_table(found))
    _write(args, found.as_json(), [found])
    return int(any(one.failures() for one in found.scenarios))


async def _measured(args: argparse.Namespace) -> Result:
    server = Server(args.url, api_key=_api_key())
    wanted = plans([name.strip() for name in args.scenarios.split(",")], args)
    target = await _target(server, args, keep_text=args.keep_texts)
    return await measure(server, target, wanted, label=args.label)


def _compare(args: argparse.Namespace, console: Console) -> int:
    a, b = (result_from_json(json.loads(path.read_text(encoding="utf-8"))) for path in (args.a, args.b))
    compared = compare(a, b, confidence=args.confidence)
    if not compared:
        raise ValueError("the two results have no scenario in common")
    console.print(compare_table(a, b, compared, args.confidence))
    rows = [asdict(one) for one in compared]
    _write(args, {"a": a.label, "b": b.label, "confidence": args.confidence, "compared": rows}, [a, b])
    return 0


def _sweep(args: argparse.Namespace, console: Console) -> int:
    """The server that was started ends with the sweep; one that runs has what was kept at the end."""
    with tempfile.TemporaryDirectory() as folder:
        if args.url:
            hands: Hands = Running(Server(args.url, token_file=args.token_file, api_key=_api_key()))
            rungs = asyncio.run(_climb(args, console, hands, ()))
        else:
            token = Path(folder) / "token"
            token.touch(mode=0o600)
            token.write_text(secrets.token_urlsafe(24))
            started = Started(
                args.model,
                port=args.port,
                config=args.config,
                token_file=token,
                log=args.log,
                seconds=args.start_seconds,
            )
            try:
                rungs = asyncio.run(_climb(args, console, started, ()))
            finally:
                started.stop()
    console.print(ladder_table(rungs))
    _write(args, {"objective": args.objective, "ladder": [rung.as_json() for rung in rungs]}, [])
    return 0


async def _climb(args: argparse.Namespace, console: Console, hands: Hands, flags: tuple[str, ...]) -> list[Rung]:
    steps = read_steps(args.steps.read_text(encoding="utf-8"))
    if isinstance(hands, Started):
        await hands.set({}, flags)
    start = await hands.server.limits()
    target = await _target(hands.server, args)
    number = 0

    async def measured() -> Scenario:
        """Other prompts each time, which no prefix cache has seen."""
        nonlocal number
        number += 1
        seeded = argparse.Namespace(**{**vars(args), "seed": args.seed + number})
        return await scenario(hands.server, target, plan(args.scenario, seeded))

    def tell(rung: Rung) -> None:
        console.print(f"{rung.step.name}: {'kept' if rung.kept else 'taken back'}; {rung.why}")

    judged = judge_by(args.objective, gain=args.gain, loss=args.loss, confidence=args.confidence)
    return await sweep(
        hands, steps, measured, judged, objective=args.objective, start=start, arguments=flags, tell=tell
    )


async def _target(server: Server, args: argparse.Namespace, *, keep_text: bool = False) -> Target:
    about = await server.about()
    return Target(
        url=f"{server.url}/v1",
        model=about.model,
        chat=args.chat,
        ignore_eos=args.ignore_eos,
        temperature=args.temperature,
        keep_alive=True,
        api_key=_api_key(),
        keep_text=keep_text,
    )


def _api_key() -> str | None:
    """Not on the command line, where every user of the machine could read it."""
    return os.environ.get("TRIMTAB_BENCH_API_KEY") or None


def _write(args: argparse.Namespace, document: dict[str, Any], results: list[Result]) -> None:
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    if args.plot:
        if not results:
            raise ValueError("a ladder has no plot")
        from trimtab_engine.bench.plot import plot

        plot(results, args.plot)


if __name__ == "__main__":
    sys.exit(main())
