"""The figures of a study and of its paper."""
