"""The mounted settings file, looked at from time to time.

A file counts once two looks in a row saw the same text, so that one that is being written is left alone. A ConfigMap is
mounted through links that Kubernetes exchanges as a whole; looking at the text itself needs to know nothing of that.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from trimtab_engine.limits.parse import LARGEST_TEXT


@dataclass(frozen=True, kw_only=True)
class Look:
    """A text, or why there is none."""

    text: str | None = None
    problem: str = ""
    gone: bool = False


class SettingsFile:
    """`news` gives each stable state of the file once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._last: Look | None = None
        self._told: Look | None = None

    def news(self) -> Look | None:
        """The file's state where two looks agree on it and it has not been given before; else None."""
        look = self._look()
        stable, self._last = look == self._last, look
        if not stable or look == self._told:
            return None
        self._told = look
        return look

    def again(self) -> None:
        """The state that was given last could not be used, for a reason that is not in it: give it once more."""
        self._told = None

    def _look(self) -> Look:
        try:
            with self.path.open("rb") as file:
                content = file.read(4 * LARGEST_TEXT + 1)
            return Look(text=content.decode("utf-8"))
        except FileNotFoundError:
            return Look(problem="is not there", gone=True)
        except UnicodeDecodeError:
            return Look(problem="is not UTF-8")
        except OSError as error:
            return Look(problem=f"cannot be read: {error.strerror or type(error).__name__}")
