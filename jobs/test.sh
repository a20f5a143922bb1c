#!/usr/bin/env bash
# Sets up what is missing and runs the tests:
#
#   bash jobs/test.sh                      everything: tests that start ranks or measure time, under 2, 3 and 4 ranks, on a Slurm;
#                                          beside them lint and the tests that need one core
#   bash jobs/test.sh lint                 ruff, mypy and the contracts on imports
#   bash jobs/test.sh serial [ARGS...]     pytest in one process
#   bash jobs/test.sh bounds [ARGS...]     the kernels' tests with every array index checked
#   bash jobs/test.sh ranks [ARGS...]      pytest under 2, 3 and 4 ranks
#   bash jobs/test.sh slurm [ARGS...]      the batch script on a Slurm of its own, or why that was skipped
#   bash jobs/test.sh N [ARGS...]          pytest under N ranks
#
# ARGS go to pytest (-k beams, a file, ...). Of several ranks only the first prints; the others write .cache/test/*.log,
# shown when something fails. The last line counts the tests of all stages; the exit status is 0 if none failed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

stage=${1:-all}
[ $# -eq 0 ] || shift
case $stage in
  all | lint | serial | bounds | ranks | slurm | [1-9] | [1-9][0-9]) ;;
  *)
    echo "jobs/test.sh: no stage '$stage': all, lint, serial, bounds, ranks, slurm or a number of ranks" >&2
    exit 64
    ;;
esac
bash jobs/setup.sh test lint
. jobs/environment.sh

results=.cache/test
rm -rf "$results"
mkdir -p "$results"
passed=0 failed=0 skipped=0
RANKS_TIMEOUT_S=600

# count STATUS FILE: adds what pytest wrote to FILE; a run that ended badly has failed, whatever it could still count.
count() {
  local status=$1 file=$2 counts="0 0 0"
  [ ! -s "$file" ] || counts=$(python - "$file" <<'PY'
import sys
import xml.etree.ElementTree as ET
suites = list(ET.parse(sys.argv[1]).getroot().iter("testsuite"))
total, skip, bad = (sum(int(s.get(k, 0)) for s in suites for k in keys) for keys in (["tests"], ["skipped"], ["failures", "errors"]))
print(total - skip - bad, bad, skip)
PY
  )
  read -r p f s <<<"$counts"
  if [ "$status" -ne 0 ] && [ "$status" -ne 5 ] && [ "$f" -eq 0 ]; then # 5: nothing was selected
    f=1
  fi
  passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
}

check() { # check NAME COMMAND...
  local name=$1
  shift
  echo "--- $name"
  if "$@"; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
}

lint() {
  check ruff ruff check
  check mypy mypy
  check "contracts on imports" lint-imports --no-logo --cache-dir .cache/import_linter
}

pytest_serial() { # pytest_serial NAME ARGS...
  local name=$1 status=0
  shift
  echo "--- pytest, $name"
  python -m pytest -q --durations 25 --durations-min 4 --junitxml="$results/$name.xml" "$@" || status=$?
  count "$status" "$results/$name.xml"
}

bounds() {
  NUMBA_BOUNDSCHECK=1 NUMBA_CACHE_DIR=$RADPS_ROOT/.cache/numba-bounds/${NUMBA_CACHE_DIR##*/} pytest_serial bounds -m "not mpi and not launches_mpi" "$@"
}

serial() { pytest_serial serial -m "not slurm" "$@"; }

NEEDS_ALL_CORES="launches_mpi or alone"

with_all_cores() { pytest_serial "with all cores" -m "not slurm and ($NEEDS_ALL_CORES)" "$@"; }

# What one core does and what no load can make fail: lint and the tests of functions, with lower priority, in the gaps that jobs
# leave (ranks waiting for a disk, a launcher, each other). It shares nothing with the tests beside it but caches made for that.
beside() {
  renice -n 10 "$BASHPID" >/dev/null || true
  lint
  pytest_serial "on one core" -p no:cacheprovider --timeout 1200 -m "not slurm and not ($NEEDS_ALL_CORES)" "$@"
  bounds -p no:cacheprovider --timeout 1200 tests/kernels
  echo "$passed $failed $skipped" >"$results/beside.counts"
}

# start_beside ARGS... and join_beside: its output comes in one piece; without its last line it has not ended, which is a failure.
start_beside() {
  set -m # a process group of its own, so that all of it can be ended with this script
  beside "$@" >"$results/beside.log" 2>&1 </dev/null &
  beside_pid=$!
  set +m
  trap 'kill -- "-$beside_pid" 2>/dev/null || true' EXIT
}

join_beside() {
  local p=0 f=1 s=0
  wait "$beside_pid" || true
  cat "$results/beside.log"
  [ ! -s "$results/beside.counts" ] || read -r p f s <"$results/beside.counts"
  passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
}

on_slurm() { pytest_serial slurm -m slurm -rs "${@:-tests/slurm}"; }

# Files with tests for several ranks, so that ranks don't import all the others; nothing if ARGS name files.
files_for_ranks() {
  local arg
  for arg in "$@"; do
    [ ! -e "${arg%%::*}" ] || return 0
  done
  grep -rlE 'mark\.mpi\b' tests --include='test_*.py' || true
}

on_ranks() { # on_ranks N ARGS...
  local n=$1 status=0 files
  shift
  mapfile -t files < <(files_for_ranks "$@")
  echo "--- pytest, $n ranks"
  timeout --kill-after=20 "$RANKS_TIMEOUT_S" mpirun -n "$n" bash -c '
    rank=${OMPI_COMM_WORLD_RANK:-${PMI_RANK:-${PMIX_RANK:-0}}}
    name=$1.rank$rank
    shift
    [ "$rank" = 0 ] || exec >"$name.log" 2>&1
    exec "$@" --junitxml="$name.xml"
  ' rank "$results/ranks$n" python -m mpi4py -m pytest -p no:cacheprovider -q -x --only-mpi --timeout 120 "${files[@]}" "$@" </dev/null || status=$?
  count "$status" "$results/ranks$n.rank0.xml"
  if [ "$status" -ne 0 ] && [ "$status" -ne 5 ]; then
    [ "$status" -ne 124 ] || echo "not finished after $RANKS_TIMEOUT_S s"
    tail -n 30 "$results/ranks$n".rank*.log
  fi
}

case $stage in
  all)
    start_beside "$@"
    with_all_cores "$@"
    for n in 2 3 4; do on_ranks "$n" "$@"; done
    on_slurm "$@"
    join_beside
    ;;
  lint) lint ;;
  serial) serial "$@" ;;
  bounds) bounds "${@:-tests/kernels}" ;;
  ranks) for n in 2 3 4; do on_ranks "$n" "$@"; done ;;
  slurm) on_slurm "$@" ;;
  *) on_ranks "$stage" "$@" ;;
esac

echo "all stages in $((SECONDS / 60)) min $((SECONDS % 60)) s"
echo "$passed passed, $failed failed, $skipped skipped"
if [ "$failed" -ne 0 ]; then
  exit 1
fi
if [ "$passed" -eq 0 ]; then
  echo "jobs/test.sh: no test ran" >&2
  exit 5
fi
