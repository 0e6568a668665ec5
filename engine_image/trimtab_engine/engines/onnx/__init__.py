"""ONNX Runtime on the CPU, with the model converted by onnxruntime-genai and a batcher of ours.

Only `session` imports onnxruntime, only `prepare` torch and transformers' models; the batcher needs numpy alone.
"""

LIBRARIES = ("onnxruntime", "onnxruntime_genai", "onnx_ir", "torch", "transformers", "uvicorn")
