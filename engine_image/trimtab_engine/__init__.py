"""Programs of the engine image: they run beside the engine, in its container."""
