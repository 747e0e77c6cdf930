"""What the guides show runs."""

from __future__ import annotations

import pytest

import documents

INTEGRATIONS = documents.ROOT / "docs" / "guides" / "integrations.md"

#: What its sections may need, and not everyone has.
PEERS = {"batchgeneratorsv2", "monai", "nnunetv2", "torchio", "torchmetrics"}

WITH_SNIPPETS = [
    path for path in documents.GUIDES if documents.blocks(path, "python") and path != INTEGRATIONS
]
WITH_COMMANDS = [
    path
    for path in documents.GUIDES
    if any(arguments[0] not in documents.LONG for arguments in documents.commands(path))
]
LONG = [
    pytest.param(arguments, id=f"{documents.name_of(path)}-{' '.join(arguments)[:40]}")
    for path in documents.ALL
    if path.exists()
    for arguments in documents.commands(path)
    if arguments[0] in documents.LONG
]


def test_there_is_something_to_run():
    assert {path.stem for path in WITH_SNIPPETS} >= {"python", "study"}
    assert {path.stem for path in WITH_COMMANDS} >= {"command-line"}
    assert len(LONG) >= 8


@pytest.mark.parametrize("path", WITH_SNIPPETS, ids=documents.name_of)
def test_snippets_run(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert documents.run_snippets(path) > 0


@pytest.mark.parametrize("section", documents.sections(INTEGRATIONS))
def test_snippets_run_with_the_package_of_their_section(section, tmp_path, monkeypatch):
    for package in PEERS & documents.imported(documents.sections(INTEGRATIONS)[section]):
        pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)
    documents.make_inputs()
    assert documents.run_snippets(INTEGRATIONS, section) > 0


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("path", WITH_COMMANDS, ids=documents.name_of)
def test_commands_run(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    documents.make_inputs()
    assert documents.run_commands(path) > 0


@pytest.mark.parametrize("arguments", LONG)
def test_long_commands_have_these_options(arguments):
    """Studies and their data have tests of their own; here it is what they are shown with."""
    documents.parse(arguments)


@pytest.mark.parametrize(
    "wrong", ["studies -o out", "study --epoch 3 -o out", "study --preset best -o out"]
)
def test_parsing_finds_what_is_wrong(wrong):
    with pytest.raises(Exception, match="studies|--epoch|best"):
        documents.parse(wrong.split())
