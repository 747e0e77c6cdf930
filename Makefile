# `make study`, `make test` and `make bench` need Python, a C++ compiler and pip; each installs what is missing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The CUDA kernels are also built to run on the CPU, for the tests: tests/cuda_emulation/README.md.
INSTALL := $(BIN)/pip install -q --disable-pip-version-check -c constraints.txt \
	-C cmake.define.MARGINSEG_EMULATION=ON
SOURCES := pyproject.toml constraints.txt CMakeLists.txt $(shell find csrc tests/cuda_emulation -type f)

.PHONY: study test test-all bench lint format clean

study: $(VENV)/installed
	$(BIN)/marginseg study --preset quick --output study

test: $(VENV)/installed
	$(BIN)/pytest -m "not slow"

test-all: $(VENV)/cluster
	$(BIN)/pytest

bench: $(VENV)/benchmarks
	$(BIN)/python -m bench

lint: $(VENV)/linters
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run --Werror $$(git ls-files 'csrc/*')
	$(BIN)/mypy

format: $(VENV)/linters
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $$(git ls-files 'csrc/*')

# Editable: Python changes take effect at once, C++ changes on the next make.
$(VENV)/installed: $(SOURCES)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(INSTALL) -e ".[test]"
	touch $@

# Ray, with its 281 MB, only for the tests that start it.
$(VENV)/cluster: $(VENV)/installed
	$(INSTALL) -e ".[test,ray]"
	touch $@

$(VENV)/linters: $(VENV)/installed
	$(INSTALL) -e ".[lint]"
	touch $@

$(VENV)/benchmarks: $(VENV)/installed
	$(INSTALL) -e ".[bench]"
	touch $@

clean:
	rm -rf $(VENV) build
