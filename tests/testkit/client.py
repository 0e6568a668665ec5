"""What tests ask of an engine over HTTP, the emulated and the real one alike."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Mapping
from typing import Any

MODEL_NAME = "m75"


class EngineClient:
    """Requests to the engine at `url`; each raises OSError when nobody answers within `seconds`."""

    url: str
    model: str = MODEL_NAME

    def get(self, path: str, seconds: float = 30) -> str:
        """The text of a GET."""
        with urllib.request.urlopen(self.url + path, timeout=seconds) as answer:
            return str(answer.read().decode())

    def post(self, path: str, body: Mapping[str, object], seconds: float = 120) -> Any:
        """The answer of a POST, decoded from JSON."""
        return json.loads(self.post_raw(path, body, seconds))

    def post_raw(self, path: str, body: Mapping[str, object], seconds: float = 120) -> str:
        """The text of a POST, for streams; the model's name is filled in."""
        request = urllib.request.Request(
            self.url + path,
            data=json.dumps({"model": self.model, **body}).encode(),
            headers={"content-type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=seconds) as answer:
            return str(answer.read().decode())
