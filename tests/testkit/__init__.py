"""Programs that the tests run: the engine emulator and the load generator."""
