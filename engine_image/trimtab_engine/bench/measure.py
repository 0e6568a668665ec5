"""Puts traffic on a server and writes down each request."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from trimtab_engine.bench.result import Result, Sample, Scenario
from trimtab_engine.bench.server import Server
from trimtab_engine.load.client import Result as Answer
from trimtab_engine.load.client import Target
from trimtab_engine.load.ledger import Ledger
from trimtab_engine.load.runner import Observer, Runner, Traffic
from trimtab_engine.load.workload import Asking


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One scenario. What begins in the first `settle_seconds` is not counted: queues and caches fill then."""

    name: str
    traffic: Traffic
    asking: Asking
    stream: bool = True
    settle_seconds: float = 0.0


class _Samples(Observer):
    """Every request as it ends."""

    def __init__(self) -> None:
        self.began = time.perf_counter()
        self.found: list[Sample] = []

    def ended(self, result: Answer) -> None:
        self.found.append(
            Sample(
                began=time.perf_counter() - self.began - result.seconds,
                seconds=result.seconds,
                ttft=result.ttft,
                prompt_tokens=result.prompt_tokens,
                output_tokens=result.output_tokens,
                reason=result.reason,
                text=result.text or None,
            )
        )


async def scenario(server: Server, target: Target, plan: Plan) -> Scenario:
    """Runs it to its end."""
    samples = _Samples()
    wanted = Target(**{**asdict(target), "stream": plan.stream})
    runner = Runner(wanted, plan.asking, plan.traffic, ledger := Ledger(), observer=samples, log=lambda _: None)
    await runner.run()
    found = sorted(samples.found, key=lambda sample: sample.began)
    counted = [sample for sample in found if sample.began >= plan.settle_seconds] or found
    begin = plan.settle_seconds if counted and counted[0].began >= plan.settle_seconds else 0.0
    end = max((sample.began + sample.seconds for sample in counted), default=begin)
    return Scenario(
        name=plan.name,
        seconds=max(end - begin, 1e-6),
        traffic=_shown(plan),
        samples=tuple(_since(sample, begin) for sample in counted),
        skipped=ledger.total.skipped,
        memory_bytes=await server.memory_bytes(),
    )


async def measure(
    server: Server, target: Target, plans: list[Plan], *, label: str, metadata: Mapping[str, Any] | None = None
) -> Result:
    """All scenarios, one after the other."""
    about = await server.about()
    began = datetime.now(UTC).isoformat(timespec="seconds")
    load_before = os.getloadavg()
    found = []
    for plan in plans:
        found.append(await scenario(server, target, plan))
        await asyncio.sleep(0)
    return Result(
        label=label,
        engine=about.engine,
        model=target.model,
        began=began,
        scenarios=tuple(found),
        metadata={
            "version": about.version,
            "limits": about.status.get("limits"),
            "cores": os.cpu_count(),
            "load_average_before": [round(value, 2) for value in load_before],
            "load_average_after": [round(value, 2) for value in os.getloadavg()],
            **(metadata or {}),
        },
    )


def _since(sample: Sample, begin: float) -> Sample:
    return Sample(**{**asdict(sample), "began": sample.began - begin})


def _shown(plan: Plan) -> dict[str, Any]:
    """The traffic as it is written down; the arrivals of a recording are in the samples."""
    shown = {name: value for name, value in asdict(plan.traffic).items() if value is not None and name != "offsets"}
    return {**shown, "stream": plan.stream, "settle_seconds": plan.settle_seconds, "seed": plan.asking.seed}
