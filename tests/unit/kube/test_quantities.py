"""Quantities of Kubernetes."""

from __future__ import annotations

import pytest

from trimtab.kube.quantities import whole


@pytest.mark.parametrize(
    ("quantity", "number"),
    [("24Gi", 24 * 2**30), ("1500m", 1), ("2e3", 2000), (7, 7), ("12", 12), ("1k", 1000), ("0.5Gi", 2**29)],
)
def test_a_quantity_is_read_in_its_base_unit(quantity: object, number: int) -> None:
    assert whole(quantity) == number


@pytest.mark.parametrize("quantity", [None, "", "much", "12Qi", True, {"memory": "1Gi"}])
def test_what_is_no_quantity_is_not_known(quantity: object) -> None:
    assert whole(quantity) is None
