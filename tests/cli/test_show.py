"""`marginseg figure1` and `marginseg info`."""

from __future__ import annotations

from pathlib import Path

import torch

import marginseg
from command_line import refused, run


def test_figure1(tmp_path: Path) -> None:
    result = run("figure1", "-o", tmp_path / "figure 1.png")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "figure 1.png").read_bytes().startswith(b"\x89PNG")
    refused(run("figure1", "-o", tmp_path / "none" / "f.png"), "none")
    refused(run("figure1", "-o", tmp_path), str(tmp_path))
    (tmp_path / "folder.png").mkdir()
    refused(run("figure1", "-o", tmp_path / "folder.png"), "got a folder")


def test_a_figure_in_no_format_of_pictures_is_refused(tmp_path: Path) -> None:
    for name in ("x.xyz", "x", "x.jpg", ".png"):
        path = tmp_path / name
        refused(run("figure1", "-o", path), f"{path}: expected a name that ends in", output=path)
    (tmp_path / "a.png").symlink_to("a.png")
    refused(run("figure1", "-o", tmp_path / "a.png"), "a.png: Too many levels of symbolic links")
    assert (tmp_path / "a.png").is_symlink()


def test_info() -> None:
    result = run("info")
    assert result.exit_code == 0
    for text in (marginseg.__version__, torch.__version__, "cpu", "instruction set", "CUDA"):
        assert text in result.stdout
