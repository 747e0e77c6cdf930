"""The readers that `python -m tests.fuzz.readers` tries for minutes, tried for a second each."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
from tests.fuzz.formats import FORMATS
from tests.fuzz.mutations import flipped

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize("name", sorted(set(FORMATS) - {"report"}))
def test_damaged_files_are_refused_or_read(name: str, tmp_path: Path) -> None:
    form, random = FORMATS[name], Random(0)
    seeds = form.seeds()
    for number, seed in enumerate(seeds):
        (tmp_path / f"seed {number}").mkdir()
        assert form.read(seed, tmp_path / f"seed {number}"), "a valid file is refused"
    refused = 0
    for number in range(4 if name == "study" else 40):
        content = form.mutated(
            random, random.choice(seeds), lambda given, most: flipped(random, given)[:most]
        )
        folder = tmp_path / str(number)
        folder.mkdir()
        refused += not form.read(content, folder)
    assert refused or name == "study"  # of which damaged parts count as missing
