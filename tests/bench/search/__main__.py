"""Canaries until 98 % of the best of an exhaustive grid.

python -m tests.bench.search [--seeds 20] [--budget 20] [--out build/bench/planner.json]
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.bench.planner.report import Result, markdown, results, write
from tests.bench.search.problems import problem
from tests.bench.search.strategies import STRATEGIES, Problem

_ENOUGH = 0.98


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """One strategy on one seed. `canaries` is None when 98 % was not reached within the budget."""

    strategy: str
    seed: int
    canaries: int | None
    reached: float  # of the best of the grid
    tried: int
    broke: int  # trials that broke the SLO
    broke_safe: int  # of those that the strategy had called safe


def score(found: Problem, strategy: str, seed: int, budget: int) -> Score:
    """Runs one strategy; the best of the grid is the best measured row that keeps the limits."""
    goal = found.goal
    rows = [found.measure(row) for row in range(found.space.count)]
    best = max(measured[goal.objective] for measured in rows if goal.kept(measured))
    first = found.measure(found.start)
    reached = first[goal.objective] / best if goal.kept(first) else 0.0
    canaries: int | None = 0 if reached >= _ENOUGH else None
    tried = broke = broke_safe = 0
    for trial in STRATEGIES[strategy](found, seed):
        tried += 1
        if goal.kept(trial.measured):
            reached = max(reached, trial.measured[goal.objective] / best)
        else:
            broke += 1
            broke_safe += trial.called_safe
        if canaries is None and reached >= _ENOUGH:
            canaries = tried
        if tried >= budget or (canaries is not None and strategy != "trimtab"):
            break
    return Score(
        strategy=strategy,
        seed=seed,
        canaries=canaries,
        reached=reached,
        tried=tried,
        broke=broke,
        broke_safe=broke_safe,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--budget", type=int, default=20)
    parser.add_argument("--out", type=Path, default=Path("build/bench/planner.json"))
    given = parser.parse_args()
    scores: list[Score] = []
    for seed in range(given.seeds):
        found = problem(seed)
        scores += [score(found, strategy, seed, given.budget) for strategy in STRATEGIES]
        told = (f"{s.strategy} {s.canaries} ({s.reached:.2f}, {s.broke} broke)" for s in scores[-len(STRATEGIES) :])
        print(f"seed {seed}: {', '.join(told)}", file=sys.stderr, flush=True)
    summary = [result for strategy in STRATEGIES for result in _summary(strategy, scores, given.budget)]
    write(summary, given.out)
    print(markdown(summary))
    return 0


def _summary(strategy: str, scores: Sequence[Score], budget: int) -> list[Result]:
    own = [s for s in scores if s.strategy == strategy]
    barred = strategy == "trimtab"
    median = statistics.median(s.canaries if s.canaries is not None else budget + 1 for s in own)
    unsafe = 100 * sum(s.broke_safe > 0 for s in own) / len(own)
    missed = 100 * sum(s.canaries is None for s in own) / len(own)
    name = f"search, {strategy}"
    return results(
        (f"{name}: canaries to 98 % of the best, median", median, "canaries", 3 if barred else None),
        (f"{name}: trials that broke the SLO, of {len(own)} runs", sum(s.broke for s in own), "trials", None),
        (f"{name}: runs that do not come to 98 %", missed, "%", None),
        *([(f"{name}: runs with a broken SLO that was called safe", unsafe, "%", 5)] if barred else []),
    )


if __name__ == "__main__":
    sys.exit(main())
