"""The thread that kills the operator while the demo plays."""

from __future__ import annotations

import threading

from tests.e2e.demo.kills import Kills


def test_it_kills_until_the_block_ends_and_then_no_more() -> None:
    twice, killed = threading.Event(), []

    def kill() -> None:
        killed.append(1)
        if len(killed) >= 2:
            twice.set()

    with Kills(kill, 0.01) as kills:
        assert twice.wait(30)
    count = kills.count
    assert count == len(killed) >= 2
    assert not any(thread.name == "kills" for thread in threading.enumerate())


def test_without_seconds_nothing_is_killed() -> None:
    with Kills(lambda: None, 0.0) as kills:
        assert not any(thread.name == "kills" for thread in threading.enumerate())
    assert kills.count == 0
