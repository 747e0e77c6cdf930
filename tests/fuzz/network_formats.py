"""The files of trained networks: maps, what their channels stand for, and rules."""

from __future__ import annotations

import gzip
import io
import json
from functools import cache
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from tests.fuzz import mutations
from tests.fuzz.format import Format, taken

from marginseg.calibration import fit
from marginseg.classes import Classes
from marginseg.files.label_names import read_label_names
from marginseg.files.predictions import open_predictions
from marginseg.rule import Rule

SPATIAL = (4, 3, 5)


def _map_seeds() -> list[bytes]:
    found = []
    for save, dtype in ((np.savez, np.float16), (np.savez_compressed, np.float32)):
        file = io.BytesIO()
        save(file, probabilities=np.full((3, *SPATIAL[::-1]), 1 / 3, dtype))
        found.append(file.getvalue())
    return found


@cache
def _segmentation() -> bytes:
    return gzip.compress(nibabel.Nifti1Image(np.zeros(SPATIAL, np.uint8), np.eye(4)).to_bytes())


def _read_map(content: bytes, folder: Path) -> bool:
    labels = {"labels": {"background": 0, "a": 1, "b": 2}}
    (folder / "dataset.json").write_text(json.dumps(labels))
    (folder / "case.nii.gz").write_bytes(_segmentation())
    path = folder / "case.npz"
    path.write_bytes(content)

    def read() -> None:
        for case in open_predictions(folder).cases:
            assert case.probabilities().shape == (3, *SPATIAL)

    return taken(read, path.name)


def _class_seeds() -> list[bytes]:
    contents: list[dict[str, Any]] = [
        {"labels": {"background": 0, "a": 1, "b": 2, "ignore": 3}, "file_ending": ".nii.gz"},
        {"labels": {"background": 0, "a": [1, 2], "b": 2}, "regions_class_order": [1, 2]},
        {"labels": {"0": "background", "1": "a", "2": "b"}},
    ]
    return [json.dumps(content).encode() for content in contents]


@cache
def _channels() -> bytes:
    return nibabel.Nifti1Image(np.full((*SPATIAL, 2), 0.25, np.float32), np.eye(4)).to_bytes()


def _read_classes(content: bytes, folder: Path) -> bool:
    path = folder / "classes.json"
    path.write_bytes(content)
    (folder / "case.nii").write_bytes(_channels())

    def masks() -> None:
        found = open_predictions(folder)
        (case,) = found.cases
        chosen = case.probabilities()[list(found.classes.channels)] > 0.1
        assert found.classes.targets(np.zeros(SPATIAL, int)).shape == chosen.shape
        if found.classes.painted is not None:
            found.classes.paint(chosen)

    names = (path.name, "case.nii")
    return any(
        [taken(lambda: read_label_names(path).nnunet_classes(), path.name), taken(masks, *names)]
    )


def _rule_seeds() -> list[bytes]:
    random = np.random.default_rng(0)
    p = random.dirichlet((1, 1, 1), SPATIAL).transpose(3, 0, 1, 2)
    organs = Classes.softmax(["a", "b"])
    rules = [
        Rule(organs, calibration=fit((p, p.argmax(0)), method=method, classes=organs))
        for method in ("temperature", "platt", "isotonic")
    ]
    regions = Classes.regions({"a": (1, 2), "b": (2,)}, painted=(1, 2))
    rules.append(Rule(regions, "fixed", (0.25, 0.5), None, 2.0, 0.1, 2, ("a",), {"cases": 3}))
    return [json.dumps(rule.state()).encode() for rule in rules]


def _read_rule(content: bytes, folder: Path) -> bool:
    path = folder / "rule.json"
    path.write_bytes(content)
    rules: list[Rule] = []
    if not taken(lambda: rules.append(Rule.load(path)), path.name):
        return False
    (rule,) = rules
    map_of_it = np.full((3, *SPATIAL), 0.25)
    taken(lambda: rule.masks(map_of_it))  # it may be for more channels
    if rule.classes.painted is not None:
        taken(lambda: rule.labels(map_of_it))
    assert Rule.from_state(json.loads(json.dumps(rule.state()))) == rule
    return True


NETWORK_FORMATS = {
    "map": Format(_map_seeds, mutations.npz_mutated, _read_map),
    "classes": Format(_class_seeds, mutations.json_mutated, _read_classes),
    "rule": Format(_rule_seeds, mutations.json_mutated, _read_rule),
}
