#!/usr/bin/env bash
# Kill jobs at random and go on with them, N times: jobs/soak.sh N [SEED [JOBS [FILE]]]. JOBS (1) runs go on at once, far more
# ranks than there are cores. Prints a summary, and adds it as a line to FILE (tests/faults/README.md); exit status 1 if any run
# hung, ended with an error, or with other bits than those of an undisturbed one. 5 to 8 seconds per kill on 2 cores.
set -euo pipefail
cd "$(dirname "$0")/.."
. jobs/environment.sh
seed=${2:-1} at_once=${3:-1} page=${4:-}
if [ -n "$page" ] && [ ! -f "$page" ]; then # better now than after hours
  echo "jobs/soak.sh: $page: no such file to add the summary to" >&2
  exit 64
fi
commit=$(git rev-parse --short HEAD || echo unknown)
data=$(mktemp -d)
trap 'rm -rf "$data"' EXIT
tar -xf data/ngc5921_src_contsub.ms.tar.* -C "$data"
status=0
python tests/support/kills.py "${1:-30}" "$data/ngc5921_src_contsub.ms" "$seed" "$at_once" | tee "$data/summary" || status=$?
if [ -n "$page" ]; then
  summary=$([ "$status" -le 1 ] && grep ' kills in ' "$data/summary" || echo "ended with status $status")
  echo "- $(date -u +%F), commit $commit, seed $seed: $(tail -n 1 <<<"$summary")" >>"$page"
fi
exit "$status"
