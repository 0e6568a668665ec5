"""Ports for programs that start a moment later, in tests that run side by side."""

from __future__ import annotations

import subprocess
import sys

from tests.testkit.ports import free_port
from tests.testkit.running import ROOT

_ASK = "from tests.testkit import ports; print(ports._is_ours(int(input())), ports.free_port())"


def test_a_port_that_was_given_is_given_to_no_other_process_and_not_twice_to_one() -> None:
    mine = [free_port() for _ in range(50)]
    assert len(set(mine)) == 50
    asked = subprocess.run(
        [sys.executable, "-c", _ASK], input=f"{mine[0]}\n", cwd=ROOT, capture_output=True, text=True, check=True
    )
    whether, other = asked.stdout.split()
    assert whether == "False"
    assert int(other) not in mine
