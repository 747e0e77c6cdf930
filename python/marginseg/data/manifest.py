"""The manifest of prepared cases: what they are, what they were made from, and their checksums."""

from __future__ import annotations

import hashlib
import json
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from marginseg.data.entries import read_entry, sha256
from marginseg.files.atomic import replacing
from marginseg.files.names import as_file_name
from marginseg.files.records import parse_json

#: Of the file's content; a later version of the package can tell what it reads.
FORMAT = 1


class FoundFile(NamedTuple):
    """A file that a case is made from: its size in bytes, and when it was changed last."""

    path: Path
    size: int
    mtime_ns: int


@dataclass(frozen=True)
class Prepared:
    """A case in the cache.

    Attributes:
        name: The case's name.
        file: Its entry.
        sha256: Of the entry's file.
        sources: The files that it was made from.
        spacing: Millimetres a voxel of the entry.
        patch_voxels: Of the structure, in the entry.
        voxels: Of the structure, in the whole volume as it is stored; None: not known.
        cut: Which share of those lies in the volume's outermost planes; None: not known.

    """

    name: str
    file: Path
    sha256: str
    sources: tuple[FoundFile, ...]
    spacing: tuple[float, ...]
    patch_voxels: int
    voxels: int | None
    cut: float | None

    @classmethod
    def read(cls, name: str, file: Path, sources: tuple[FoundFile, ...]) -> Prepared:
        """Describe an entry that is there.

        Args:
            name: The case's name.
            file: The entry.
            sources: The files that it was made from.

        Raises:
            ValueError: The file is not a whole entry.
            OSError: The file cannot be read.

        """
        case = read_entry(file, name)
        patch_voxels = int(case.label.sum())
        return cls(
            name, file, sha256(file), sources, case.spacing, patch_voxels, case.voxels, case.cut
        )


def write_manifest(
    folder: Path,
    structure: str,
    parameters: Mapping[str, object],
    rule: str,
    cases: Sequence[Prepared],
    skipped: Sequence[tuple[str, str]],
    root: Path | None,
) -> Path:
    """Write ``manifest-STRUCTURE-HASH.json``, whole or not at all; the hash is of the parameters.

    A file that already says the same is left as it is.

    Args:
        folder: The cache.
        structure: What the cases show.
        parameters: What was asked for, as JSON.
        rule: Which cases are kept, in words.
        cases: Those that were kept.
        skipped: ``(name, reason)`` of those that were not.
        root: The data set's folder: files in it are named relative to it. None: there is none.

    Returns:
        The manifest's file.

    Raises:
        OSError: The file cannot be written.

    """
    facts = {
        "format": FORMAT,
        "structure": structure,
        "directory": None if root is None else str(root.resolve()),
        "parameters": dict(parameters),
    }
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]
    path = folder / f"manifest-{as_file_name(structure)}-{digest}.json"
    content = {
        **facts,
        "rule": rule,
        "cases": [
            {
                "name": case.name,
                "file": case.file.name,
                "sha256": case.sha256,
                "spacing": case.spacing,
                "patch_voxels": case.patch_voxels,
                "voxels": case.voxels,
                "cut": case.cut,
                "sources": [_source(file, root) for file in case.sources],
            }
            for case in cases
        ],
        "skipped": [{"name": name, "reason": reason} for name, reason in skipped],
    }
    text = (json.dumps(content, indent=1) + "\n").encode()
    if not path.is_file() or path.read_bytes() != text:
        with replacing(path, fsync=False) as file:
            file.write(text)
    return path


def _source(file: FoundFile, root: Path | None) -> dict[str, object]:
    path = file.path
    if root is not None and path.is_relative_to(root):
        path = path.relative_to(root)
    return {"file": str(path), "bytes": file.size, "mtime_ns": file.mtime_ns}


def manifests(cache_dir: Path) -> list[Path]:
    """Return the manifests in a cache, by name.

    Example:
        >>> manifests(Path("no", "such", "folder"))
        []

    """
    return sorted(cache_dir.glob("manifest-*.json"))


def read_manifest(path: Path) -> dict[str, Any]:
    """Read a manifest.

    Args:
        path: The manifest, beside the entries that it lists.

    Returns:
        What the JSON file says: ``structure``, ``directory``, ``parameters``, ``rule``, ``cases``
        and ``skipped``.

    Raises:
        ValueError: It is damaged, or of a version that this package does not know.
        OSError: It cannot be read.

    Example:
        >>> import tempfile
        >>> from marginseg.data import phantom
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     data = phantom("tube", cases=2, patch_shape=(8, 8, 8), cache_dir=folder)
        ...     content = read_manifest(data.manifest)
        >>> content["structure"], [case["name"] for case in content["cases"]]
        ('tube', ['phantom_000', 'phantom_001'])

    """
    try:
        content = parse_json(path.read_text(encoding="utf-8"))
        known = content["format"] == FORMAT
        texts = [content["structure"]] if known else []
        texts += [case[key] for case in content["cases"] for key in ("name", "file", "sha256")]
        if not all(isinstance(text, str) for text in texts):
            raise TypeError("a name is no text")
        files = [case["file"] for case in content["cases"]]
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{path}: expected a manifest, got a damaged or another file") from error
    if not known:
        found = reprlib.repr(content["format"])
        raise ValueError(f"{path}: expected a manifest of format {FORMAT}, got {found}")
    for file in files:
        if Path(file).name != file:
            raise ValueError(f"{path}: expected names of files beside it, got {reprlib.repr(file)}")
    return dict(content)


def verify(manifest: Path) -> list[tuple[str, str]]:
    """Compare the checksums of all entries with their manifest.

    Args:
        manifest: As for :func:`read_manifest`.

    Returns:
        ``(case, what is wrong)``, with the file's name in it, of every entry that is missing,
        unreadable, or not what was written; ``[]`` if all is well.

    Raises:
        ValueError: The manifest is damaged.
        OSError: The manifest cannot be read.

    Example:
        >>> import tempfile
        >>> from marginseg.data import phantom
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     data = phantom("tube", cases=2, patch_shape=(8, 8, 8), cache_dir=folder)
        ...     well = verify(data.manifest)
        ...     data.cases.files[1].unlink()
        ...     wrong = verify(data.manifest)
        >>> well, [case for case, _ in wrong]
        ([], ['phantom_001'])

    """
    wrong = []
    for case in read_manifest(manifest)["cases"]:
        file = manifest.with_name(case["file"])
        try:
            problem = "" if sha256(file) == case["sha256"] else "has changed"
        except FileNotFoundError:
            problem = "is missing"
        except OSError as error:
            problem = f"is unreadable ({error.strerror or error})"
        if problem:
            wrong.append((str(case["name"]), f"{file.name} {problem}"))
    return wrong
