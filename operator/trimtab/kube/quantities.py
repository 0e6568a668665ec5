"""Quantities of Kubernetes, like `24Gi` and `500m`."""

from __future__ import annotations

from kubernetes.utils.quantity import parse_quantity


def whole(quantity: object) -> int | None:
    """The quantity in its base unit (bytes for memory), rounded down; None for what is absent or is no quantity."""
    if not isinstance(quantity, str | int | float) or isinstance(quantity, bool):
        return None
    try:
        return int(parse_quantity(quantity))  # type: ignore[no-untyped-call]
    except (ValueError, ArithmeticError):
        return None
