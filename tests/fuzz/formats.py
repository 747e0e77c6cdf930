"""The formats that the package reads: valid small files, how they are damaged, who reads them."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import math
import tempfile
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from tests.fuzz import mutations
from tests.fuzz.format import Format, taken
from tests.fuzz.network_formats import NETWORK_FORMATS
from tests.made_up_study import write_study

from marginseg.cli.labels import Units
from marginseg.cli.marginals import marginals_of_file
from marginseg.cli.noise import draw_file
from marginseg.cli.sample_set import SampleSet
from marginseg.cli.several import Task
from marginseg.cli.status import _groups, _running, _summary
from marginseg.cli.threshold import Metric, cut_file
from marginseg.data import EmptyDatasetError, decathlon, decathlon_structures, reading
from marginseg.data.dataset import Case, UnusableCaseError
from marginseg.data.entries import is_intact, read_entry, write_entry
from marginseg.data.manifest import read_manifest, verify
from marginseg.files.labels import read_label
from marginseg.files.nifti import open_volume
from marginseg.files.probabilities import open_probabilities
from marginseg.report import rich_table, write_report
from marginseg.report.comparison import read_comparison
from marginseg.report.content import finite, report_content
from marginseg.report.latex import latex_table
from marginseg.report.page import page
from marginseg.report.results import read_results
from marginseg.study.configuration import StudyConfig
from marginseg.study.folder import StudyFolder
from marginseg.study.run_folder import RunFolder
from marginseg.study.status import study_status

# NIfTI


def _nifti_seeds() -> list[bytes]:
    random = np.random.default_rng(0)
    shape = (5, 4, 3)
    binary = np.zeros(shape, np.uint8)
    binary[1:4, 1:3, 1:] = 1
    arrays = [
        binary,
        (binary * random.integers(1, 5, shape)).astype(np.int16),
        random.random(shape).astype(np.float32),
        random.random((*shape, 2)),
        random.integers(0, 255, (6, 5)).astype(np.uint8),
    ]
    found = []
    for number, array in enumerate(arrays):
        image = nibabel.Nifti1Image(array, np.diag([1, 2, 3, 1]))
        image.header.set_xyzt_units("mm")
        image.set_qform(np.diag([1, 2, 3, 1]), 1)
        found.append(bytes([number % 3]) + image.to_bytes())
    found.append(b"\x01" + nibabel.Nifti2Image(binary, np.eye(4)).to_bytes())
    scaled = nibabel.Nifti1Image(binary, np.eye(4))
    scaled.header.set_slope_inter(1 / 255, 0)
    scaled.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"said"))
    found.append(b"\0" + scaled.to_bytes())
    return found


def nifti_file(content: bytes) -> bytes:
    """Return the file that a first byte and what is not compressed stand for."""
    how, body = content[:1], content[1:]
    way = how[0] % 8 if how else 0
    if way in (0, 4):
        return body
    if way == 1:
        return gzip.compress(body, 1)
    if way == 2:
        half = len(body) // 2
        return gzip.compress(body[:half], 1) + gzip.compress(body[half:], 9)
    if way == 3:
        return gzip.compress(body, 1)[: max(2, len(body) % 400)]
    packed = bytearray(gzip.compress(body, 1))
    packed[(len(body) * 7 + way) % len(packed)] ^= 1 << way % 8
    return bytes(packed) if way == 5 else bytes(packed) + b"\0" * way + b"after the end"


def _read_nifti(content: bytes, folder: Path) -> bool:
    path = folder / "in.nii.gz"
    path.write_bytes(nifti_file(content))

    def channels() -> None:
        for channel in open_probabilities(path).each(1 << 30):
            assert all(piece.ndim == 1 for piece in channel)

    def draw() -> None:
        options = {"std": 0.1, "length_scale": None, "units": "mm", "interpolation": "nearest"}
        options["length_scale"] = 3.0
        samples = SampleSet.of(folder, "in", 1).samples
        list(draw_file(Task(path, samples), options, 0, None))

    file, outcomes = path.name, []
    outcomes += [taken(lambda: open_volume(path).read(), file)]
    outcomes += [taken(lambda: list(open_volume(path).pieces()), file)]
    outcomes += [taken(lambda: read_label(path), file), taken(channels, file)]
    for read in (reading.read_volume, reading.read_label):
        outcomes += [taken(lambda read=read: read(path), file, kinds=(UnusableCaseError,))]
    if any(outcomes):
        out = folder / "out.nii.gz"
        kinds = (ValueError, TypeError)
        taken(lambda: list(cut_file(path, out, Metric.dice)), file, kinds=kinds)
        # What is wrong with an argument is told of the argument: a header gives the spacing.
        taken(lambda: list(marginals_of_file(path, out, 0.1, Units.mm, None)), kinds=kinds)
        taken(draw, kinds=kinds)
    return any(outcomes)


# Prepared cases


def _entry_seeds() -> list[bytes]:
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for number, (voxels, cut) in enumerate(((None, None), (30, 0.25))):
            ones = np.ones((3, 4, 2), np.float32)
            case = Case("a", ones, ones.astype(np.uint8), (1.0, 1.0, 3.0), voxels, cut)
            path = Path(folder, f"{number}.npy")
            write_entry(path, case)
            found.append(path.read_bytes())
    return found


def _read_entry(content: bytes, folder: Path) -> bool:
    path = folder / "a.npy"
    path.write_bytes(content)

    def read() -> None:
        case = read_entry(path, "a")
        assert case.image.shape == case.label.shape
        assert len(case.spacing) == case.image.ndim
        float(case.image.sum() + case.label.sum())

    intact = is_intact(path, (3, 4, 2))
    # What is there and whole is not made anew, so it has to be a case.
    read_it = taken(read, path.name)
    assert read_it or not intact
    return read_it


# Planes of test cases


def _planes_seeds() -> list[bytes]:
    planes = np.zeros((3, 4, 5), np.uint8)
    arrays: dict[str, Any] = dict.fromkeys(("clean", "noisy"), planes)
    arrays |= dict.fromkeys(("image", "marginal", "probability"), planes.astype(np.float16))
    found = []
    for save in (np.savez, np.savez_compressed):
        file = io.BytesIO()
        save(file, **arrays)
        found.append(file.getvalue())
    return found


def _read_planes(content: bytes, folder: Path) -> bool:
    (folder / "slices.npz").write_bytes(content)
    arrays = RunFolder(folder).read_slices(3)
    return arrays is not None and all(float(a.sum()) is not None for a in arrays.values())


# Maps of networks, and what names their classes

SPATIAL = (4, 3, 2)


# JSON beside cases


def _manifest_seeds() -> list[bytes]:
    case = {
        **{"name": "a", "file": "a.npy", "sha256": "0" * 64, "spacing": [1.0, 1.0, 1.0]},
        **{"patch_voxels": 3, "voxels": 3, "cut": 0.5},
        "sources": [{"file": "a.nii.gz", "bytes": 1, "mtime_ns": 1}],
    }
    content = {
        **{"format": 1, "structure": "tube", "directory": None, "parameters": {}, "rule": "any"},
        **{"cases": [case, case | {"name": "b", "file": "b.npy"}], "skipped": []},
    }
    return [json.dumps(content).encode()]


def _read_manifest(content: bytes, folder: Path) -> bool:
    path = folder / "manifest-tube-0.json"
    path.write_bytes(content)
    (folder / "a.npy").write_bytes(b"nothing")
    (folder / "b.npy").mkdir()
    outcomes = [taken(lambda: read_manifest(path), path.name), taken(lambda: verify(path))]
    return all(outcomes)


def _dataset_seeds() -> list[bytes]:
    files = [{"image": f"./{n}.nii.gz", "label": f"./{n}-label.nii.gz"} for n in "ab"]
    decathlon_labels = {"0": "background", "1": "cube", "2": "shell"}
    return [
        json.dumps({"modality": {"0": modality}, "labels": labels, "training": files}).encode()
        for modality, labels in (
            ("CT", decathlon_labels),
            ("MRI", {name: int(value) for value, name in decathlon_labels.items()}),
        )
    ]


@cache
def _case_files() -> dict[str, bytes]:
    label = np.zeros((9, 9, 9), np.uint8)
    label[2:7, 2:7, 2:7] = 2
    label[3:6, 3:6, 3:6] = 1
    content = gzip.compress(nibabel.Nifti1Image(label, np.eye(4)).to_bytes())
    return {f"{name}{kind}.nii.gz": content for name in "ab" for kind in ("", "-label")}


def _read_dataset(content: bytes, folder: Path) -> bool:
    (folder / "dataset.json").write_bytes(content)
    for name, file in _case_files().items():
        (folder / name).write_bytes(file)
    names: list[str] = []
    told = taken(lambda: names.extend(decathlon_structures(folder)), folder)
    for name in [*names[:2], "all"]:

        def prepared(name: str = name) -> None:
            with contextlib.suppress(EmptyDatasetError):
                found = decathlon(
                    folder, name, patch_shape=(4, 4, 4), cache_dir=folder / "cache", max_cases=2
                )
                assert [case.label.sum() for case in found.cases]

        taken(prepared, folder)
    return told


# Studies


@cache
def _study_seed() -> bytes:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary, "study")
        results = write_study(folder, structures=("tube",), std=(0.0, 0.06), cases=4)
        config = json.loads((folder / "config.json").read_text())
    epoch = {"epoch": 1, "loss": 0.5, "metric": 0.5, "learning_rate": 0.1, "seconds": 1.0}
    parts = {
        "config": config | {"epochs": 1},
        "results": [result | {"epochs": [epoch]} for result in results.values()],
        "logs": [[epoch]] * 4,
        "environment": {"marginseg": "1.2.3", "workers": 2},
        "noise": [{"structure": "tube", "std": 0.06, "folded_share": 0.0, "volume_loss": 0.1}],
        "skipped": [{"structure": "tube", "name": "c", "reason": "a file is missing: c"}],
        "failed": [{"run": "tube", "folder": "x", "error": "no", "details": 'File "/a/b.py"\nno'}],
    }
    return json.dumps(parts).encode()


def _write_parts(content: bytes, folder: Path) -> bool:
    """Write the files of a study, of which one JSON document holds the contents."""
    try:
        parts = json.loads(content)
    except (ValueError, RecursionError):
        (folder / "config.json").write_bytes(content)
        return True
    if not isinstance(parts, dict):
        return False
    for name in ("config", "environment", "noise", "skipped", "failed"):
        if name in parts:
            (folder / f"{name}.json").write_text(json.dumps(parts[name]))
    try:
        config = StudyConfig.from_dict(parts["config"])
    except (ValueError, TypeError, KeyError, AttributeError):
        return True
    if math.prod((config.folds, len(config.structures), len(config.std))) > 100:
        return False  # a big study takes its time
    for kind, name in (("results", "result.json"), ("logs", "log.jsonl")):
        listed = parts.get(kind)
        if not isinstance(listed, list):
            continue
        for run, part in zip(config.runs(), listed, strict=False):
            if isinstance(part, dict) and kind == "results":
                # What else a run is would only be compared with its folder's name.
                part |= asdict(run) if sorted(part) == sorted(_whole_result()) else {}
            path = folder / "runs" / config.folder_of(run) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            text = json.dumps(part)
            if kind == "logs" and isinstance(part, list):
                text = "\n".join(map(json.dumps, part))
            path.write_text(text)
    return True


@cache
def _whole_result() -> tuple[str, ...]:
    return tuple(json.loads(_study_seed())["results"][0])


def _read_study(content: bytes, folder: Path) -> bool:
    if not _write_parts(content, folder):
        return False

    def read() -> None:
        results = read_results(folder)
        content = report_content(results, None)
        json.loads(json.dumps(finite(content), allow_nan=False))
        page(content, {})
        latex_table(content["table"], "caption", None)
        rich_table(folder)

    def status() -> None:
        told = study_status(folder)
        assert list(_summary(told))
        _groups(told)
        _running([run for run in told.runs if run.state == "running"], told.config.epochs)

    outcomes = [taken(read, folder), taken(status, folder)]
    assert not list(StudyFolder(folder).path.glob(".unfinished-*"))
    return all(outcomes)


def _read_report(content: bytes, folder: Path) -> bool:
    return _write_parts(content, folder) and taken(lambda: write_report(folder), folder)


# Tables


def _table_seeds() -> list[bytes]:
    head = "structure,std,method,reference,mean,sd,low,high,n\n"
    rows = "tube,0.02,CE(0),noisy,0.8,0.01,0.7,0.9,20\nkidney,0,SD(*),clean,0.9,,,,\n"
    fewer = "\ufeffmethod, mean, std, structure\nCE(0), 0.5, 6e-2, tube\n"
    return [(head + rows).encode(), fewer.encode()]


def _read_table(content: bytes, folder: Path) -> bool:
    path = folder / "theirs.csv"
    path.write_bytes(content)
    return taken(lambda: read_comparison(path), path.name)


FORMATS = {
    "nifti": Format(_nifti_seeds, mutations.nifti_mutated, _read_nifti),
    "entry": Format(_entry_seeds, mutations.entry_mutated, _read_entry),
    "planes": Format(_planes_seeds, mutations.npz_mutated, _read_planes),
    **NETWORK_FORMATS,
    "manifest": Format(_manifest_seeds, mutations.json_mutated, _read_manifest),
    "dataset": Format(_dataset_seeds, mutations.json_mutated, _read_dataset),
    "study": Format(lambda: [_study_seed()], mutations.json_mutated, _read_study),
    "report": Format(lambda: [_study_seed()], mutations.json_mutated, _read_report),
    "table": Format(_table_seeds, mutations.csv_mutated, _read_table),
}
