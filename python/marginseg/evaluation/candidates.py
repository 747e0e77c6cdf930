"""The rules that are tried, and what they are called."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

#: What is done with maps before they are cut at t*.
Method = Literal["temperature", "platt", "isotonic"]


@dataclass(frozen=True)
class Candidate:
    """A rule that can be tried.

    Attributes:
        name: In files and options.
        title: For the reader.
        means: What it does, in a sentence.
        decision: As of :class:`marginseg.rule.Rule`; None for what is no rule.
        method: How maps are calibrated before, if they are.

    """

    name: str
    title: str
    means: str
    decision: Literal["half", "optimal", "fixed"] | None
    method: Method | None = None

    @property
    def fitted(self) -> bool:
        """Whether other cases are needed to know what it does."""
        return self.decision == "fixed" or self.method is not None


#: What the network does now, to which all others are compared.
PRESENT: Final = Candidate("present", "present rule", "the network's own segmentation", "half")

#: The rules that could take its place, the simplest first.
CANDIDATES: Final = (
    Candidate("threshold", "one threshold", "one threshold a class for all cases", "fixed"),
    Candidate("optimal", "t*", "each map cut at its own t*", "optimal"),
    Candidate(
        "temperature",
        "temperature + t*",
        "log-odds divided by a temperature, then t*",
        "optimal",
        "temperature",
    ),
    Candidate("platt", "Platt + t*", "log-odds scaled and shifted, then t*", "optimal", "platt"),
    Candidate(
        "isotonic", "isotonic + t*", "any increasing calibration, then t*", "optimal", "isotonic"
    ),
)

#: What nobody can use, since it looks at the label: the best threshold of each case. It bounds what
#: thresholds of one class can reach. Where classes take voxels from each other, or options take
#: them out, another rule can lie above it.
CEILING: Final = Candidate(
    "ceiling",
    "best threshold a case",
    "the best of each class by itself for the case's label, without regard to the other classes "
    "and to the options",
    None,
)

ALL: Final = (PRESENT, *CANDIDATES, CEILING)

BY_NAME: Final = {candidate.name: candidate for candidate in ALL}
