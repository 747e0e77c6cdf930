"""Citation, changelog, templates and hooks say what pyproject.toml says."""

from __future__ import annotations

import importlib.util
import re
import tomllib

import pytest
from tests.fuzz.formats import FORMATS

import documents

PROJECT = tomllib.loads(documents.read(documents.ROOT / "pyproject.toml"))["project"]
CITATION = documents.ROOT / "CITATION.cff"


def test_citation_has_the_version():
    written = re.findall(r"^version: *\"?([^\"\n]+)\"?$", documents.read(CITATION), re.MULTILINE)
    assert written == [PROJECT["version"]]


def test_citation_parses():
    yaml = pytest.importorskip("yaml")
    content = yaml.safe_load(documents.read(CITATION))
    assert content["cff-version"] == "1.2.0"
    assert content["license"] == PROJECT["license"]
    assert content["title"] == PROJECT["name"]
    paper = content["preferred-citation"]
    assert paper["title"] in documents.read(documents.README)
    assert [author["family-names"] for author in paper["authors"]] == ["Nordström", "Hult", "Maki"]
    assert "2304.04116" in paper["url"]


def test_changelog_has_what_is_unreleased_first():
    headings = re.findall(
        r"^## \[([^]]+)\]", documents.read(documents.ROOT / "CHANGELOG.md"), re.MULTILINE
    )
    assert headings[0] == "Unreleased"
    assert len(set(headings)) == len(headings)


def test_forms_parse():
    yaml = pytest.importorskip("yaml")
    folder = documents.ROOT / ".github" / "ISSUE_TEMPLATE"
    forms = sorted(folder.glob("*.yml"))
    assert [form.name for form in forms] == ["bug_report.yml", "config.yml", "feature_request.yml"]
    for form in forms:
        content = yaml.safe_load(documents.read(form))
        if form.name == "config.yml":
            continue
        assert content["name"]
        assert content["description"]
        fields = [field for field in content["body"] if field["type"] != "markdown"]
        identifiers = [field["id"] for field in fields]
        assert len(set(identifiers)) == len(identifiers) > 0
        assert all(field["attributes"]["label"] for field in fields)


def test_hooks_run_the_linters_of_the_makefile():
    """Versions live in constraints.txt alone: hooks run what `make lint` has installed."""
    yaml = pytest.importorskip("yaml")
    content = yaml.safe_load(documents.read(documents.ROOT / ".pre-commit-config.yaml"))
    assert [repository["repo"] for repository in content["repos"]] == ["local"]
    hooks = content["repos"][0]["hooks"]
    assert all(hook["language"] == "system" for hook in hooks)
    tools = {hook["entry"].split()[0] for hook in hooks}
    makefile = documents.read(documents.ROOT / "Makefile")
    linters = set(re.findall(r"\$\(BIN\)/(ruff|clang-format|mypy)", makefile))
    assert tools == {f".venv/bin/{name}" for name in linters}


def test_what_runs_each_night_is_there():
    """Every target of the Makefile and every program that the recipe names."""
    yaml = pytest.importorskip("yaml")
    recipe = yaml.safe_load(
        documents.read(documents.ROOT / ".github" / "workflows" / "nightly.yml")
    )
    commands = "\n".join(
        entry[step]
        for entry in recipe["jobs"]["check"]["strategy"]["matrix"]["include"]
        for step in ("prepare", "run")
    )
    targets = set(re.findall(r"make (\S+)", commands))
    assert {"test-all", "test-sanitized"} <= targets
    makefile = documents.read(documents.ROOT / "Makefile").replace("$(VENV)", ".venv")
    assert targets <= set(re.findall(r"^(\S+):", makefile, re.MULTILINE))
    programs = set(re.findall(r"-m (\S+)", commands))
    assert programs == {"tests.fuzz", "tests.fuzz.readers", "tests.mutants"}
    assert all(importlib.util.find_spec(program) for program in programs)
    named = re.search(r"for reader in (.*); do", commands)
    assert named
    assert set(named[1].split()) == set(FORMATS) - {"report"}  # whose figures take seconds each
