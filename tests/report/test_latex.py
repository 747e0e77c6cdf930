from __future__ import annotations

import math
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from marginseg.report.comparison import Comparison
from marginseg.report.latex import escape, latex_table


def _row(structure: str, std: float, method: str, mean: float) -> dict[str, object]:
    return {
        "structure": structure,
        "std": std,
        "method": method,
        "reference": "noisy",
        "mean": mean,
        "sd": 0.01,
        "low": mean - 0.02,
        "high": mean + 0.01,
        "n": 9,
    }


ROWS = [
    _row(structure, std, method, mean)
    for structure in ("thin_tube", "50 % of {a} & b#1 ~ c^2 $x$ \\y <z>")
    for std in (0.0, 0.06)
    for method, mean in (("CE(0)", 0.5), ("SD(0)", 0.7), ("CE(*)", 0.7003), ("sup D", 0.99))
]
THEIRS = Comparison("their_table/a.csv", {("thin_tube", "0.06", "CE(0)", "noisy"): 0.45})


def test_special_characters_are_escaped() -> None:
    assert escape("a_b & 5 % #1 {x} $") == r"a\_b \& 5 \% \#1 \{x\} \$"
    assert escape("\\ ^ ~ < > |") == (
        r"\textbackslash{} \textasciicircum{} \textasciitilde{} \textless{} \textgreater{} "
        r"\textbar{}"
    )
    table = latex_table(ROWS, "a_b")
    assert not re.search(r"(?<!\\)[_#]", table)
    assert r"\caption{a\_b}" in table


def test_table_has_means_intervals_and_the_best_in_bold() -> None:
    lines = latex_table(ROWS, "caption").splitlines()
    (head,) = (line for line in lines if line.startswith("structure"))
    assert head == r"structure & $a$ & CE(0) & SD(0) & CE($*$) & $\sup D$ \\"
    (first,) = (line for line in lines if line.startswith(r"thin\_tube"))
    cells = first.removesuffix(r" \\").split(" & ")
    assert cells[1:3] == ["0", r"0.500 {\scriptsize [.480, .510]}"]
    assert cells[3].startswith(r"\textbf{0.700}")
    assert cells[4].startswith(r"\textbf{0.700}")
    assert cells[5] == "0.990"
    assert sum(line.startswith(r"\midrule") for line in lines) == 2


def test_an_overlap_near_zero_has_no_sign() -> None:
    row = {**_row("tube", 0.0, "CE(0)", 0.001), "low": -0.0002}
    assert "[.000, .011]" in latex_table([row], "caption")


def test_missing_methods_and_intervals() -> None:
    rows = [row for row in ROWS[:8] if (row["std"], row["method"]) != (0.06, "SD(0)")]
    rows[0] = {**rows[0], "low": math.nan, "high": math.nan}
    table = latex_table(rows, "caption")
    assert "& 0 & 0.500 & " in table
    assert "& 0.06 & 0.500 {\\scriptsize [.480, .510]} & -- & " in table
    assert latex_table([], "caption").count("\\\\\n") == 1


def test_other_numbers_stand_below() -> None:
    lines = latex_table(ROWS, "caption", THEIRS).splitlines()
    (place,) = (number for number, line in enumerate(lines) if "0.450" in line)
    assert lines[place] == r" &  & {\footnotesize 0.450 ($+0.050$)} &  &  &  \\"
    assert lines[place - 1].startswith(" & 0.06 &")


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_table_compiles(tmp_path: Path) -> None:
    (tmp_path / "table.tex").write_text(latex_table(ROWS, "caption: 95 % & more_", THEIRS))
    (tmp_path / "page.tex").write_text(
        "\\documentclass{article}\\usepackage{booktabs}"
        "\\begin{document}\\input{table.tex}\\end{document}"
    )
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "page.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
