"""The candidates of a search: every combination of the values that each knob may take."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from trimtab.model.config import KnobValue
from trimtab.plan.search.candidates import Bools, Floats


@dataclass(frozen=True, slots=True)
class Axis:
    """A knob and the values that it may take, without repetition; at least one."""

    knob: str
    values: tuple[KnobValue, ...]

    def __post_init__(self) -> None:
        if not self.values or len(set(self.values)) != len(self.values):
            raise ValueError(f"{self.knob}: {self.values!r} are not one or more different values")

    @property
    def is_numeric(self) -> bool:
        return all(isinstance(v, int) and not isinstance(v, bool) and v > 0 for v in self.values)


@dataclass(frozen=True, slots=True)
class Space:
    """Rows of `index` are configurations: index[row, axis] is the position among the axis' values."""

    axes: tuple[Axis, ...]
    index: NDArray[np.intp]  # (rows, axes)

    @classmethod
    def of(cls, axes: Sequence[Axis]) -> Space:
        """All combinations; the last axis changes fastest."""
        sizes = [len(axis.values) for axis in axes]
        index = np.indices(sizes).reshape(len(sizes), math.prod(sizes)).T
        return cls(tuple(axes), np.ascontiguousarray(index, dtype=np.intp))

    @property
    def count(self) -> int:
        return int(self.index.shape[0])

    def where(self, kept: Bools) -> Space:
        """The rows for which `kept` holds, in the same order."""
        return replace(self, index=self.index[kept])

    def config(self, row: int) -> dict[str, KnobValue]:
        """One configuration."""
        return {axis.knob: axis.values[self.index[row, n]] for n, axis in enumerate(self.axes)}

    def row(self, config: Mapping[str, KnobValue]) -> int | None:
        """Where a configuration stands, or None when it is not in the space; other knobs of it are not looked at."""
        try:
            wanted = [axis.values.index(config[axis.knob]) for axis in self.axes]
        except (KeyError, ValueError):
            return None
        found = np.flatnonzero((self.index == wanted).all(axis=1))
        return int(found[0]) if len(found) else None

    def numbers(self, knob: str) -> Floats:
        """The values of a numeric knob, a number per row. Raises KeyError when it is no axis."""
        position = self._position(knob)
        return np.array(self.axes[position].values, np.float64)[self.index[:, position]]

    def choices(self, knob: str) -> NDArray[np.intp]:
        """The positions of a knob's values, one per row. Raises KeyError when it is no axis."""
        return self.index[:, self._position(knob)]

    def features(self) -> Floats:
        """(rows, features): binary logarithms of numbers; a column per value of a choice, two of which differ by 1."""
        columns = []
        for position, axis in enumerate(self.axes):
            if axis.is_numeric:
                columns.append(np.log2(self.numbers(axis.knob)))
            else:
                here = self.index[:, position]
                columns += [(here == n) / math.sqrt(2.0) for n in range(len(axis.values))]
        return np.column_stack(columns) if columns else np.zeros((self.count, 0))

    def _position(self, knob: str) -> int:
        for position, axis in enumerate(self.axes):
            if axis.knob == knob:
                return position
        raise KeyError(f"{knob} is no axis of this space")
