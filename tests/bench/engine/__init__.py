"""Real vLLM on this machine's CPU: what the planner predicts against what is measured."""
