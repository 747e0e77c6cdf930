# `make study`, `make test` and `make bench` need Python, a C++ compiler and pip; each installs what
# is missing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip install -q --disable-pip-version-check -c constraints.txt
# The compilers' tools live in the environment too, not in one that is made anew each time: what has
# been compiled stays, and only what has changed is compiled again.
INSTALL := $(PIP) --no-build-isolation
# Tests share the cores; each process imports torch, so there is no use in many.
PARALLEL := -n auto --maxprocesses 8 --dist worksteal
# An editable install knows the packages that there were when it was made.
PACKAGES := $(shell find python -name __init__.py)
SOURCES := pyproject.toml constraints.txt CMakeLists.txt $(PACKAGES) $(shell find csrc -type f)
SANITIZED := build/sanitized
EMULATION := $(shell find tests/cuda_emulation -type f)

.PHONY: study test test-all test-sanitized bench lint format clean

study: $(VENV)/installed
	$(BIN)/marginseg study --preset quick --output study

# Slow tests kill what they started and watch the time: they run alone, one after the other.
test: $(VENV)/testable
	$(BIN)/pytest -m "not slow" $(PARALLEL)

# With many examples of each property, and with the packages that integrations are for.
test-all: $(VENV)/testable $(VENV)/peers
	$(BIN)/pytest -m "not slow" --hypothesis-profile thorough $(PARALLEL)
	$(BIN)/pytest -m slow

# The CPU kernels with AddressSanitizer and UBSan, in an environment of their own, which takes its
# packages from $(VENV) and this package from $(SANITIZED).
test-sanitized: $(SANITIZED)/built
	for set in $$($(BIN)/python -m tests.instruction_sets); do \
	  echo "MARGINSEG_SIMD=$$set"; \
	  MARGINSEG_SIMD=$$set MARGINSEG_TEST_KERNELS=cpu PYTHONPATH=$(SANITIZED)/python \
	  ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 \
	  LD_PRELOAD="$$($(CXX) -print-file-name=libasan.so) $$($(CXX) -print-file-name=libstdc++.so)" \
	  $(SANITIZED)/venv/bin/python -m pytest -m "not slow" --ignore tests/ops/test_cuda.py \
	    tests/ops tests/test_exclusive.py tests/test_noise.py tests/test_threshold.py $(PARALLEL) || exit 1; \
	done

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

$(VENV)/builder: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) scikit-build-core pybind11 cmake ninja
	touch $@

# Editable: changes of Python take effect at once, changes of C++ on the next make.
$(VENV)/installed: $(VENV)/builder $(SOURCES)
	$(INSTALL) -e .
	touch $@

# The CUDA kernels are also built to run on the CPU, for the tests: tests/cuda_emulation/README.md.
# CMake remembers that, so what is installed later keeps them.
$(VENV)/testable: $(VENV)/builder $(SOURCES) $(EMULATION)
	$(INSTALL) -C cmake.define.MARGINSEG_EMULATION=ON -e ".[test]"
	touch $@ $(VENV)/installed

$(SANITIZED)/built: $(VENV)/testable $(SOURCES) $(shell find python -name '*.py')
	$(BIN)/cmake -G Ninja -S . -B $(SANITIZED) -DCMAKE_BUILD_TYPE=None -DMARGINSEG_SANITIZE=ON \
	  -DMARGINSEG_CUDA=OFF -DPython_EXECUTABLE=$(abspath $(BIN))/python \
	  -DCMAKE_MAKE_PROGRAM=$(abspath $(BIN))/ninja \
	  -DSKBUILD_PROJECT_VERSION=sanitized -Dpybind11_DIR=$$($(BIN)/python -m pybind11 --cmakedir)
	$(BIN)/cmake --build $(SANITIZED) --target _cpu
	rm -rf $(SANITIZED)/python && cp -r python $(SANITIZED)/python
	rm -f $(SANITIZED)/python/marginseg/*.so && cp $(SANITIZED)/_cpu*.so $(SANITIZED)/python/marginseg
	$(PYTHON) -m venv --without-pip $(SANITIZED)/venv
	$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
	  > $$($(SANITIZED)/venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/shared.pth
	touch $@

# What is large, and only some tests need: Ray, and the packages that integrations are for. Of what
# nnU-Net brings, torchvision is for one build of torch alone: beside another one, torchmetrics and
# timm, which asks for it, cannot be imported. No test needs them.
$(VENV)/peers: $(VENV)/installed
	$(INSTALL) -e ".[ray,calibration,monai,torchio,torchmetrics,nnunet]"
	$(BIN)/pip uninstall -q -y timm torchvision
	touch $@

# Fuzzing that coverage guides.
$(VENV)/fuzzed: $(VENV)/testable
	$(INSTALL) -e ".[fuzz]"
	touch $@

$(VENV)/linters: $(VENV)/installed
	$(INSTALL) -e ".[lint]"
	touch $@

$(VENV)/benchmarks: $(VENV)/installed
	$(INSTALL) -e ".[bench]"
	touch $@

clean:
	rm -rf $(VENV) build
