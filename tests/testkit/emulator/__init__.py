"""An emulator of one vLLM server: the same flags, the same API and the same metrics, driven by a queueing simulation.

    python -m tests.testkit.emulator serve MODEL --port 8000 --max-num-seqs 16

`scheduler` and `kvcache` are a pure simulation of continuous batching, `profile` says how long one step takes,
`flags` reads the command line as vLLM does, `engine` runs the simulation in real time, `server` speaks HTTP and
`metrics` tells Prometheus. `faults` makes it crash, hang, slow down or run out of memory on demand.
"""

ENGINE_VERSION = "0.32.0"
