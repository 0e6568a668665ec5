"""The planner's benchmarks: `python -m tests.bench.planner COMMAND` from the root of the repository."""
