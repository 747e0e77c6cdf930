"""The house: imports point down only, and the front hall holds the science."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "python" / "marginseg"

#: The rooms, from the top of the house down. A room may import those of lower floors.
FLOORS = (
    {"cli"},
    {"report"},
    {"study", "evaluation"},
    {"__init__"},
    {"integrations"},
    {"rule"},
    {"decided"},
    {"noise", "threshold", "exclusive", "flat_map", "calibration", "training", "data"},
    {"ops", "losses", "metrics", "files"},
    {"arrays", "axes", "values"},
    {"numbers", "classes", "intervals"},
    {"_cpu", "_cuda"},
)
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}

#: What stands at the package's root beside the rooms.
HALL = {
    "__init__",
    "arrays",
    "axes",
    "classes",
    "decided",
    "exclusive",
    "flat_map",
    "intervals",
    "losses",
    "metrics",
    "noise",
    "numbers",
    "rule",
    "threshold",
    "values",
}

MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path
    for path in sorted(PACKAGE.rglob("*.py"))
}


def imports(source: str) -> Iterator[tuple[str, int]]:
    """Give each module of the package that a source imports, wherever it does, and the line."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "the house imports by full names"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            parts = name.split(".")
            if parts[0] != "marginseg":
                continue
            # The longest part that is a module; what follows is a name in it.
            for end in range(len(parts), 0, -1):
                module = ".".join(parts[1:end])
                if module in MODULES or module in FLOORS[-1]:
                    yield module, node.lineno
                    break
                package = f"{module}.__init__" if module else "__init__"
                if package in MODULES:
                    yield package, node.lineno
                    break
            else:
                raise AssertionError(f"line {node.lineno}: there is no {name}")


def upward(module: str, source: str) -> list[str]:
    """Return the imports of a module that do not point down, in words."""
    room = module.partition(".")[0]
    wrong = []
    for target, line in imports(source):
        other = target.partition(".")[0]
        if other != room and FLOOR_OF[other] <= FLOOR_OF[room]:
            wrong.append(f"{module}, line {line}: imports {target}")
    return wrong


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_down(module: str) -> None:
    assert upward(module, MODULES[module].read_text(encoding="utf-8")) == []


def test_there_is_no_circle() -> None:
    graph = {
        module: {target for target, _ in imports(path.read_text(encoding="utf-8"))}
        for module, path in MODULES.items()
    }
    try:
        order = list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(f"a circle of imports: {' <- '.join(error.args[1])}")
    assert set(order) >= set(MODULES)


def test_every_module_is_in_a_room_of_the_house() -> None:
    assert {module.partition(".")[0] for module in MODULES} <= set(FLOOR_OF)


def test_the_hall_holds_the_science_alone() -> None:
    assert {path.stem for path in PACKAGE.glob("*.py")} == HALL


def test_what_points_up_is_found() -> None:
    """The test itself would see it, in a function and for type checkers too."""
    for source in (
        "from marginseg.study.grid import run_study",
        "def f():\n    from marginseg.report import write_report",
        "if TYPE_CHECKING:\n    import marginseg.cli.study",
        "from marginseg import dice",
        "from marginseg.data import cache",
    ):
        assert len(upward("noise", source)) == 1
    assert upward("noise", "from marginseg.ops.warp import warp\nimport torch") == []
    assert upward("study.grid", "from marginseg.study.task import Task") == []
