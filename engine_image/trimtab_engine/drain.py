"""preStop hook: holds the end of the container back until the engine has answered all of its requests.

When a pod is deleted, its address is withdrawn from the Service while the hook runs, and both take a moment. So the
hook first waits for that (`--settle`), then reads the engine's own /metrics until nothing runs, nothing waits and
nothing was finished for `--quiet` seconds. That is longer than the 5 s after which vLLM's server closes a connection
that a client keeps open, so that no client can still send over an old one. At `--deadline` it gives up, which
belongs below the pod's terminationGracePeriodSeconds: the container is killed then, whatever the hook does.

The engine gets SIGTERM only after the hook. vLLM then refuses new requests, and without `--shutdown-timeout` drops
those that run, so give it that flag too; the hook is what makes both harmless.

The hook always ends with 0 and says why it ended; metrics that cannot be understood are not taken for zero. Only the
standard library is used and nothing else of this package, so that any engine image with Python can run it:
`python3 -m trimtab_engine.drain --port 8000`, or with this file's text as `python3 -c TEXT --port 8000`.
"""

from __future__ import annotations

import argparse
import http.client
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

# Gauges of requests in the engine, and the counter of finished requests, as vLLM (0.6 and later), SGLang and TGI call
# them. An engine that splits a gauge by rank or replica is summed: only "all zero" is asked.
IN_FLIGHT = (
    ("vllm:num_requests_running", "vllm:num_requests_waiting"),
    ("sglang:num_running_reqs", "sglang:num_queue_reqs"),
    ("tgi_batch_current_size", "tgi_queue_size"),
)
FINISHED = ("vllm:request_success_total", "sglang:num_requests_total", "tgi_request_count")


@dataclass(frozen=True, kw_only=True)
class Reading:
    """Requests running or waiting, and finished so far; None where the metrics do not tell."""

    in_flight: float | None
    finished: float | None = None
    problem: str = ""
    gone: bool = False


@dataclass(frozen=True, kw_only=True)
class Pace:
    """Seconds: before the first read, between reads, of quiet that end the drain, and in all."""

    settle: float = 5.0
    interval: float = 0.5
    quiet: float = 6.0
    deadline: float = 50.0


def sums(metrics: str) -> dict[str, float]:
    """The sum of all samples of each metric in a text of the Prometheus format."""
    found: dict[str, float] = {}
    for line in metrics.splitlines():
        name = line.partition("{")[0].split(" ", 1)[0]
        try:
            found[name] = found.get(name, 0.0) + float(line.rpartition("}")[2].removeprefix(name).split()[0])
        except (ValueError, IndexError):  # a comment, or a line in another format
            continue
    return found


def understand(metrics: str) -> Reading:
    """What a text of metrics says about requests. A missing metric and NaN are unknown, never zero."""
    values = sums(metrics)
    finished = next((values[name] for name in FINISHED if name in values), None)
    for running, waiting in IN_FLIGHT:
        if running in values and waiting in values:
            total = values[running] + values[waiting]
            if total == total:  # not NaN
                return Reading(in_flight=total, finished=finished)
    return Reading(in_flight=None, problem="its metrics do not tell how many requests it holds")


def read(host: str, port: int, seconds: float = 5.0) -> Reading:
    """One look at the engine's /metrics."""
    connection = http.client.HTTPConnection(host, port, timeout=seconds)
    try:
        connection.request("GET", "/metrics")
        answer = connection.getresponse()
        text = answer.read().decode(errors="replace")
    except ConnectionRefusedError:
        return Reading(in_flight=None, problem="nothing listens on its port any more", gone=True)
    except (OSError, http.client.HTTPException) as error:
        return Reading(in_flight=None, problem=f"its metrics cannot be read: {error or type(error).__name__}")
    finally:
        connection.close()
    if answer.status != 200:
        return Reading(in_flight=None, problem=f"/metrics answers {answer.status}")
    return understand(text)


def drain(
    look: Callable[[], Reading],
    pace: Pace,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> str:
    """Waits as the module's text says and returns why it ended, as a sentence."""
    began = clock()
    sleep(min(pace.settle, pace.deadline))
    quiet_since: float | None = None
    last = Reading(in_flight=None)
    refusals = 0
    while True:
        reading, now = look(), clock()
        refusals = refusals + 1 if reading.gone else 0
        if refusals >= 3:
            return f"drained: {reading.problem}."
        if reading.in_flight == 0 and reading.finished == last.finished:
            quiet_since = now if quiet_since is None else quiet_since
            if now - quiet_since >= pace.quiet:
                return f"drained: no request for {pace.quiet:g} s, {now - began:.0f} s after the pod was asked to end."
        else:
            quiet_since = None
        if now - began + pace.interval > pace.deadline:
            state = reading.problem or f"{reading.in_flight:g} requests are running or waiting"
            return f"not drained: the deadline of {pace.deadline:g} s is over and {state}."
        last = reading
        sleep(pace.interval)


def report(sentence: str, log: str) -> None:
    """Prints the sentence, and appends it to the file `log` where that is possible."""
    print(sentence, flush=True)
    if log:
        try:
            with open(log, "a", encoding="utf-8") as out:
                out.write(sentence + "\n")
        except OSError as error:
            print(f"cannot write to {log}: {error}", file=sys.stderr)


def main(arguments: Sequence[str] | None = None) -> int:
    usual = Pace()
    parser = argparse.ArgumentParser(prog="drain", description="Wait until the engine has answered its requests.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--settle", type=float, default=usual.settle, help="seconds before the first look")
    parser.add_argument("--interval", type=float, default=usual.interval, help="seconds between looks")
    parser.add_argument("--quiet", type=float, default=usual.quiet, help="seconds without a request that end it")
    parser.add_argument("--deadline", type=float, default=usual.deadline, help="seconds in all")
    parser.add_argument("--log", default="", help="file that gets the result too, such as /proc/1/fd/1")
    args = parser.parse_args(arguments)
    pace = Pace(settle=args.settle, interval=args.interval, quiet=args.quiet, deadline=args.deadline)
    try:
        report(drain(lambda: read(args.host, args.port), pace), args.log)
    except Exception as error:  # noqa: BLE001 - a hook that fails only hides why
        print(f"not drained: {type(error).__name__}: {error}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
