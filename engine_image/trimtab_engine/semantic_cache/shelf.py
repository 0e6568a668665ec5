"""The vectors of one partition, and the nearest of them.

Few are compared one by one. Many are put into lists around centres, and only the lists with the nearest centres are
looked through: FAISS's IndexIVFFlat (Douze et al., "The Faiss library", 2024). Near copies, which is what is asked for,
are in the same list or in one next to it. A graph index (HNSW) finds as fast, but FAISS's cannot forget single vectors.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from trimtab_engine.semantic_cache.embed import Vector

EXACT = 4096  # up to here a look at all of them takes less than a millisecond
GROWTH = 8  # the lists are made anew when there are so many times more vectors
PROBES = 8
TRAINED_ON = 50  # vectors for each centre; FAISS asks for 39
_HASHTABLE = 2  # faiss::DirectMap::Hashtable: lists can then forget a vector by its number
ROUNDS = 6  # of k-means; more bring nothing that a look-up would notice


class Shelf:
    """Numbers with vectors of length one. Not for several threads at once."""

    def __init__(self, width: int) -> None:
        self._width = width
        self._rows: NDArray[np.float32] = np.empty((0, width), dtype=np.float32)
        self._numbers: NDArray[np.int64] = np.empty(0, dtype=np.int64)
        self._places: dict[int, int] = {}
        self._lists: Any = None
        self._next = EXACT

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, number: int) -> bool:
        return number in self._places

    def add(self, number: int, vector: Vector) -> None:
        """`number` must be a new one."""
        place = len(self._places)
        if place == len(self._rows):
            more = max(4, place)
            self._rows = np.concatenate([self._rows, np.empty((more, self._width), dtype=np.float32)])
            self._numbers = np.concatenate([self._numbers, np.empty(more, dtype=np.int64)])
        self._rows[place], self._numbers[place], self._places[number] = vector, number, place
        if self._lists is not None:
            self._lists.add_with_ids(vector[None, :], np.asarray([number], dtype=np.int64))
        if len(self._places) > self._next:
            self._make_lists()

    def remove(self, number: int) -> None:
        """The last one takes its place."""
        place, last = self._places.pop(number), len(self._places)
        if place != last:
            moved = int(self._numbers[last])
            self._rows[place], self._numbers[place], self._places[moved] = self._rows[last], moved, place
        if self._lists is not None:
            self._lists.remove_ids(np.asarray([number], dtype=np.int64))

    def nearest(self, vector: Vector) -> tuple[int, float] | None:
        """The number of the nearest vector and its cosine; None where there is none near."""
        count = len(self._places)
        if not count:
            return None
        if self._lists is None:
            cosines = self._rows[:count] @ vector
            best = int(np.argmax(cosines))
            return int(self._numbers[best]), float(cosines[best])
        cosines, numbers = self._lists.search(vector[None, :], 1)
        return (int(numbers[0][0]), float(cosines[0][0])) if numbers[0][0] >= 0 else None

    def _make_lists(self) -> None:
        """From all vectors that are there; takes a tenth of a second or two for ten thousands of them."""
        import faiss

        faiss.omp_set_num_threads(1)
        count = len(self._places)
        centres = max(16, 1 << (int(np.sqrt(count)).bit_length() - 1))
        lists = faiss.IndexIVFFlat(faiss.IndexFlatIP(self._width), self._width, centres, faiss.METRIC_INNER_PRODUCT)
        lists.cp.niter = ROUNDS
        lists.nprobe = PROBES
        sample = np.random.default_rng(0).permutation(count)[: TRAINED_ON * centres]
        lists.train(self._rows[sample])
        lists.set_direct_map_type(_HASHTABLE)
        lists.add_with_ids(self._rows[:count], self._numbers[:count])
        self._lists, self._next = lists, GROWTH * count
