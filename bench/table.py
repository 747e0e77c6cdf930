"""Tables of results, for the terminal and as Markdown."""

from __future__ import annotations

from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from bench.timing import duration

HEADINGS = {
    "comparison": (
        "input",
        "size",
        "threads",
        "peer",
        "ours",
        "first of a turn",
        "peer's",
        "ratio",
        "target",
        "ours / floor",
    ),
    "overhead": ("call at 8³", "time", "target"),
    "memory": ("op", "size", "input", "rise of the peak", "rise / input", "target"),
    "scaling": ("op", "size", "time", "ns per voxel"),
}


def kind(name: str) -> str:
    return name if name in HEADINGS else "comparison"


def cells(name: str, row: dict[str, Any]) -> tuple[list[str], bool | None]:
    """Return the texts of a row, and whether it met its target."""
    if name == "overhead":
        time = duration(row["timing"]["median"])
        return [row["op"], time, f"< {duration(row['target_seconds'])}"], row["met"]
    if name == "memory":
        sizes = [f"{row[key] / 2**20:.0f} MiB" for key in ("input_bytes", "rise_bytes")]
        ratios = [f"{row['ratio']:.2f}", f"< {row['target']:g}"]
        return [row["op"], row["size"], *sizes, *ratios], row["met"]
    if name == "scaling":
        median = row["timing"]["median"]
        texts = [row["op"], f"{row['edge']}³", duration(median)]
        mark = "*" if row["disturbed"] else ""
        return [*texts, f"{median / row['voxels'] * 1e9:.2f}{mark}"], None
    # A section may hold what is made of its op too: the marginals, the cut.
    setting = row["setting"] if row["op"] == name else f"{row['op']}: {row['setting']}"
    head = [setting, row["size"], str(row["threads"]), row["peer"]]
    if row["left_out"]:
        return [*head, *("–",) * 6], None
    ours, theirs = (duration(row[key]["median"]) for key in ("ours", "theirs"))
    target = "" if row["target"] is None else f"{row['target']:.3g}"
    mark = "*" if row["disturbed"] else ""
    numbers = [f"{row['ratio']:.3g}{mark}", target, f"{row['ours_over_floor']:.1f}"]
    return [*head, ours, duration(row["ours"]["first"]), theirs, *numbers], row["met"]


def remarks(rows: list[dict[str, Any]]) -> list[str]:
    """Return what peers do otherwise, and why some were left out, each said once."""
    notes: dict[str, None] = {}
    for row in rows:
        if row.get("left_out"):
            notes[f"{row['peer']}, {row['size']}: left out, {row['left_out']}"] = None
        if row.get("note"):
            notes[f"{row['peer']}: {row['note']}"] = None
        if row.get("theirs") and row["target"] and not row["yardstick"]:
            needed = row["theirs"]["median"] / row["target"]
            if needed < row["floor_seconds"]:
                where = f"{row['peer']}, {row['setting']}, {row['size']}"
                limits = f"{duration(needed)}, the floor is {duration(row['floor_seconds'])}"
                notes[f"{where}: out of reach, the target asks for {limits}"] = None
        if row.get("disturbed"):
            notes["*: other processes were busy on cores that the threads of this row needed"] = (
                None
            )
    return list(notes)


def show(name: str, rows: list[dict[str, Any]], console: Console) -> None:
    """Print a table; what missed its target is marked in words as well as in colour."""
    if not rows:
        return
    headings = HEADINGS[kind(name)]
    table = Table(title=name, title_justify="left", box=SIMPLE_HEAD)
    for heading in headings:
        text = heading in ("op", "input", "peer", "call at 8³")
        table.add_column(heading, justify="left" if text else "right")
    for row in rows:
        texts, met = cells(name, row)
        if met is not None:
            place = headings.index("target")
            texts[place] += " [green]met[/]" if met else " [red]missed[/]"
        table.add_row(*texts)
    console.print(table)
    for remark in remarks(rows):
        console.print(f"  {remark}", style="dim")


def markdown(results: dict[str, Any]) -> str:
    """Return all results as a page of Markdown."""
    lines = [
        "# Results on a CPU",
        "",
        "Written by `python -m bench`; [what is measured, and how](../README.md).",
        "",
    ]
    machine = results["machine"]
    if not machine:
        return "\n".join([*lines, "Unmeasured.", ""])
    made = f"commit {machine['commit']}, {machine['date']}"
    lines += [f"{machine['cpu']}, {machine['cores']} cores; {made}."]
    packages = ", ".join(f"{key} {value}" for key, value in machine["packages"].items())
    lines += [f"{packages}, Python {machine['python']}.", ""]
    for name, section in results["results"].items():
        headings = HEADINGS[kind(name)]
        lines += [f"## {name}", ""]
        if section["commit"] != machine["commit"]:
            lines += [f"From an earlier run: commit {section['commit']}, {section['date']}.", ""]
        lines += [f"| {' | '.join(headings)} |", "|---" * len(headings) + "|"]
        for row in section["rows"]:
            texts, met = cells(name, row)
            if met is not None:
                place = headings.index("target")
                texts[place] += " met" if met else " **missed**"
            lines.append(f"| {' | '.join(texts)} |")
        lines.append("")
        if said := remarks(section["rows"]):
            lines += [*(f"- {remark}" for remark in said), ""]
    return "\n".join(lines)
