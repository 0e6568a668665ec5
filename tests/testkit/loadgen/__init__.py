"""A load generator for an OpenAI-compatible server that counts every request exactly once.

    python -m tests.testkit.loadgen --url http://127.0.0.1:8000/v1 --concurrency 16 --prompt-tokens 64

`workload` makes prompts and arrival times from a seed (pure), `client` sends one request, `ledger` counts (pure),
`runner` keeps the traffic going, `control` serves `/stats`, `/metrics` and `/control`, `safety` refuses targets that
are not on this machine or in a private network.
"""
