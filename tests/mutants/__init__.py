"""Wrong versions of the code, each of which the tests have to notice: `python -m tests.mutants`."""
