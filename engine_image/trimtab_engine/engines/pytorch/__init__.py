"""PyTorch by the continuous batching of transformers: slower than vLLM, and runs wherever torch does.

Only `generator` imports torch and transformers.
"""

LIBRARIES = ("torch", "transformers", "uvicorn")
