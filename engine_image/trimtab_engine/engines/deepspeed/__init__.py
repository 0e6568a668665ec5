"""DeepSpeed: the model cut over several processes (tensor parallelism), with the continuous batching of transformers.

Only `generator` imports DeepSpeed, torch and transformers.
"""

LIBRARIES = ("deepspeed", "torch", "transformers", "uvicorn")
