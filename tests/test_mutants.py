"""The table of mutants fits the code as it is; `python -m tests.mutants` runs them."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from tests.mutants import checkout
from tests.mutants.mutant import Mutant
from tests.mutants.table import MUTANTS

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_changes_the_one_place_that_it_means(mutant: Mutant) -> None:
    source = (ROOT / mutant.file).read_text(encoding="utf-8")
    assert source.count(mutant.text) == 1
    changed = mutant.applied_to(source)
    assert changed != source
    if mutant.file.endswith(".py"):
        ast.parse(changed)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_tests_of_a_mutant_are_there(mutant: Mutant) -> None:
    assert mutant.tests
    for test in mutant.tests:
        path, _, name = test.partition("::")
        tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
        names = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        assert name in names or (not name and names)


def test_names_are_unique() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)


def test_a_text_that_is_gone_or_there_twice_is_refused() -> None:
    mutant = Mutant("one", "file", "a + b", "a - b", "It is less.", ("tests",))
    assert mutant.applied_to("c = a + b") == "c = a - b"
    for source in ("c = b + a", "a + b, a + b"):
        with pytest.raises(ValueError, match="^one: expected its text once in file, got"):
            mutant.applied_to(source)


@pytest.mark.slow
def test_what_fails_with_a_mutant_is_told_and_the_source_put_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a made-up checkout, of which one test sees the mistake and the other does not."""
    root = tmp_path / "root"
    for name in ("csrc", "python/marginseg", "tests"):
        (root / name).mkdir(parents=True)
    for name in ("CMakeLists.txt", "pyproject.toml"):
        (root / name).touch()
    source = root / "python" / "marginseg" / "__init__.py"
    source.write_text("def total(a, b):\n    return a + b\n")
    (root / "tests" / "test_total.py").write_text(
        "import marginseg\n"
        "def test_of_zeros():\n    assert marginseg.total(0, 0) == 0\n"
        "def test_of_ones():\n    assert marginseg.total(1, 1) == 2\n"
    )
    monkeypatch.setattr(checkout, "ROOT", root)
    (tmp_path / "work").mkdir()
    place = checkout.Checkout(tmp_path / "work", compiles=False)
    file = "tests/test_total.py"
    mutant = Mutant("less", str(source.relative_to(root)), "a + b", "a - b", "It is less.", (file,))
    assert place.test([file]) is None
    with place.mutated(mutant):
        assert place.test([file]) == f"{file}::test_of_ones"
        assert place.test([f"{file}::test_of_zeros"]) is None
        with pytest.raises(checkout.BrokenError, match="^the tests cannot be run"):
            place.test(["tests/test_nobody.py"])
    assert place.test([file]) is None
    assert "a + b" in source.read_text()


def test_an_unknown_mutant_is_named() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.mutants", "--only", "nobody"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == "--only: expected the name of a mutant, got nobody\n"
