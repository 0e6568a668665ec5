"""The demo: `python -m tests.e2e.demo` shows the loop closed on a real cluster, and measures it.

A service of two engine pods with a bad configuration runs under load. Trimtab says what is wrong, plans, tries its plan
on a canary and promotes it. Then a harmful change of the user is rolled back, and one that cannot start is abandoned.
A load generator in the cluster counts every request.
"""
