"""What a report says, as ``report.json`` has it: every number, with settings and versions."""

from __future__ import annotations

import math
import re
import statistics
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from marginseg import intervals
from marginseg.report.claims import SIGNIFICANCE, judge
from marginseg.report.comparison import Comparison
from marginseg.report.covered import METHODS, groups
from marginseg.report.devices import devices
from marginseg.report.results import Results
from marginseg.report.summary import (
    CEILING,
    QUANTILES,
    calibration_curves,
    differences,
    predicted,
    summarise,
    threshold_quantiles,
)

#: The version of the layout of ``report.json``.
FORMAT = 1


def report_content(results: Results, other: Comparison | None) -> dict[str, Any]:
    """Return all that the report says, as JSON has it but for NaN.

    Args:
        results: What the runs left.
        other: Numbers to print beside the study's.

    Returns:
        The content of ``report.json`` before :func:`finite`: plain dictionaries and lists.

    """
    folder = results.folder
    rows, pairs = summarise(results), differences(results)
    # No interval of the ceiling is shown: it depends on no network.
    shown = [row for row in rows if row["method"] != CEILING]
    private = _Private(results)
    configuration = results.config.to_dict()
    if results.config.directory is not None:
        # The report tells the data set's name, and not where it lay on the machine.
        configuration["directory"] = Path(results.config.directory).name
    return {
        "format": FORMAT,
        "configuration": configuration,
        "environment": folder.read_environment(),
        "statistics": {
            "interval": [
                {"covers": covers, "method": METHODS[covers], "places": places}
                for covers, places in groups([*shown, *pairs]).items()
            ],
            "level": intervals.LEVEL,
            "resamples": intervals.RESAMPLES,
            "seed": intervals.SEED,
            "sd": "standard deviation of the networks' means",
            "verdicts": f"Student's test, corrected by Holm's method, {SIGNIFICANCE:g} in all",
        },
        "expected": results.expected,
        "finished": len(results.finished),
        "time": _time(results),
        "computed": devices(results),
        "findings": judge(pairs),
        "table": rows,
        "differences": pairs,
        "predicted": predicted(rows),
        "thresholds": {
            "shares": list(QUANTILES),
            "rows": threshold_quantiles(results),
        },
        "calibration": calibration_curves(results),
        "noise": folder.read_noise(),
        "compare": None
        if other is None
        else {
            "table": other.name,
            "rows": other.rows(rows),
            "unmatched": other.unmatched(rows),
        },
        "skipped": [
            {name: private.text(value) for name, value in case._asdict().items()}
            for case in folder.read_skipped()
        ],
        "failed": [
            {name: private.text(getattr(failure, name)) for name in ("run", "error", "details")}
            for failure in folder.read_failed()
        ],
        "unreadable": list(results.unreadable),
    }


def _time(results: Results) -> dict[str, Any]:
    """Return the seconds spent in training and testing, in all and by loss."""
    seconds: dict[str, list[float]] = defaultdict(list)
    for run, result in results.finished.items():
        seconds[run.loss].append(float(result["seconds"]))
    return {
        "seconds": sum(sum(times) for times in seconds.values()),
        "by_loss": {
            loss: {"runs": len(times), "mean": statistics.fmean(times), "seconds": sum(times)}
            for loss, times in seconds.items()
        },
    }


class _Private:
    """Takes out of messages where files lay on the machine that made the study."""

    def __init__(self, results: Results) -> None:
        folders = [results.config.directory, str(results.folder.path.absolute())]
        self.folders = sorted(filter(None, folders), key=len, reverse=True)

    def text(self, text: str) -> str:
        for folder in self.folders:
            text = text.replace(folder, Path(folder).name)
        return re.sub(r'File "[^"\n]*?([^/"\n]+/[^/"\n]+)"', r'File "\1"', text)


def finite(content: Any) -> Any:
    """Return it with None for numbers that JSON doesn't have."""
    if isinstance(content, Mapping):
        return {key: finite(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content
