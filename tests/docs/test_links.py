"""What the documentation points to is there: files, headings, names, make's targets, extras."""

from __future__ import annotations

import importlib
import re
import tomllib
from pathlib import Path

import pytest

import documents

every_document = pytest.mark.parametrize("path", documents.ALL, ids=documents.name_of)

#: Documents that say where things stand in the code.
MAPS = [documents.CONTRIBUTING, documents.ROOT / "docs" / "architecture.md"]

#: Where a path may begin that is not written from the root.
BASES = ("", "python/marginseg", "csrc")

#: Where a file may be of which only the name is written.
ROOMS = ("csrc", "python", "tests", "bench")

#: Endings of files that are in the repository; what a study writes has others.
SOURCES = (".py", ".pyi", ".h", ".cpp", ".cu", ".cuh", ".md", ".toml", ".txt", ".html", ".sh")


@every_document
def test_relative_links_lead_somewhere(path):
    assert [link for link in documents.links(path) if not _leads_somewhere(path, link)] == []


def _leads_somewhere(path: Path, link: str) -> bool:
    name, _, anchor = link.partition("#")
    target = (path.parent / name).resolve() if name else path
    if not target.exists():
        return False
    return not anchor or anchor in documents.anchors(target)


def test_the_readme_shows_a_picture_and_leads_to_every_page():
    shown = documents.links(documents.README)
    assert "docs/figure1.png" in shown
    index = documents.ROOT / "docs" / "index.md"
    reached = {(documents.ROOT / name).resolve() for name in shown}
    reached |= {
        (index.parent / name.partition("#")[0]).resolve() for name in documents.links(index)
    }
    pages = {page.resolve() for page in (documents.ROOT / "docs").rglob("*.md")}
    assert pages - reached == set()


@every_document
def test_names_of_the_package_exist(path):
    """`marginseg.a.b.c`, in text or tables, is a module or something in one."""
    dotted = [w for w in documents.code_words(path) if re.fullmatch(r"marginseg(\.\w+)+", w)]
    assert [name for name in dotted if not _resolves(name)] == []


def _resolves(name: str) -> bool:
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError as error:
            if not (error.name or "").startswith("marginseg"):
                return True  # the module is there, and the package that it needs is not
            continue
        for part in parts[length:]:
            found = getattr(found, part, None)
        return found is not None
    return False


@pytest.mark.parametrize("path", MAPS, ids=documents.name_of)
def test_files_of_the_maps_exist(path):
    """A path in backticks is a file or folder here; OP, NEW and FIGURE stand for any name."""
    shown = [
        word
        for word in documents.code_words(path)
        if re.fullmatch(r"[\w./-]+", word)
        and ("/" in word or (word.endswith(SOURCES) and word not in SOURCES))
    ]
    assert len(shown) > 20
    assert [word for word in shown if not _is_there(word)] == []


def _is_there(word: str) -> bool:
    if word.startswith((".venv/", "torch.", "build/", "dist/")):
        return True
    pattern = re.sub(r"(?<![a-zA-Z])(OP|NEW|FIGURE)\b", "*", word).rstrip("/")
    if "/" in pattern:
        return any(any((documents.ROOT / base).glob(pattern)) for base in BASES)
    # A name alone: the table's row says where.
    return any(any((documents.ROOT / room).rglob(pattern)) for room in ROOMS) or any(
        documents.ROOT.glob(pattern)
    )


@every_document
def test_targets_of_make_exist(path):
    makefile = documents.read(documents.ROOT / "Makefile")
    targets = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    shown = [w for w in documents.code_words(path) if w.startswith("make ")]
    shown += [line for line in documents.shell_lines(path) if line.startswith("make ")]
    named = {target for line in shown for target in line.split()[1:] if "=" not in target}
    assert targets is not None
    assert named - set(targets[1].split()) == set()


@every_document
def test_extras_exist(path):
    project = tomllib.loads(documents.read(documents.ROOT / "pyproject.toml"))["project"]
    shown = re.findall(r"'\.\[(\w+)\]'", "\n".join(documents.shell_lines(path)))
    assert set(shown) - set(project["optional-dependencies"]) == set()


def test_a_wrong_link_or_name_is_found(tmp_path: Path):
    page = tmp_path / "page.md"
    page.write_text('# A page\n\n[a](b.md#c) ![d](e.png) <img src="f.png"> [g](#a-page)\n')
    assert documents.links(page) == ["b.md#c", "e.png", "f.png", "#a-page"]
    assert documents.anchors(page) == {"a-page"}
    assert [_leads_somewhere(page, link) for link in ("b.md", "#a-page", "#b")] == [
        False,
        True,
        False,
    ]
    assert not _resolves("marginseg.noise.GaussianFieldNoise.nothing")
    assert not _is_there("python/marginseg/nothing.py")
