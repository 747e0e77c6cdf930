"""The paper's Table 1 in LaTeX."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from marginseg.files.names import printable
from marginseg.report.comparison import Comparison
from marginseg.report.summary import CEILING, TABLE_1

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    # After the end of a row or a rule a bracket or a star would be its argument.
    "[": "{[}",
    "]": "{]}",
    "*": "{*}",
}


def escape(text: str) -> str:
    r"""Return text as LaTeX prints it.

    Example:
        >>> print(escape("thin_tube & 5 %"))
        thin\_tube \& 5 \%

    """
    return "".join(_SPECIAL.get(letter, letter) for letter in printable(text))


def latex_table(
    rows: Sequence[Mapping[str, Any]], caption: str, compare: Comparison | None = None
) -> str:
    r"""Return Table 1 as a ``table`` environment; it needs ``\usepackage{booktabs}``.

    Args:
        rows: As from :func:`marginseg.report.summary.summary_table`.
        caption: Plain text.
        compare: Numbers to print under ours, with ours less theirs in parentheses.

    Returns:
        Dice against the noisy label: mean over cases and 95 % interval, for CE(0), SD(0), CE(*)
        and sup D, by structure and noise level; the best method of a row is bold.

    """
    chosen = [row for row in rows if row["reference"] == "noisy"]
    present = {row["method"] for row in chosen}
    methods = [method for method in TABLE_1 if method in present]
    heads = ["structure", "$a$", *(_method(method) for method in methods)]
    lines = [
        "% Needs \\usepackage{booktabs}.",
        "\\begin{table}[tb]",
        "\\centering",
        "\\footnotesize",
        "\\setlength{\\tabcolsep}{4pt}",
        f"\\caption{{{escape(caption)}}}",
        "\\label{tab:dice}",
        f"\\begin{{tabular}}{{@{{}}lr{'c' * len(methods)}@{{}}}}",
        "\\toprule",
        _line(heads),
    ]
    last = None
    for structure, std in dict.fromkeys((row["structure"], row["std"]) for row in chosen):
        here = {r["method"]: r for r in chosen if (r["structure"], r["std"]) == (structure, std)}
        best = max((here[m]["mean"] for m in TABLE_1[:-1] if m in here), default=math.nan)
        cells = [_cell(here.get(method), best) for method in methods]
        if structure != last:
            lines.append("\\midrule")
        lines.append(_line([escape(structure) if structure != last else "", f"{std:g}", *cells]))
        last = structure
        if compare is not None:
            others = [_other(here.get(method), compare) for method in methods]
            if any(others):
                lines.append(_line(["", "", *others]))
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}", "\\end{table}", ""])


def _line(cells: Sequence[str]) -> str:
    return " & ".join(cells) + " \\\\"


def _method(method: str) -> str:
    return method.replace("(*)", "($*$)").replace("sup D", "$\\sup D$")


def _cell(row: Mapping[str, Any] | None, best: float) -> str:
    if row is None:
        return "--"
    mean = f"{row['mean']:.3f}"
    if row["method"] != CEILING and row["mean"] >= best - 5e-4:
        mean = f"\\textbf{{{mean}}}"
    if row["method"] == CEILING or math.isnan(row["low"]):
        return mean
    # The zeros before the points are left out, so that four methods fit the width of a page.
    low, high = (f"{row[end]:z.3f}".replace("0.", ".", 1) for end in ("low", "high"))
    return f"{mean} {{\\scriptsize [{low}, {high}]}}"


def _other(row: Mapping[str, Any] | None, compare: Comparison) -> str:
    theirs = None if row is None else compare.mean(row)
    if row is None or theirs is None:
        return ""
    return f"{{\\footnotesize {theirs:.3f} (${row['mean'] - theirs:+.3f}$)}}"
