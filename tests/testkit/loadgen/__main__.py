"""The program: command line, signals, final summary."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Sequence

from aiohttp import web

from trimtab_engine.load.client import Target
from trimtab_engine.load.ledger import Ledger
from trimtab_engine.load.runner import Runner, Traffic
from trimtab_engine.load.safety import check_url
from trimtab_engine.load.workload import Lengths, Workload

from .control import Page, application, snapshot


def build_parser() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(
        prog="loadgen",
        description="Sends streaming requests to an OpenAI-compatible server and counts every one exactly once.",
        epilog="Lengths: 64 | uniform:32-128 | normal:256,64 | lognormal:200,0.8 | choice:64=0.8,1024=0.2",
    )
    target = parser.add_argument_group("target")
    target.add_argument("--url", required=True, help="base URL with /v1; loopback or private addresses only")
    target.add_argument("--model", default="", help="model name (default: the server's first)")
    target.add_argument("--chat", action="store_true", help="/chat/completions instead of /completions")
    target.add_argument("--keep-alive", action="store_true", help="reuse connections (default: one per request)")
    target.add_argument("--request-timeout", type=float, default=300.0, metavar="S")
    target.add_argument("--connect-timeout", type=float, default=10.0, metavar="S")
    target.add_argument("--temperature", type=float)
    target.add_argument("--no-ignore-eos", dest="ignore_eos", action="store_false")
    target.add_argument("--pod-header", default="x-pod-name", help="answer header that names the pod")
    traffic = parser.add_argument_group("traffic")
    traffic.add_argument("--concurrency", type=int, default=1, help="closed loop: this many clients")
    traffic.add_argument("--rate", type=float, help="open loop: arrivals per second")
    traffic.add_argument("--burstiness", type=float, default=1.0, help="of arrivals: 1 Poisson, 0 even, 3 bursts")
    traffic.add_argument("--most-in-flight", type=int, default=512)
    traffic.add_argument("--ramp-seconds", type=float, default=0.0, help="closed loop: time until all clients work")
    traffic.add_argument("--pause-after-failure", type=float, default=0.2, metavar="S", help="of a client; no retry")
    traffic.add_argument("--max-seconds", type=float, default=600.0)
    traffic.add_argument("--max-requests", type=int, default=100_000)
    load = parser.add_argument_group("requests")
    load.add_argument("--prompt-tokens", type=Lengths.parse, default=Lengths.parse("64"), metavar="LENGTHS")
    load.add_argument("--output-tokens", type=Lengths.parse, default=Lengths.parse("64"), metavar="LENGTHS")
    load.add_argument("--shared-prefixes", type=int, default=0, help="each prompt begins with one of so many texts")
    load.add_argument("--shared-prefix-tokens", type=int, default=0)
    load.add_argument("--characters-per-token", type=float, default=1.0)
    load.add_argument("--seed", type=int, default=0)
    own = parser.add_argument_group("this program")
    own.add_argument("--listen", default="127.0.0.1:0", help="host:port of /stats, /metrics, /control; port 0: any")
    own.add_argument("--bucket-seconds", type=float, default=2.0)
    own.add_argument("--linger-seconds", type=float, default=0.0, help="go on answering /stats after the end")
    return parser


async def _first_model(url: str) -> str:
    """The id of the first model that the server lists."""
    from trimtab_engine.load.client import open_session

    async with open_session(Target(url=url, model="", timeout=30.0)) as session, session.get(f"{url}/models") as got:
        got.raise_for_status()
        return str((await got.json())["data"][0]["id"])


async def run(options: argparse.Namespace) -> int:
    """One run; returns the exit code."""
    url = options.url.rstrip("/")
    target = Target(
        url=url,
        model=options.model or await _first_model(url),
        chat=options.chat,
        ignore_eos=options.ignore_eos,
        temperature=options.temperature,
        timeout=options.request_timeout,
        connect_timeout=options.connect_timeout,
        keep_alive=options.keep_alive,
        pod_header=options.pod_header,
        api_key=os.environ.get("LOADGEN_API_KEY") or None,
    )
    workload = Workload(
        prompt_tokens=options.prompt_tokens,
        output_tokens=options.output_tokens,
        shared_prefixes=options.shared_prefixes,
        shared_prefix_tokens=options.shared_prefix_tokens,
        characters_per_token=options.characters_per_token,
        seed=options.seed,
    )
    traffic = Traffic(
        concurrency=options.concurrency,
        rate=options.rate,
        burstiness=options.burstiness,
        most_in_flight=options.most_in_flight,
        max_seconds=options.max_seconds,
        max_requests=options.max_requests,
        pause_after_failure=options.pause_after_failure,
        ramp_seconds=options.ramp_seconds,
    )
    page = Page()
    runner = Runner(target, workload, traffic, Ledger(bucket_seconds=options.bucket_seconds), observer=page)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()

    def stop() -> None:
        runner.set_state("stopped")
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    server = web.AppRunner(application(runner, page), access_log=None, shutdown_timeout=1.0)
    await server.setup()
    host, _, port = options.listen.rpartition(":")
    site = web.TCPSite(server, host, int(port))
    await site.start()
    print(json.dumps({"event": "listening", "addresses": [list(a)[:2] for a in server.addresses]}), flush=True)
    try:
        await runner.run()
        print(json.dumps({"event": "summary", **snapshot(runner, series=False)}), flush=True)
        if options.linger_seconds > 0 and not stopping.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), options.linger_seconds)
    finally:
        await server.cleanup()
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the load generator; exit code 0 after a run, 2 for a refused target or option."""
    parser = build_parser()
    options = parser.parse_args(arguments)
    try:
        check_url(options.url)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    return asyncio.run(run(options))


if __name__ == "__main__":
    sys.exit(main())
