"""The paper's Table 1, ceilings, and the rules of a network, for the terminal."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from marginseg.evaluation.candidates import BY_NAME, PRESENT
from marginseg.evaluation.candidates import CEILING as BEST_CUT
from marginseg.evaluation.verdict import MEAN, points
from marginseg.evaluation.verdict import Comparison as RuleComparison
from marginseg.files.names import printable, printable_lines
from marginseg.report.ceilings import GAIN, WORTH, levels_worth_it
from marginseg.report.claims import CLAIMS, VERDICTS, judge
from marginseg.report.comparison import read_comparison
from marginseg.report.evaluation_content import comparison_row
from marginseg.report.evaluation_text import gain, p_text, percent_text, three_digits
from marginseg.report.results import read_results
from marginseg.report.summary import CEILING, REFERENCES, TABLE_1, differences, summarise


def rich_table(output_dir: str | os.PathLike[str], reference: str = "noisy") -> Table:
    """Return the paper's Table 1 for the terminal; 80 columns are enough, with folded names.

    Args:
        output_dir: A study's folder.
        reference: What Dice is taken against: ``"noisy"``, ``"clean"`` or ``"marginal"``.

    Returns:
        Means over cases with 95 % intervals, a row a structure and noise level; below it, where
        the paper's claims hold.

    Raises:
        ValueError: The folder holds no study.

    """
    results = read_results(output_dir)
    rows = [row for row in summarise(results) if row["reference"] == reference]
    table = _titled(f"Dice {REFERENCES[reference]}\nmean over cases [95 % interval]")
    table.caption = "\n".join(_verdicts(judge(differences(results)))) if rows else None
    table.add_column("structure", overflow="fold")
    table.add_column("std", justify="right", no_wrap=True)
    methods = [m for m in TABLE_1 if any(row["method"] == m for row in rows)]
    for method in methods:
        table.add_column(method, no_wrap=True)
    for structure, std in dict.fromkeys((row["structure"], row["std"]) for row in rows):
        cells = {
            row["method"]: _short(row)
            for row in rows
            if (row["structure"], row["std"]) == (structure, std)
        }
        table.add_row(_name(structure), f"{std:g}", *(cells.get(method, "–") for method in methods))
    return table


def comparison_table(
    output_dir: str | os.PathLike[str],
    compare: str | os.PathLike[str],
    reference: str = "noisy",
) -> Table:
    """Return the means that another table has too, beside a study's own.

    Args:
        output_dir: A study's folder.
        compare: See :func:`marginseg.report.comparison.read_comparison`.
        reference: What Dice is taken against; the report has all.

    Returns:
        A row for each structure, std and method that both have; none where there are none.

    Raises:
        OSError: ``compare`` can't be read.
        ValueError: The folder holds no study, or ``compare`` is no such table.

    """
    other = read_comparison(compare)
    table = _titled(f"Beside {other.name}: Dice {REFERENCES[reference]}")
    table.add_column("structure", overflow="fold")
    for name in ("std", "method", "ours", "theirs", "difference"):
        table.add_column(name, justify="right", no_wrap=True)
    rows = [row for row in summarise(read_results(output_dir)) if row["reference"] == reference]
    for row in other.rows(rows):
        difference = round(row["difference"], 3) + 0.0  # no "-0.000"
        numbers = (f"{row['ours']:.3f}", f"{row['theirs']:.3f}", f"{difference:+.3f}")
        table.add_row(_name(row["structure"]), f"{row['std']:g}", row["method"], *numbers)
    return table


def ceilings_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Return the ceilings for the terminal; 80 columns are enough, with folded names.

    Args:
        rows: As from :func:`marginseg.report.ceilings.summarise_ceilings`.

    Returns:
        A row for each structure and noise level; below it, where t* is worth it.

    """
    table = _titled(
        "The marginals, the best map there is, can expect:\nmeans over cases ± standard deviation"
    )
    table.add_column("structure", overflow="fold")
    numbers = ("std", "sup D", "D at ½", "t* gains", "t*", "|s|/|l|\nat t*", "|s|/|l|\nat ½")
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            _name(row["structure"]),
            f"{row['std']:g}",
            _with_spread(row["sup_dice"]),
            _with_spread(row["dice_at_half"]),
            f"{row[GAIN]['mean']:.3f}",
            _with_spread(row["threshold"]),
            f"{row['volume_ratio']['mean']:.2f}",
            f"{row['volume_ratio_at_half']['mean']:.2f}",
        )
    worth = "\n".join(
        f"  {printable(structure)}: "
        + (f"std {', '.join(f'{level:g}' for level in levels)}" if levels else "at no std here")
        for structure, levels in levels_worth_it(rows).items()
    )
    table.caption = Text(f"t* gains {WORTH:g} or more over a cut at ½:\n{worth}")
    return table


def evaluation_table(comparisons: Sequence[RuleComparison], *, metric: str = "Dice") -> Table:
    """Return what each rule gains, for the terminal; 80 columns are enough, with folded names.

    Args:
        comparisons: As an evaluation has them; those of the mean over classes are told.
        metric: What the overlap is called.

    Returns:
        A row for each rule, the present one first and what nobody can use last.

    """
    table = _titled(
        f"{metric} of each rule, and its gain over the present one in points [95 % interval]"
    )
    table.add_column("rule", overflow="fold")
    for name in (metric, "gain", "", "p", "better\n/worse", "worst", "volume"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("promised", justify="right", no_wrap=True)
    for comparison in comparisons:
        if comparison.structure != MEAN:
            continue
        candidate = BY_NAME[comparison.rule]
        row = comparison_row(comparison)
        told = [three_digits(comparison.reached)]
        if candidate is PRESENT:
            told += [""] * 5
        else:
            told += [
                *gain(row),
                "" if candidate is BEST_CUT else p_text(comparison.p),
                f"{comparison.better}/{comparison.worse}",
                points(comparison.worst) if comparison.worst_case else "none",
            ]
        told += [percent_text(comparison.volume_error)]
        told += [three_digits(comparison.promised)]
        style = "dim" if candidate is BEST_CUT else None
        table.add_row(candidate.title, *map(Text, told), style=style)
    table.caption = Text(
        f"better/worse: cases that change by more than a point; {BEST_CUT.title}: that of each "
        "class by itself, without regard to the other classes and to the options; nobody can use it"
    )
    return table


def _with_spread(numbers: Mapping[str, float]) -> str:
    if math.isnan(numbers["sd"]):
        return f"{numbers['mean']:.3f}"
    return f"{numbers['mean']:.3f}±{numbers['sd']:.3f}"


def _titled(title: str) -> Table:
    return Table(
        title=Text(printable_lines(title), style="table.title"),
        title_justify="left",
        caption_justify="left",
        box=None,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )


def _name(structure: str) -> Text:
    """Return a name as text: in a string Rich would take brackets for markup, and run colours."""
    return Text(printable(structure))


def _verdicts(findings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Count what became of each claim, a line a claim."""
    lines = []
    for claim in CLAIMS:
        rows = [row for row in findings if row["claim"] == claim.text]
        judged = [row["verdict"] for row in rows if row["verdict"] in VERDICTS[:-1]]
        if judged:
            counts = ", ".join(
                f"{verdict} {judged.count(verdict)}"
                for verdict in VERDICTS[:-1]
                if verdict in judged
            )
            lines.append(f"{claim.text}: {counts} of {len(judged)}")
    return lines


def _short(row: Mapping[str, Any]) -> Text:
    if row["method"] == CEILING or math.isnan(row["low"]):
        return Text(f"{row['mean']:.3f}")
    low, high = (f"{row[end]:z.3f}".replace("0.", ".", 1) for end in ("low", "high"))
    # As text: in a string Rich would take the bracket for markup.
    return Text(f"{row['mean']:.3f} [{low},{high}]")
