"""The engines that can serve: one folder each."""
