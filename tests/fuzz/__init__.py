"""Random calls of all public functions, compared with slow references: `python -m tests.fuzz`."""
