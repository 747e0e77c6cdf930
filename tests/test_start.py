"""What is there after an import, and what the command does without one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

import marginseg

#: Called with the command's arguments; says at the end whether torch was imported.
COMMAND = """
import sys
from marginseg_command import main
try:
    main()
finally:
    print("torch" in sys.modules)
"""


def python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "order", ["import marginseg, torch", "import torch, marginseg", "import marginseg.noise, torch"]
)
def test_the_ops_are_there_in_either_order(order: str) -> None:
    ops = "warp sample gaussian_field gaussian_filter dice_threshold dice_curve"
    result = python(f"{order}\nfor op in {ops.split()}: getattr(torch.ops.marginseg, op)")
    assert result.returncode == 0, result.stderr


def test_an_exported_program_loads(tmp_path: Path) -> None:
    class Cut(torch.nn.Module):
        def forward(self, p: torch.Tensor) -> torch.Tensor:
            return p >= marginseg.dice_threshold(p, spatial_dims=1).threshold

    torch.export.save(torch.export.export(Cut(), (torch.rand(9),)), tmp_path / "cut.pt2")
    loaded = python(
        "import sys, marginseg, torch\n"
        "program = torch.export.load(sys.argv[1]).module()\n"
        "print(program(torch.tensor([0.9, 0.4, 0.4, 0.1, 0, 0, 0, 0, 0])).sum().item())",
        str(tmp_path / "cut.pt2"),
    )
    assert loaded.returncode == 0, loaded.stderr
    assert loaded.stdout.split() == ["3"]


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        ("", 0),
        ("--help", 0),
        ("study --help", 0),
        ("threshold -h", 0),
        ("frobnicate", 2),
        ("threshold", 2),
        ("noise label.nii --std x -o out", 2),
        ("--version", 0),
        ("study --folds 1 -o out", 2),
        ("study --structure heart -o out", 2),
        ("study --data decathlon -o out", 2),
        ("study --features 8-x -o out", 2),
        ("prepare --data totalsegmentator --dir . -o out", 2),
    ],
)
def test_help_and_wrong_usage_need_no_torch(arguments: str, status: int, tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-c", COMMAND, *arguments.split()],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert result.returncode == status, result.stderr
    assert result.stdout.splitlines()[-1] == "False"
    assert result.stderr.count("\n") == (1 if status else 0)
    assert list(tmp_path.iterdir()) == []


def test_the_command_works_where_the_package_has_not_been_run(tmp_path: Path) -> None:
    result = python(COMMAND, "info")
    assert result.returncode == 0, result.stderr
    assert "instruction set" in result.stdout
    assert result.stdout.splitlines()[-1] == "True"


def test_importing_the_package_costs_little_beyond_torch() -> None:
    """What takes long to import comes with the calls that need it."""
    heavy = ["scipy", "matplotlib", "nibabel", "typer", "rich", "jinja2", "PIL", "ray"]
    code = f"import sys, marginseg\nprint([m for m in {heavy} if m in sys.modules])"
    assert python(code).stdout == "[]\n"


#: Sends Ctrl-C when the module that is named first is asked for; then come the command's arguments.
INTERRUPTED = """
import os, signal, sys
asked = sys.argv.pop(1)
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == asked:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Finder())
from marginseg_command import main
main()
print("went on")
"""


@pytest.mark.parametrize("module", ["marginseg.cli", "typer", "numpy", "torch", "torch.cuda"])
def test_ctrl_c_while_modules_are_imported(module: str) -> None:
    result = python(INTERRUPTED, module, "info")
    assert (result.returncode, result.stdout) == (130, "")
    assert result.stderr == "marginseg: interrupted\n"


def test_who_starts_the_command_may_have_it_ignore_ctrl_c() -> None:
    ignore = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
    result = python(ignore + INTERRUPTED, "typer", "--version")
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("marginseg ")
