"""Real vLLM on the CPU: the virtual environment, a server for tests, and recordings of what it says."""
