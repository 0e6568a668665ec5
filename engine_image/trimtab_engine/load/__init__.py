"""Load on an OpenAI-compatible server, with every request counted exactly once. `trimtab-engine bench` and the tests'
load generator send with it.

`workload` makes prompts and arrival times from a seed (pure), `trace` reads recorded ones (pure), `client` sends one
request, `ledger` counts (pure), `runner` keeps the traffic going, `safety` refuses targets that are neither on this
machine nor in a private network.
"""
