"""The shell: gathers facts, asks the pure rooms what they mean, performs what they decide, and writes what happened."""
