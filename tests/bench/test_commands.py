"""What the benchmark of the commands runs, and what it sees of a process's memory."""

from __future__ import annotations

import gzip
import io
import json
import math
import os
import shutil
import tempfile
from importlib.util import find_spec

import nibabel
import numpy as np
import pytest

from bench import commands, process, record, volumes


@pytest.mark.slow
def test_every_command_has_a_row():
    rows = list(commands.measure(edge=16, turns=1))
    assert [row.command.split()[0] for row in rows] == [
        "--help",
        "import",
        "noise",
        "noise",
        "threshold",
        "threshold",
        "marginals",
        "marginals",
    ]
    for row in rows:
        assert row.seconds > 0
        assert row.peer_seconds > 0
        assert math.isfinite(row.ratio)
        assert len(commands.cells(record.plain(row))) == len(commands.HEADINGS)
    starts, held = rows[:2], rows[2:]
    assert all(row.peer == "import torch" and row.met is None for row in starts)
    assert rows[0].peak_bytes < rows[1].peak_bytes  # --help imports no torch
    assert [row.size for row in held] == ["16³", "8³", *["16³"] * 4]
    assert "--samples 5" in rows[3].command
    assert rows[5].peer.startswith("decompression by ")
    for row in held:
        assert row.ratio == (row.seconds - row.start_up) / row.peer_seconds
        reached = row.target is None or row.ratio <= row.target
        if row.memory_target is not None:
            reached &= row.memory_ratio <= row.memory_target
        nothing_is_aimed_at = row.target is None and row.memory_target is None
        assert row.met is (None if nothing_is_aimed_at else reached)


def test_what_it_is_held_against_reads_and_writes_all(tmp_path):
    source = tmp_path / "source.nii.gz"
    results = [tmp_path / f"result{n}.nii.gz" for n in (1, 2)]
    for value, path in enumerate((source, *results)):
        image = nibabel.Nifti1Image(np.full((4, 5, 6), value, np.uint8), np.diag([1, 2, 3, 1]))
        nibabel.save(image, path)
    held = commands.Held("noise", (), source, source, tmp_path, tuple(results), 120)
    assert list(held.run_peer(tmp_path)) == ["nibabel reads and writes"]
    written = nibabel.load(tmp_path / "peer.nii.gz")
    assert np.unique(written.dataobj).tolist() == [2]  # of the last result
    assert written.affine.tolist() == np.diag([1.0, 2, 3, 1]).tolist()


def test_every_wheel_decompresses_the_whole_file(tmp_path):
    source = tmp_path / "map.nii.gz"
    source.write_bytes(gzip.compress(bytes(3_000_352), 1))
    held = commands.Held("", (), source, source, source, (), 3_000_000, peer=commands.DECOMPRESS)
    seconds = held.run_peer(tmp_path)
    wheels = {"isal.igzip": "isal", "zlib_ng.gzip_ng": "zlib_ng", "deflate": "deflate"}
    installed = {name for name, package in wheels.items() if find_spec(package)}
    assert set(seconds) == {f"decompression by {name}" for name in installed | {"gzip"}}
    source.write_bytes(gzip.compress(bytes(3_000_351), 1))
    with pytest.raises(RuntimeError, match="expected 3000352 bytes, got 3000351"):
        held.run_peer(tmp_path)


def test_the_fastest_is_that_of_the_median_it_is_shown_with():
    turns = [{"a": 1.0, "b": 3.0}, {"a": 5.0, "b": 2.0}, {"a": 4.0, "b": 3.5}]
    assert commands.fastest(turns) == ("b", 3.0)


def test_a_full_disk_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=3_000_000_000))
    volumes.require_room(tmp_path, 256)
    with pytest.raises(OSError, match=r"expected 3.5 GB free, got 3.0; TMPDIR"):
        volumes.require_room(tmp_path, 512)


class Filled(io.FileIO):
    """A file of a disk without sparse files: what is not written is stored all the same."""

    def truncate(self, size):
        written = self.write(bytes(size))
        os.fsync(self.fileno())
        return written


def test_a_disk_that_stores_holes_is_known(tmp_path, monkeypatch):
    with (tmp_path / "hole").open("wb") as file:
        file.truncate(1 << 24)
    assert volumes.has_sparse_files(tmp_path) == ((tmp_path / "hole").stat().st_blocks < 2048)
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda dir: Filled(dir / "filled", "w"))
    assert not volumes.has_sparse_files(tmp_path)


def test_the_page_is_what_the_numbers_make():
    stored = json.loads((record.FOLDER / "commands.json").read_text())
    assert (record.FOLDER / "commands.md").read_text() == commands.markdown(stored)


def test_memory_is_seen():
    idle = process.run("import time; time.sleep(0.1)")
    held = process.run("import time; a = bytearray(b'1') * 60_000_000; time.sleep(0.1); print(7)")
    assert held.output == "7\n"
    assert held.seconds > 0.1
    assert 55e6 < held.anonymous_bytes - idle.anonymous_bytes < 70e6
    assert 55e6 < held.peak_bytes - idle.peak_bytes < 70e6


def test_a_process_that_fails_says_why():
    with pytest.raises(RuntimeError, match="no such thing"):
        process.run("raise SystemExit('no such thing')")
