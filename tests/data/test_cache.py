"""The cache gives back what was made, and makes again what was damaged or has changed."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import numpy.lib.recfunctions
import pytest

from marginseg.data import Case, EmptyDatasetError, default_cache_dir, phantom
from marginseg.data.cache import Source, prepare
from marginseg.data.dataset import Dataset, RejectedCaseError
from marginseg.data.entries import is_intact, read_entry, write_entry
from marginseg.data.manifest import FoundFile

SHAPE = (4, 5, 6)


class Maker:
    """Makes a case from a file's text and counts how often it is asked."""

    def __init__(self, path: Path) -> None:
        self.path, self.calls = path, 0

    def __call__(self) -> Case:
        self.calls += 1
        value = float(self.path.read_text())
        if value < 0:
            raise RejectedCaseError("negative", str(value))
        image = np.full(SHAPE, value, np.float32)
        return Case(self.path.stem, image, (image > 1).astype(np.uint8), (1.0, 2.0, 3.0))


@pytest.fixture
def maker(tmp_path: Path) -> Maker:
    path = tmp_path / "source.txt"
    path.write_text("2.5")
    return Maker(path)


def load(maker: Maker, cache: Path, **parameters: object) -> Dataset:
    source = Source("case one", (maker.path,), parameters, maker)
    return prepare(
        "a structure", [source], patch_shape=SHAPE, spacing=None, max_cases=None, cache_dir=cache
    )


def test_a_hit_gives_the_same_arrays_without_making_them(maker: Maker, tmp_path: Path) -> None:
    first, again = load(maker, tmp_path / "c")[0], load(maker, tmp_path / "c")[0]
    assert maker.calls == 1
    for case in (first, again):
        assert case.name == "case one"
        assert case.spacing == (1, 2, 3)
        np.testing.assert_array_equal(case.image, np.full(SHAPE, 2.5, np.float32))
        np.testing.assert_array_equal(case.label, np.ones(SHAPE, np.uint8))
    assert isinstance(again.image, np.memmap)


def test_writing_to_a_case_leaves_the_cache_alone(maker: Maker, tmp_path: Path) -> None:
    data = load(maker, tmp_path / "c")
    data[0].image[:] = 0
    assert data[0].image.min() == 2.5


@pytest.mark.parametrize("damage", ["cut", "empty", "flip", "header", "text"])
def test_a_damaged_entry_is_made_again(maker: Maker, tmp_path: Path, damage: str) -> None:
    load(maker, tmp_path / "c")
    (entry,) = (tmp_path / "c").glob("*.npy")
    content = bytearray(entry.read_bytes())
    if damage == "cut":
        content = content[:-7]
    elif damage == "empty":
        content = bytearray()
    elif damage == "flip":
        content[-200] ^= 1
    elif damage == "header":
        content[20] ^= 255
    else:
        content = bytearray(b"hello")
    entry.write_bytes(content)
    assert not is_intact(entry, SHAPE)
    assert load(maker, tmp_path / "c")[0].image.max() == 2.5
    assert maker.calls == 2
    assert is_intact(entry, SHAPE)


def with_header(content: bytes, text: str) -> bytes:
    """Return an array's file with another description of it."""
    length = int.from_bytes(content[8:10], "little")
    return content[:10] + text.ljust(length).encode() + content[10 + length :]


@pytest.mark.parametrize(
    "damage", ["syntax", "token", "huge", "long", "fields", "shape", "archive"]
)
def test_an_entry_that_is_none_is_refused_in_one_line(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "entry.npy"
    ones = np.ones(SHAPE, np.float32)
    write_entry(path, Case("a", ones, ones.astype(np.uint8), (1.0, 2.0, 3.0)))
    content = path.read_bytes()
    entry = np.load(path)
    if damage == "fields":
        names = ["image", "label", "voxels", "cut", "checksum"]  # which are as they were written
        np.save(path, np.lib.recfunctions.repack_fields(entry[names]))
    elif damage == "shape":
        np.save(path, entry[:0])
    elif damage == "archive":
        with path.open("wb") as file:
            np.savez(file, entry=entry)
    else:
        text = {
            "syntax": "{'descr': }",
            "token": "{'descr': (",
            "huge": "{'descr': '<f4', 'fortran_order': False, 'shape': (" + "9" * 30 + ",)}",
            "long": "{'descr': '<f4', 'fortran_order': False, 'shape': (3 + 4,)}",
        }[damage]
        path.write_bytes(with_header(content, text))
    assert not is_intact(path, SHAPE)
    with pytest.raises(ValueError, match=r"entry\.npy: expected a prepared case, got a damaged"):
        read_entry(path, "a")


def test_a_changed_source_is_read_again(maker: Maker, tmp_path: Path) -> None:
    load(maker, tmp_path / "c")
    maker.path.write_text("3.5")
    os.utime(maker.path, ns=(1, 1))  # same size: the time tells
    assert load(maker, tmp_path / "c")[0].image.max() == 3.5
    maker.path.write_text("-1")
    with pytest.raises(EmptyDatasetError, match=r"'a structure'.*case one: negative"):
        load(maker, tmp_path / "c")


def test_other_parameters_are_other_entries(maker: Maker, tmp_path: Path) -> None:
    for level in (1, 2, 1):
        load(maker, tmp_path / "c", level=level)
    assert maker.calls == 2


def test_caches_that_were_filled_before_are_found_again(tmp_path: Path) -> None:
    facts = {"patch_shape": (8, 8, 8), "spacing": None, "values": [1, 2], "modality": "MRI"}
    source = Source("a", (), {**facts, "largest_cut": 0.03}, lambda: pytest.fail("not asked for"))
    files = [FoundFile(Path("/data/a.nii.gz"), 100, 5), FoundFile(Path("/data/b.nii.gz"), 7, 6)]
    # Whoever changes these makes everyone prepare everything anew.
    assert source.key(files) == "2708cc07d85691a6e688c5d0"
    phantom("tube", cases=1, patch_shape=(8, 8, 8), seed=3, cache_dir=tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "manifest-tube-9b622593dc8b.json",
        "phantom_000-tube-2c8475579f654fac82c07161.npy",
    ]


def test_an_entry_appears_whole_or_not_at_all(
    maker: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(file: object, entry: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(ValueError, match=r"cache_dir: cannot write in .* \(No space left"):
        load(maker, tmp_path / "c")
    assert list((tmp_path / "c").iterdir()) == []


def test_entries_keep_every_bit(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    case = Case(
        "x",
        rng.normal(size=SHAPE).astype(np.float32),
        rng.integers(0, 2, SHAPE, np.uint8),
        (0.1, 0.2, 0.3),
    )
    write_entry(tmp_path / "x.npy", case)
    back = read_entry(tmp_path / "x.npy", "x")
    assert back.image.tobytes() == case.image.tobytes()
    assert back.label.tobytes() == case.label.tobytes()
    assert back.spacing == case.spacing
    assert not is_intact(tmp_path / "x.npy", (4, 5, 7))


def test_a_dataset_travels_to_another_process_without_its_arrays(tmp_path: Path) -> None:
    data = phantom("tube", cases=3, patch_shape=(32, 32, 32), cache_dir=tmp_path)
    packed = pickle.dumps(data)
    assert len(packed) < 2000
    np.testing.assert_array_equal(pickle.loads(packed)[2].image, data[2].image)
    assert [case.name for case in data.cases[1:]] == ["phantom_001", "phantom_002"]
    with pytest.raises(IndexError):
        data[3]


def test_the_default_folder_follows_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MARGINSEG_CACHE", str(tmp_path / "mine"))
    phantom("tube", cases=1, patch_shape=(8, 8, 8))
    assert len(list((tmp_path / "mine").glob("*.npy"))) == 1
    monkeypatch.delenv("MARGINSEG_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache_dir() == tmp_path / "marginseg"
