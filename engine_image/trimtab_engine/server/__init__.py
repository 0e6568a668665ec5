"""What stands before every engine: admission, time-outs, health, live settings and the endpoints for them.

It runs inside the engine's own HTTP server, as an ASGI middleware (`gate`).
"""
