"""What the command says of itself, and of what it does not understand."""

from __future__ import annotations

import re
from importlib.metadata import version

import pytest

from command_line import refused, run
from marginseg.cli import app
from marginseg.cli.errors import _repeat_names
from marginseg.study.presets import PRESETS


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


@pytest.mark.parametrize(
    ("arguments", "start"),
    [
        ("study --folds 40 --max-cases 50 --patch 30x32x32 -o out", "--patch: expected multiples"),
        ("study --std 0 0 -o out", "--std: expected each once"),
        ("study --features 8 -o out", "--features: expected two levels"),
        ("study --preset quick --folds 73 -o out", "--folds: expected at most the 72 cases"),
    ],
)
def test_a_message_names_the_option(arguments: str, start: str) -> None:
    result = run(*arguments.split())
    refused(result, f"marginseg: {start}")


def test_the_version() -> None:
    result = run("--version")
    assert (result.exit_code, result.stdout) == (0, f"marginseg {version('marginseg')}\n")


def test_the_help_of_a_study_has_the_presets_numbers() -> None:
    words = " ".join(re.sub(r"[│\n]", " ", run("study", "--help").stdout).split())
    for name, config in PRESETS.items():
        said = words.partition(f"{name}: ")[2].partition("trainings")[0]
        runs = len(config.resolved().runs())
        expected = [
            f"{config.phantom_cases} phantoms",
            "x".join(map(str, config.patch_shape)),
            "--std " + " ".join(f"{a:g}" for a in config.std),
            f"{config.folds} folds",
            "-".join(map(str, config.features)),
            f"{config.epochs} epochs",
            f"{runs} ",
        ]
        for part in expected:
            assert part in said, (name, part, said)


@pytest.mark.parametrize("command", ["ceiling", "prepare"])
def test_other_helps_have_the_presets_patches(command: str) -> None:
    words = " ".join(re.sub(r"[│\n]", " ", run(command, "--help").stdout).split())
    for name, config in PRESETS.items():
        said = words.partition(f"{name}: ")[2][:120]
        assert "x".join(map(str, config.patch_shape)) in said, (name, said)
        if command == "ceiling":
            assert f"--std {' '.join(f'{a:g}' for a in config.std)}, " in said


def test_no_help_names_an_option_that_its_command_lacks() -> None:
    for command in app.registered_commands:
        name = command.callback.__name__
        text = run(name, "--help").stdout
        listed = set(re.findall(r"^│ [* ]*(--[\w-]+)", text, re.MULTILINE))
        # The example of another command may stand there.
        others = re.sub(rf"marginseg (?!{name})\w+.*", "", text)
        assert set(re.findall(r"--[a-z][\w-]*", others)) <= listed | {"--help"}, name
