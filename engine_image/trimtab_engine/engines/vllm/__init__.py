"""vLLM, served by vLLM's own server, with a scheduler whose limits change while it serves.

Only `scheduler` imports vLLM.
"""

LIBRARIES = ("vllm",)
