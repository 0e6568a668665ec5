"""Whether tokens are guessed: one file, replaced whole, that the processes of a server write and read."""

from __future__ import annotations

import logging
from pathlib import Path

from trimtab_engine.shared.folder import SPECULATION, Replaced, read_json, replace_json
from trimtab_engine.speculation.switch import Switch, switch_from_json

log = logging.getLogger("trimtab_engine.speculation")


class SwitchFile:
    """The file in the run folder."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / SPECULATION
        self._file = Replaced(self.path)

    def read(self) -> Switch | None:
        """What it says now; None where nobody has asked for guesses."""
        document = read_json(self.path)
        return None if document is None else switch_from_json(document)

    def news(self) -> Switch | None:
        """The same, once after each change. One look costs a microsecond. What cannot be read changes nothing."""
        mark = self._file.news()
        if mark is None:
            return None
        self._file.taken = mark
        try:
            return self.read()
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.error("Guessing stays as it is: the switch cannot be read: %s", error)
            return None

    def write(self, switch: Switch) -> None:
        replace_json(self.path, switch.as_json())
