# Source this in a batch script behind jobs/environment.sh, `. jobs/stage.sh`: it copies Python's packages, the program and the
# compiled kernels to a disk of each node, and ranks start from there. Each rank reads a thousand files when it starts
# (benchmarks/start_up.py counts them); thousands of ranks at once keep the servers of a shared file system busy for minutes.
#
# RADPS_STAGE   folder on the nodes' own disks, made and removed by this; where it isn't set: a folder with the job's number in
#               $SLURM_TMPDIR, $TMPDIR or /tmp
#
# Kernels are compiled once on each node where the copied ones are for another processor. Their sources are read where they are:
# numba knows compiled kernels by the place of the source.

RADPS_STAGE=${RADPS_STAGE:-${SLURM_TMPDIR:-${TMPDIR:-/tmp}}/radps-${SLURM_JOB_ID:?jobs/stage.sh is for batch jobs}}
export RADPS_STAGE

on_each_node() { srun --mpi=none --ntasks="${SLURM_NNODES:-1}" --ntasks-per-node=1 "$@"; }

stage_out() { on_each_node rm -rf "$RADPS_STAGE" || true; }

stage_in() {
  local archive=$RADPS_ROOT/.cache/stage-$SLURM_JOB_ID.tar
  tar -cf "$archive" --transform 's,^\./,.cache/numba/,' -C "$RADPS_ROOT" .venv radps_mpi jobs -C "$NUMBA_CACHE_DIR" .
  sbcast --force "$archive" "$RADPS_STAGE.tar"
  rm "$archive"
  on_each_node bash -c 'mkdir -p "$RADPS_STAGE" && tar -C "$RADPS_STAGE" -xf "$RADPS_STAGE.tar" && rm "$RADPS_STAGE.tar"'
}

mkdir -p "$NUMBA_CACHE_DIR" "$RADPS_ROOT/.cache"
trap stage_out EXIT
stage_in
export PATH=$RADPS_STAGE/jobs:$RADPS_STAGE/.venv/bin:$PATH
export PYTHONPATH=$RADPS_STAGE:$RADPS_ROOT/kernels${PYTHONPATH:+:$PYTHONPATH}
export NUMBA_CACHE_DIR=$RADPS_STAGE/.cache/numba
on_each_node bash "$RADPS_STAGE/jobs/warm.sh" >/dev/null
