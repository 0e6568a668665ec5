"""The image's HEALTHCHECK: the server answers GET /health with 200 for as long as one of its engines serves.

Docker and Podman ask it for as long as the container runs, under load too, so that no completion is asked for: it would
wait in the queue. Kubernetes does not know it; there the probe and a GET of /health do this (docs/engine/deploying.md).
Only the standard library is used.
"""

from __future__ import annotations

import argparse
import http.client
import os
import sys
from collections.abc import Sequence

PORT_VARIABLE = "TRIMTAB_ENGINE_SERVER__PORT"


def why_not(host: str, port: int, seconds: float) -> str:
    """Empty where /health answers 200; otherwise what is wrong, as a sentence."""
    connection = http.client.HTTPConnection(host, port, timeout=seconds)
    try:
        connection.request("GET", "/health")
        answer = connection.getresponse()
        text = answer.read().decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        return f"/health on port {port} does not answer: {error or type(error).__name__}"
    finally:
        connection.close()
    return "" if answer.status == 200 else f"/health answers {answer.status}: {' '.join(text.split())[:300]}"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="alive", description="End with 0 when /health answers 200.")
    parser.add_argument("--host", default="127.0.0.1")
    port = os.environ.get(PORT_VARIABLE) or "8000"
    parser.add_argument("--port", type=int, default=port, help=f"default: {PORT_VARIABLE}, or 8000")
    parser.add_argument("--timeout", type=float, default=5.0, help="seconds for the request")
    args = parser.parse_args(arguments)
    wrong = why_not(args.host, args.port, args.timeout)
    if wrong:
        print(f"not alive: {wrong}", file=sys.stderr)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
