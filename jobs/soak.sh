#!/usr/bin/env bash
# Kill jobs at random and go on with them, N times: jobs/soak.sh N [SEED]. Prints a summary; exit status 1 if any run ended with
# an error or with other bits than those of an undisturbed one. 5 to 8 seconds per kill on 2 cores.
set -euo pipefail
cd "$(dirname "$0")/.."
. jobs/environment.sh
data=$(mktemp -d)
trap 'rm -rf "$data"' EXIT
tar -xf data/ngc5921_src_contsub.ms.tar.* -C "$data"
python tests/support/kills.py "${1:-30}" "$data/ngc5921_src_contsub.ms" "${2:-1}"
