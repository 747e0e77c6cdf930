"""What the documentation shows: its snippets, its commands, its links, and the names in it."""

from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from typer.main import get_command
from typer.testing import CliRunner

from marginseg.cli import app

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
CONTRIBUTING = ROOT / "CONTRIBUTING.md"
GUIDES = sorted((ROOT / "docs" / "guides").glob("*.md"))
ALL = [
    README,
    CONTRIBUTING,
    ROOT / "CHANGELOG.md",
    ROOT / "bench" / "README.md",
    ROOT / "tests" / "cuda_emulation" / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]

#: Commands that train, or need a data set: they have tests of their own, and are only parsed here.
LONG = ("study", "prepare")

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\[[^]\n]*]\(([^)\s]+)\)|<img[^>]*\ssrc=\"([^\"]+)\"")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def name_of(path: Path) -> str:
    """Return a document's path within the repository, to name a test by."""
    return path.relative_to(ROOT).as_posix()


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def blocks(path: Path, language: str) -> list[str]:
    """Return the fenced blocks of a language."""
    return [code for tag, code in _FENCE.findall(read(path)) if tag == language]


def prose(path: Path) -> str:
    """Return the text without its fenced blocks."""
    return _FENCE.sub("", read(path))


def shell_lines(path: Path) -> list[str]:
    """Return the lines of the shell blocks, continued ones joined, without comments."""
    lines = "".join(blocks(path, "sh")).replace("\\\n", " ").splitlines()
    return [line.partition(" # ")[0].strip() for line in lines if line.strip()]


def commands(path: Path) -> list[list[str]]:
    """Return the arguments of every `marginseg` command shown."""
    words = [shlex.split(line) for line in shell_lines(path) if line.startswith("marginseg ")]
    return [line[1:] for line in words]


def links(path: Path) -> list[str]:
    """Return the targets of links and pictures, but for those on the web."""
    text = re.sub(r"`[^`\n]*`", "", prose(path))
    targets = [one or other for one, other in _LINK.findall(text)]
    return [target for target in targets if not re.match(r"[a-z]+:", target)]


def anchors(path: Path) -> set[str]:
    """Return the anchors of the headings, as GitHub makes them."""
    headings = _HEADING.findall(prose(path))
    return {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in headings}


def code_words(path: Path) -> list[str]:
    """Return what stands between single backticks."""
    return re.findall(r"`([^`\n]+)`", prose(path))


def run_snippets(path: Path, section: str | None = None) -> int:
    """Run the Python blocks from top to bottom, in one namespace; return how many there are."""
    names: dict[str, Any] = {"__name__": name_of(path)}
    snippets = blocks(path, "python") if section is None else sections(path)[section]
    for number, code in enumerate(snippets, 1):
        exec(compile(code, f"{name_of(path)}, snippet {number}", "exec"), names)
    return len(snippets)


def sections(path: Path) -> dict[str, list[str]]:
    """Return the Python blocks of each section that has some."""
    parts = re.split(r"^## (.+)$", read(path), flags=re.MULTILINE)
    found = {
        heading: [code for tag, code in _FENCE.findall(text) if tag == "python"]
        for heading, text in zip(parts[1::2], parts[2::2], strict=True)
    }
    return {heading: snippets for heading, snippets in found.items() if snippets}


def imported(snippets: list[str]) -> set[str]:
    """Return the packages that snippets import."""
    nodes = [node for code in snippets for node in ast.walk(ast.parse(code))]
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
    return {name.partition(".")[0] for name in names}


def make_inputs() -> None:
    """Write the volumes that commands are shown with into the current folder."""
    label = np.zeros((20, 24, 28), np.uint8)
    label[6:14, 8:16, 10:18] = 1
    affine = np.diag([1.5, 1.5, 2, 1])
    for name in ("LABEL", "a", "b", "labels/c", "labels/d", "scans/c", "scans/d"):
        Path(name).parent.mkdir(exist_ok=True)
        nibabel.save(nibabel.Nifti1Image(label, affine), f"{name}.nii.gz")
    classes = np.stack([label, 1 - label], axis=-1).astype(np.float32)
    for name in ("MAP", "probs/a", "probs/b", "predictions/c", "predictions/d", "new_maps/e"):
        Path(name).parent.mkdir(exist_ok=True)
        nibabel.save(nibabel.Nifti1Image(0.4 * classes, affine), f"{name}.nii.gz")


def run_commands(path: Path) -> int:
    """Run the commands in the current folder, all but the long ones; return how many ran."""
    shown = [arguments for arguments in commands(path) if arguments[0] not in LONG]
    for arguments in shown:
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, f"marginseg {shlex.join(arguments)}: {result.output}"
        if "-o" in arguments:
            assert Path(arguments[arguments.index("-o") + 1]).exists()
    return len(shown)


def parse(arguments: list[str]) -> None:
    """Parse a command without running it: unknown commands, options and choices raise."""
    group = get_command(app)
    context = group.make_context("marginseg", list(arguments))
    name, command, rest = group.resolve_command(context, list(arguments))
    command.make_context(name, rest, parent=context)
