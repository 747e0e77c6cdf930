#!/usr/bin/env bash
# On a machine with a GPU: builds, tests, measures, and checks memory and races; in less than 9
# minutes, without the network. What it needs is torch, pybind11, scikit-build-core, CMake, nvcc,
# pytest, hypothesis and SciPy in $PYTHON (python3); what else is missing is named and skipped.
#
#   bench/gpu.sh [--rehearse] [STAGE...]
#
# The stages, most telling first: build tests benchmark training memcheck racecheck; all of them
# where none is named. Each needs the build, which stays in $BUILD (build/gpu). Results go to
# bench/results/gpu-<name>.json and training-<name>.json, each row when it is there; logs, and copies
# of the results, to $OUT (build/gpu).
#
# --rehearse runs the stages without a GPU: the kernels on the CPU, by their emulation in the tests,
# tiny benchmarks that write into $OUT, no checkers. It takes as long as it takes.
set -uo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3}
BUILD=${BUILD:-build/gpu}
OUT=${OUT:-build/gpu}
ALL=(build tests benchmark training memcheck racecheck)
rehearse=
stages=()
for argument in "$@"; do
  if [[ $argument == --rehearse ]]; then
    rehearse=yes
  elif [[ " ${ALL[*]} " == *" $argument "* ]]; then
    stages+=("$argument")
  else
    echo "$argument: expected --rehearse or one of ${ALL[*]}" >&2
    exit 2
  fi
done
((${#stages[@]})) || stages=("${ALL[@]}")

if [[ -n $rehearse ]]; then
  export CUDA_VISIBLE_DEVICES=
  cmake_options=(-C cmake.define.MARGINSEG_EMULATION=ON)
else
  capability=$("$PYTHON" - <<'PYTHON_END'
import sys
try:
    import torch
except ImportError:
    sys.exit("torch is not installed")
if not torch.cuda.is_available():
    sys.exit("no CUDA device is here: nothing can be measured")
print("%d%d" % torch.cuda.get_device_capability())
PYTHON_END
  ) || exit 1
  # The machine code of this device only: half the time.
  cmake_options=(-C cmake.define.MARGINSEG_CUDA=ON
    -C "cmake.define.CMAKE_CUDA_ARCHITECTURES=$capability")
fi

mkdir -p "$OUT" "$BUILD"
OUT=$(cd "$OUT" && pwd)
BUILD=$(cd "$BUILD" && pwd)
SITE=$BUILD/site
export PYTHONUNBUFFERED=1
export PYTHONPATH=$SITE${PYTHONPATH:+:$PYTHONPATH}
# Without ninja Make builds, one file at a time unless it is told otherwise.
CMAKE_BUILD_PARALLEL_LEVEL=${CMAKE_BUILD_PARALLEL_LEVEL:-$(nproc)}
export CMAKE_BUILD_PARALLEL_LEVEL
failed=()

# stage NAME SECONDS COMMAND...: runs it, with its output in a log and the end of it here.
stage() {
  local name=$1 limit=$2 start=$SECONDS
  shift 2
  if [[ -n $rehearse ]]; then
    limit=1800
  fi
  timeout --kill-after=10 "$limit" "$@" >"$OUT/$name.log" 2>&1
  local status=$?
  if ((status == 0)); then
    echo "== $name: passed, $((SECONDS - start)) s"
  else
    failed+=("$name")
    echo "== $name: FAILED with status $status after $((SECONDS - start)) s (124: out of time)"
  fi
  tail -n "${LINES_SHOWN:-8}" "$OUT/$name.log"
  return $status
}

build() {
  rm -rf "$SITE"
  stage build 110 "$PYTHON" -m pip install --no-build-isolation --no-deps --no-index \
    --target "$SITE" -C "build-dir=$BUILD/cmake" "${cmake_options[@]}" . || exit 1
}

# The files of the tests that a GPU can fail, as far as what they import is installed.
tests() {
  local files=() parallel=() file missing
  for file in tests/test_{exclusive,noise,threshold}.py tests/training/test_{augmentation,step}.py \
    tests/ops/test_{assign_labels,constants,cuda,dice_threshold,dice_threshold_large,emulation}.py \
    tests/ops/test_{folded_share,gaussian_field,gaussian_filter,root_kernel,sample}.py \
    tests/ops/test_{warp,warp_derivatives}.py; do
    if [[ ! -e $file ]]; then
      failed+=("$file")
      echo "-- $file: FAILED, it is not here"
      continue
    fi
    missing=$("$PYTHON" - "$file" <<'PYTHON_END'
import ast, importlib.util, sys
# What tests share lies beside them.
sys.path.insert(0, "tests")
names = set()
for node in ast.walk(ast.parse(open(sys.argv[1]).read())):
    if isinstance(node, ast.Import):
        names |= {alias.name.partition(".")[0] for alias in node.names}
    elif isinstance(node, ast.ImportFrom) and node.level == 0:
        names.add(node.module.partition(".")[0])
print(" ".join(sorted(name for name in names if importlib.util.find_spec(name) is None)))
PYTHON_END
    )
    if [[ -n $missing ]]; then
      echo "-- $file: skipped, not installed: $missing"
    else
      files+=("$file")
    fi
  done
  # Here it is the GPU that is tested; the CPU's kernels are everywhere else.
  if [[ -z $rehearse ]]; then
    export MARGINSEG_TEST_KERNELS=cuda
  fi
  if "$PYTHON" -c "import xdist" 2>/dev/null; then
    parallel=(-n auto --maxprocesses 8)
  fi
  stage tests 135 "$PYTHON" -m pytest -q -p no:cacheprovider -m "not slow" "${parallel[@]}" \
    "${files[@]}"
}

# Copies what a stage has measured, whether it came to its end or not.
keep() {
  if [[ -z $rehearse ]]; then
    find bench/results -name "$1-*.json" ! -name '*-cpu.json' -exec cp -f {} "$OUT" \;
  fi
}

benchmark() {
  local options=()
  if [[ -n $rehearse ]]; then
    options=(--rehearse)
  fi
  LINES_SHOWN=60 stage benchmark 110 "$PYTHON" -m bench.gpu "${options[@]}"
  keep gpu
}

training() {
  local options=(--steps 50 --settings 16-32-64-128-256:64x64x64)
  if [[ -n $rehearse ]]; then
    options=(--device cpu --steps 1 --rounds 1 --counts 1 --settings 2-4:8x8x8
      --output "$OUT/rehearsal")
  fi
  stage training 50 "$PYTHON" -m bench.training "${options[@]}"
  keep training
}

# Every kernel once, on small volumes, watched by a tool of compute-sanitizer.
checked() {
  if [[ -n $rehearse ]]; then
    stage "$1" "$2" "$PYTHON" -m bench.gpu.short
  elif command -v compute-sanitizer >/dev/null; then
    stage "$1" "$2" compute-sanitizer --tool "$1" --error-exitcode 9 "$PYTHON" -m bench.gpu.short
  else
    echo "-- $1: skipped, compute-sanitizer is not installed"
  fi
}

# torch's cache gives out parts of large blocks, and behind it memcheck sees no access that leaves a
# tensor.
memcheck() { PYTORCH_NO_CUDA_MEMORY_CACHING=1 checked memcheck 90; }

racecheck() { checked racecheck 40; }

for name in "${stages[@]}"; do
  if [[ $name != build && ! -d $SITE/marginseg ]]; then
    echo "$name: nothing is built yet: begin with bench/gpu.sh ${rehearse:+--rehearse }build" >&2
    exit 1
  fi
  "$name"
done

if ((${#failed[@]})); then
  echo "FAILED: ${failed[*]}"
  exit 1
fi
echo "all stages passed"
