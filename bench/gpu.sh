#!/usr/bin/env bash
# On a machine with a GPU: builds, tests, checks memory and races, and measures; in less than 9
# minutes, without the network. What it needs is torch, pybind11, scikit-build-core, CMake, nvcc,
# pytest and SciPy in $PYTHON (python3); what else is missing is named and skipped.
# Writes bench/results/gpu-<name>.json, and logs to $OUT (build/gpu).
set -uo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3}
OUT=${OUT:-build/gpu}
mkdir -p "$OUT"
export OUT PYTHONUNBUFFERED=1
SITE=$(mktemp -d)
trap 'rm -rf "$SITE"' EXIT
failed=()

# stage NAME SECONDS COMMAND...: runs it, with its output in a log and the end of it here.
stage() {
  local name=$1 limit=$2 start=$SECONDS
  shift 2
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

capability=$("$PYTHON" - <<'EOF'
import sys
try:
    import torch
except ImportError:
    sys.exit("torch is not installed")
if not torch.cuda.is_available():
    sys.exit("no CUDA device is here: nothing can be measured")
print("%d%d" % torch.cuda.get_device_capability())
EOF
) || exit 1

# The machine code of this device only: half the time.
stage build 130 "$PYTHON" -m pip install --no-build-isolation --no-deps --no-index --target "$SITE" \
  -C cmake.define.MARGINSEG_CUDA=ON -C "cmake.define.CMAKE_CUDA_ARCHITECTURES=$capability" \
  -C "build-dir=$SITE/build" . || exit 1
export PYTHONPATH=$SITE${PYTHONPATH:+:$PYTHONPATH}

tests=()
for name in cuda step gaussian_filter gaussian_field warp warp_derivatives sample dice_threshold noise threshold; do
  file=$(find tests -name "test_$name.py")
  if [[ -z $file ]]; then
    failed+=("test_$name.py")
    echo "-- test_$name.py: FAILED, it is not among the tests"
    continue
  fi
  missing=$("$PYTHON" - "$file" <<'EOF'
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
EOF
)
  if [[ -n $missing ]]; then
    echo "-- $file: skipped, not installed: $missing"
  else
    tests+=("$file")
  fi
done
stage tests 150 "$PYTHON" -m pytest -q -p no:cacheprovider -m "not slow" "${tests[@]}"

if command -v compute-sanitizer >/dev/null; then
  for tool in memcheck racecheck; do
    stage "$tool" 40 compute-sanitizer --tool "$tool" --error-exitcode 9 "$PYTHON" -m bench.gpu.short
  done
else
  echo "-- memcheck, racecheck: skipped, compute-sanitizer is not installed"
fi

LINES_SHOWN=60 stage benchmark 120 "$PYTHON" -m bench.gpu

stage training 50 "$PYTHON" -m bench.training --steps 50 --settings 16-32-64-128-256:64x64x64
cp -f bench/results/training-gpu.json "$OUT" || true

if ((${#failed[@]})); then
  echo "FAILED: ${failed[*]}"
  exit 1
fi
echo "all stages passed"
