"""Quantities of Kubernetes, like `24Gi` and `500m`."""

from __future__ import annotations

from decimal import Decimal

from kubernetes.utils.quantity import parse_quantity


def whole(quantity: object) -> int | None:
    """The quantity in its base unit (bytes for memory), rounded down; None for what is absent or is no quantity."""
    found = _parsed(quantity)
    return None if found is None else int(found)


def milli(quantity: object) -> int | None:
    """The quantity in thousandths of its base unit, rounded down; None for what is absent or is no quantity."""
    found = _parsed(quantity)
    return None if found is None else int(found * 1000)


def _parsed(quantity: object) -> Decimal | None:
    if not isinstance(quantity, str | int | float) or isinstance(quantity, bool):
        return None
    try:
        return Decimal(parse_quantity(quantity))  # type: ignore[no-untyped-call]
    except (ValueError, ArithmeticError):
        return None
