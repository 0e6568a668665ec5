"""What our own engines share: OpenAI's API, requests and replies, the line before the generator, the metrics, checks.

Nothing here imports an engine (the tokenizer is transformers'); each engine brings a generator (`protocol.Generator`).
"""
