"""Every example in a docstring runs."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import marginseg

MODULES = [
    "marginseg",
    *(
        module.name
        for module in pkgutil.walk_packages(marginseg.__path__, "marginseg.")
        if not module.name.endswith(("_cpu", "_cuda", "__main__"))
    ),
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name: str) -> None:
    flags = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if not name.startswith("marginseg.integrations."):
            raise
        pytest.skip(f"{error.name} is not installed")
    result = doctest.testmod(module, optionflags=flags)
    assert result.failed == 0


@pytest.mark.parametrize("name", marginseg.__all__)
def test_public_names_are_documented_with_an_example(name: str) -> None:
    public = getattr(marginseg, name)
    assert public.__doc__
    if callable(public) and not issubclass(type(public), type):
        assert ">>>" in public.__doc__
