"""python -m tests.bench.rollouts [--services 5] [--rollouts 4] [--out build/bench/rollouts.json]

Rollouts of emulated services on the cluster, some at the same time: every second one is harmful (each token takes six
times as long). All requests are streams of half a minute, on all pods all the time. What is counted:
requests that were lost, and for how long harm that was seen had traffic.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import yaml
from prometheus_api_client import PrometheusConnect

from tests.bench.rollouts.play import Played, play, service
from tests.bench.serving.rows import Row, at_most, keep, markdown, told
from tests.e2e import operator
from tests.e2e.access import Access
from tests.e2e.demo import stage
from tests.e2e.loadgen import LoadGenerator
from tests.e2e.pods import PodWatch
from tests.e2e.scenario import Scenario, selector

_NAME = "chat"


def main() -> int:
    """1 where a row misses its bar."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--services", type=int, default=5)
    parser.add_argument("--rollouts", type=int, default=4, help="of each service")
    parser.add_argument("--out", type=Path, default=Path("build/bench/rollouts.json"))
    given = parser.parse_args()
    began = time.monotonic()

    def tell(text: str) -> None:
        print(f"[{time.monotonic() - began:4.0f} s] {text}", flush=True)

    access = Access(stage.cluster())
    if access.handle.prometheus_here is None:
        parser.error("Prometheus must be reachable from here: use CLUSTER=local")
    references = stage.images("emulator")
    prometheus = PrometheusConnect(url=access.handle.prometheus_here)
    spaces = [f"rollouts-{number}" for number in range(given.services)]
    try:
        _prepare(access, spaces, references)
        with ExitStack() as watches, ThreadPoolExecutor(len(spaces)) as pool:
            scenarios = [_scenario(access, space, references["testkit"], watches) for space in spaces]
            running = [
                pool.submit(play, scenario, references["testkit"], given.rollouts, prometheus, tell)
                for scenario in scenarios
            ]
            found = [one.result() for one in running]
    finally:
        for space in spaces:
            access.handle.kubectl("delete", "namespace", space, "--ignore-not-found", "--wait=false")
    measured = list(rows(found))
    keep(measured, given.out)
    print(markdown(measured))
    for played in found:
        print(played.failures, end="")
    return 0 if all(row.ok is not False for row in measured) else 1


def _prepare(access: Access, spaces: Sequence[str], references: dict[str, str]) -> None:
    """Empty namespaces, and an operator that works in them."""
    # Together, since what is left in them drains for minutes.
    access.handle.kubectl("delete", "namespace", *spaces, "--ignore-not-found", "--timeout=600s")
    for space in spaces:
        access.handle.apply(yaml.safe_dump({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": space}}))
    values = {"watch": {"namespaces": list(spaces)}}
    operator.install(access, references["operator"], access.handle.prometheus_in_cluster, values)


def _scenario(access: Access, space: str, image: str, watches: ExitStack) -> Scenario:
    pods = watches.enter_context(PodWatch(access, space, selector(_NAME)))
    return Scenario(access, space, service(_NAME, image), pods, LoadGenerator(access=access, namespace=space))


def rows(found: Sequence[Played]) -> Sequence[Row]:
    """What came of all services."""
    totals = [played.totals for played in found]
    sent, lost = sum(total.sent for total in totals), sum(total.sent - total.succeeded for total in totals)
    exposed = [seconds for played in found for seconds in played.exposed]
    kept, taken_back = sum(played.kept for played in found), sum(played.taken_back for played in found)
    return (
        at_most(
            "rollouts under load with streams of 30 s: requests lost", lost, 0,
            detail=f"of {sent:,} in {kept + taken_back} rollouts, {kept} promoted and {taken_back} rolled back",
        ),
        told("the same: a stream takes, median", statistics.median(p.stream_seconds for p in found), unit="s"),
        told("the same: fewest ready pods of two", min(played.least_ready for played in found), unit="pods"),
        at_most(
            "gross harm: from the first bad sample to no traffic, longest", max(exposed), 30, unit="s",
            detail=f"median {statistics.median(exposed):.1f} s; tokens six times slower, twice the objective",
        ),
    )  # fmt: skip


if __name__ == "__main__":
    raise SystemExit(main())
