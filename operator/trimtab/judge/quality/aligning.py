"""Which probes can be compared: those that stable answered both times, with what the canary said to them."""

from __future__ import annotations

from dataclasses import dataclass

from trimtab.model.quality import Failed, Outcome, Probe, Scored


@dataclass(frozen=True, slots=True)
class Aligned:
    """`stable`, `again` and `canary` are of one length, one answer for each probe that all three answered.

    `asked`: the probes that stable answered both times; `failed`: those of them at which the canary failed, and how;
    `refused`: how stable itself failed at the first that it did not answer.
    """

    stable: tuple[Scored, ...]
    again: tuple[Scored, ...]
    canary: tuple[Scored, ...]
    asked: int
    failed: tuple[tuple[Probe, Failed], ...]
    refused: Failed | None


def aligned(
    probes: tuple[Probe, ...],
    stable: tuple[Outcome, ...],
    again: tuple[Outcome, ...],
    canary: tuple[Outcome, ...],
) -> Aligned:
    """Raises ValueError when the answers are not one for each probe."""
    rows: list[tuple[Scored, Scored, Scored]] = []
    failed: list[tuple[Probe, Failed]] = []
    refused: Failed | None = None
    for probe, one, two, three in zip(probes, stable, again, canary, strict=True):
        if isinstance(one, Failed) or isinstance(two, Failed):
            refused = refused or (one if isinstance(one, Failed) else two if isinstance(two, Failed) else None)
        elif isinstance(three, Failed):
            failed.append((probe, three))
        else:
            rows.append((one, two, three))
    return Aligned(
        stable=tuple(row[0] for row in rows),
        again=tuple(row[1] for row in rows),
        canary=tuple(row[2] for row in rows),
        asked=len(rows) + len(failed),
        failed=tuple(failed),
        refused=refused,
    )
