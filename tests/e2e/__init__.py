"""The operator end to end on a real cluster: the demo (`tests.e2e.demo`) and the tests."""
