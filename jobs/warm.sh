#!/usr/bin/env bash
# Compiles the kernels for the processor of this node, into NUMBA_CACHE_DIR, by imaging a toy: a minute where nothing is compiled
# yet, some seconds otherwise.
#
#   bash jobs/warm.sh
#
# Within a batch job it needs one process on each kind of node: srun --mpi=none --ntasks-per-node=1 bash jobs/warm.sh
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/environment.sh"

export SLURM_STEP_NUM_TASKS=1 # each process is a job of its own, not a rank of one
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat >"$folder/sky.toml" <<'SKY'
[[component]]
flux = "1Jy"
SKY
"$here/radps" simulate "$folder/sky.toml" --ms "$folder/toy.ms" --nchan 16 --nantenna 6 --nintegration 4 --npol 2 --noise 10mJy
for deconvolver in hogbom clark; do
  "$here/radps" image "$folder/toy.ms" --imagename "$folder/$deconvolver" --imsize 64 --cell 0.2arcsec --weighting briggs --niter 100 \
    --deconvolver "$deconvolver"
done
