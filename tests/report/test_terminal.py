"""The table that the command prints."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from made_up_study import write_study
from marginseg.report import rich_table
from marginseg.report.summary import summary_table


@pytest.mark.parametrize(
    "structures", [("kidney", "tube", "thin_tube"), ("inferior_vena_cava", "autochthon_right")]
)
def test_terminal_table_fits_80_columns(tmp_path: Path, structures: tuple[str, ...]) -> None:
    folder = tmp_path / "study"
    write_study(folder, structures=structures, std=(0.0, 0.025, 0.05, 0.0625), cases=6)
    table = rich_table(folder)
    assert table.row_count == 4 * len(structures)
    text = io.StringIO()
    # As the command prints it: too long a line is not folded.
    Console(file=text, width=80, highlight=False, soft_wrap=True).print(table)
    lines = text.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert "…" not in text.getvalue()
    for row in summary_table(folder):
        if (row["method"], row["reference"]) == ("CE(*)", "noisy"):
            low, high = (f"{row[end]:.3f}".replace("0.", ".", 1) for end in ("low", "high"))
            assert f"{row['mean']:.3f} [{low},{high}]" in text.getvalue()
    assert any(line.startswith("CE(*) > CE(0): ") and "of" in line for line in lines)
