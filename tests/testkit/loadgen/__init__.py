"""A load generator for an OpenAI-compatible server that counts every request exactly once.

    python -m tests.testkit.loadgen --url http://127.0.0.1:8000/v1 --concurrency 16 --prompt-tokens 64

It is `trimtab_engine.load` with a command line for tests, and with `control`, which serves `/stats`, `/metrics` and
`/control`.
"""
