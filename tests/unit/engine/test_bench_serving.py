"""How the serving benchmark reads its rounds: how far chance may have moved a median, and work by process."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.bench.serving.processes import Work, memory_bytes, work
from tests.bench.serving.turns import Measured, more_work, spread
from trimtab_engine.bench.result import Scenario

# Works for a while, has a child that does, too, and then waits to be ended.
BUSY = """
import os, sys, time
def spin(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end: pass
if os.fork() == 0:
    spin(0.2)
    time.sleep(60)
spin(0.4)
print("ready", flush=True)
time.sleep(60)
"""


@dataclass
class Program:
    process: subprocess.Popen[bytes]


@pytest.fixture
def program() -> Iterator[Program]:
    with subprocess.Popen([sys.executable, "-c", BUSY], stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield Program(process)
        os.killpg(process.pid, 9)


def measured(engine: float, rest: float) -> Measured:
    empty = Scenario(name="load", seconds=1.0, traffic={}, samples=())
    return Measured(scenario=empty, work=Work(engine=engine, rest=rest))


def test_few_values_are_all_told_and_of_many_where_their_median_lies() -> None:
    assert spread([0.9, 1.1]) == "rounds 0.900, 1.100"
    # The ranks 10 and 21 of 30, and 3 and 10 of 12: tables of the sign test.
    assert spread([float(value) for value in range(1, 31)]) == "30 rounds, 95 %: 10.000 to 21.000"
    assert spread([float(value) for value in range(12, 0, -1)]) == "12 rounds, 95 %: 3.000 to 10.000"


def test_more_work_is_that_beside_the_engine_as_a_share_of_all_of_it() -> None:
    over = [measured(5000e-6, 400e-6), measured(3000e-6, 420e-6), measured(3000e-6, 700e-6)]
    under = [measured(3700e-6, 300e-6), measured(3700e-6, 300e-6), measured(3700e-6, 300e-6)]
    more, detail = more_work(over, under)
    assert more == pytest.approx(3.0)
    assert detail == "420 µs over 300 of 4000; rounds 2.500, 3.000, 10.000"


def test_the_work_of_a_server_is_that_of_all_its_processes(program: Program) -> None:
    deadline = time.monotonic() + 20
    while (found := work(program)).rest < 0.55:
        assert time.monotonic() < deadline, found
    assert found.engine == 0.0
    assert found.since(Work(engine=0.0, rest=found.rest - 0.5), 100).all == pytest.approx(0.005)
    assert memory_bytes(program) > 1e6
