"""Start-up probe: the engine is ready when it has completed one token, not when its port is open.

It asks the engine's own OpenAI API for one token and ends with 0, or with 1 and a sentence on stderr. It is meant as
a startupProbe, while no traffic comes yet: under load the completion would wait in the queue like any other, so
the readinessProbe is a plain GET of /health.

Only the standard library is used and nothing else of this package, so that any engine image with Python can run it:
`python3 -m trimtab_engine.probe --port 8000`, or with this file's text as `python3 -c TEXT --port 8000`.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass

Json = dict[str, object]


class NotReadyError(Exception):
    """Why the engine is not ready, as a sentence."""


@dataclass(frozen=True, kw_only=True)
class Engine:
    """Where the engine's API is; `api_key` is empty where it asks for none. Seconds are per request."""

    host: str
    port: int
    api_key: str = ""
    seconds: float = 10.0

    def ask(self, method: str, path: str, body: Json | None = None) -> Json:
        """The JSON object that the engine answers with status 200; anything else raises NotReadyError."""
        headers = {"content-type": "application/json"}
        if self.api_key:
            headers["authorization"] = f"Bearer {self.api_key}"
        connection = http.client.HTTPConnection(self.host, self.port, timeout=self.seconds)
        try:
            connection.request(method, path, json.dumps(body) if body else None, headers)
            answer = connection.getresponse()
            text = answer.read().decode(errors="replace")
        except (OSError, http.client.HTTPException) as error:
            raise NotReadyError(
                f"{path} on port {self.port} does not answer: {error or type(error).__name__}"
            ) from error
        finally:
            connection.close()
        if answer.status != 200:
            raise NotReadyError(f"{path} answers {answer.status}: {' '.join(text.split())[:300]}")
        try:
            document = json.loads(text)
        except ValueError as error:
            raise NotReadyError(f"{path} does not answer JSON: {text[:100]!r}") from error
        if not isinstance(document, dict):
            raise NotReadyError(f"{path} does not answer a JSON object: {text[:100]!r}")
        return document


def first_model(engine: Engine) -> str:
    """The name under which the engine serves its first model."""
    models = engine.ask("GET", "/v1/models").get("data")
    if isinstance(models, list) and models and isinstance(models[0], dict) and isinstance(models[0].get("id"), str):
        return str(models[0]["id"])
    raise NotReadyError("/v1/models names no model")


def complete_one_token(engine: Engine, model: str) -> None:
    """Returns when the engine has completed one token; raises NotReadyError otherwise."""
    body: Json = {"model": model, "prompt": "Ready?", "max_tokens": 1, "temperature": 0}
    choices = engine.ask("POST", "/v1/completions", body).get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise NotReadyError("/v1/completions answers without a completion")
    if choices[0].get("finish_reason") not in {"length", "stop"}:
        raise NotReadyError(f"the completion ended with {choices[0].get('finish_reason')!r}")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="probe", description="End with 0 when the engine completes one token.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--model", default="", help="default: the first that the engine names")
    parser.add_argument("--timeout", type=float, default=10.0, help="seconds for each of the two requests")
    parser.add_argument("--api-key-env", default="VLLM_API_KEY", help="environment variable that holds the API key")
    args = parser.parse_args(arguments)
    key = os.environ.get(args.api_key_env, "")
    engine = Engine(host=args.host, port=args.port, api_key=key, seconds=args.timeout)
    try:
        complete_one_token(engine, args.model or first_model(engine))
    except NotReadyError as error:
        print(f"not ready: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
