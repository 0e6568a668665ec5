"""The token of the endpoints that change something, and who may read."""

from __future__ import annotations

import hmac
from enum import Enum, auto
from pathlib import Path

SHORTEST = 16


class Door(Enum):
    """What a caller with these credentials finds."""

    OPEN = auto()
    SHUT = auto()  # the wrong token or none
    OFF = auto()  # no token is set up, so nobody may


def may_change(token_file: Path | None, authorization: str | None) -> tuple[Door, str]:
    """Whether a caller may change something, and why not. The file is read each time: a mounted Secret is renewed."""
    if token_file is None:
        return Door.OFF, "The endpoint is off: the server has no server.token_file."
    try:
        token = token_file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return Door.OFF, "The endpoint is off: the file named by server.token_file cannot be read."
    if len(token) < SHORTEST:
        return Door.OFF, f"The endpoint is off: the token in server.token_file has fewer than {SHORTEST} characters."
    if matches(authorization, token):
        return Door.OPEN, ""
    return Door.SHUT, "The token is missing or wrong: send it as `Authorization: Bearer TOKEN`."


def matches(authorization: str | None, token: str) -> bool:
    """Whether the header carries this token; the time that takes says nothing about the token."""
    scheme, _, given = (authorization or "").partition(" ")
    return scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), token.encode())
