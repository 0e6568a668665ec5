"""Requests and answers over ASGI: what every server of ours says them with."""
