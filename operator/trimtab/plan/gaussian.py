"""The posterior of jointly normal errors, of which some were observed.

Both places that learn from measurements use it, each with a covariance of its own: `calibration` over what a cluster
was seen to do, `search` over the candidates of one deployment (docs/planner.md says why they are two).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def posterior(observed: Floats, within: Floats, across: Floats) -> tuple[Floats, Floats]:
    """What the observations say of other errors: their means, and the covariance that is explained (to be subtracted).

    `observed` (n): the errors seen. `within` (n, n): their covariance with the noise of measuring. `across` (m, n):
    the covariance of the m asked for with them. Rasmussen and Williams, 2006, equations 2.25 and 2.26.
    """
    solved = np.linalg.solve(within, np.column_stack([observed, across.T]))
    return np.asarray(across @ solved[:, 0]), np.asarray(across @ solved[:, 1:])


def explained_variance(observed: Floats, within: Floats, across: Floats) -> tuple[Floats, Floats]:
    """As `posterior`, but only the diagonal of what is explained: for thousands of errors at once."""
    solved = np.linalg.solve(within, np.column_stack([observed, across.T]))
    return np.asarray(across @ solved[:, 0]), np.asarray(np.einsum("ij,ji->i", across, solved[:, 1:]))
