"""What the command says of itself, and of what it does not understand."""

from __future__ import annotations

import re

import pytest

from command_line import refused, run
from marginseg.cli.errors import _repeat_names


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("--std 0 0.03 0.06 --folds 2", "--std 0 --std 0.03 --std 0.06 --folds 2"),
        ("--std 0 --std 1", "--std 0 --std 1"),
        ("--std=0 1 -o x", "--std=0 --std 1 -o x"),
        ("--std 0 -0.1 1e-2 file", "--std 0 --std -0.1 --std 1e-2 file"),
        ("--structure a b --std 1", "--structure a --structure b --std 1"),
        ("--structure --std", "--structure --std"),
        ("--std", "--std"),
        ("--std 0 -- 1 2", "--std 0 -- 1 2"),
        ("file --std 1 2", "file --std 1 --std 2"),
    ],
)
def test_several_values_after_one_name(given: str, expected: str) -> None:
    several = {"--std": True, "--structure": False}
    assert _repeat_names(given.split(), several) == expected.split()


@pytest.mark.parametrize("command", ["study", "threshold", "noise", "marginals", "figure1", "info"])
def test_help(command: str) -> None:
    for flag in ("--help", "-h"):
        result = run(command, flag)
        assert result.exit_code == 0
        assert f"marginseg {command}" in re.sub(r"\s+", " ", result.stdout)
    assert command in run().stdout


def test_usage_errors() -> None:
    refused(run("frobnicate"), "frobnicate")
    refused(run("threshold"), "PROB")
    refused(run("info", "--loud"), "--loud")
