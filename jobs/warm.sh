#!/usr/bin/env bash
# Compiles the kernels for the processor of this node, into NUMBA_CACHE_DIR, by imaging toys: two minutes where nothing is
# compiled yet, some seconds otherwise.
#
#   bash jobs/warm.sh [--precision double] [--epsilon 1e-6]      for runs with these options of radps image
#
# Gridding is compiled for the footprint of a visibility, which follows from epsilon, and is smaller where many visibilities meet
# few pixels; for blocks of 16, of 8 and of one channel; and for the precision. Nothing else that a run is told makes new kernels.
#
# Within a batch job it needs one process on each kind of node: srun --mpi=none --ntasks-per-node=1 bash jobs/warm.sh
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

# Each process is a job of its own, also within one of Slurm: Open MPI would refuse to start, as srun told it nothing of ranks.
for name in "${!SLURM_@}" "${!PMI_@}" "${!PMIX_@}"; do unset "$name"; done
. "$here/environment.sh"

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat >"$folder/sky.toml" <<'SKY'
[[component]]
flux = "1Jy"
SKY

options=("$@")
radps() { "$here/radps" "$@" >"$folder/log" 2>&1 || { tail -n 20 "$folder/log" >&2 && return 1; }; }
simulate() { radps simulate "$folder/sky.toml" --nchan 24 --npol 2 --noise 10mJy "$@"; }
image() { radps image "$@" --imagename "$folder/toy" --overwrite --cell 0.2arcsec --niter 20 --nmajor 1 "${options[@]}"; }

simulate --ms "$folder/few.ms" --nantenna 6 --nintegration 4
simulate -o "$folder/many.vis.h5" --nantenna 16 --nintegration 40
image "$folder/few.ms" --imsize 64 --weighting briggs # 16 channels and 7, which are imaged in a block of 8
image "$folder/few.ms" --imsize 64 --specmode mfs
image "$folder/many.vis.h5" --imsize 32 --deconvolver clark
image "$folder/many.vis.h5" --imsize 32 --specmode mfs
