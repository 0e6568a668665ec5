"""PyTorch by the continuous batching of transformers: slower than vLLM, and runs wherever torch does.

Only `generator`, `scoped` and, when it is asked, `attention` import torch and transformers.
"""

LIBRARIES = ("torch", "transformers", "uvicorn")
