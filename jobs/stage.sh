# Source this in a batch script behind jobs/environment.sh, `. jobs/stage.sh`: it copies Python's packages, the program and the
# compiled kernels to a disk of each node, and ranks start from there. Each rank reads a thousand files when it starts;
# thousands of ranks at once keep the servers of a shared file system busy for minutes. docs/many_ranks.md counts what is
# read from where. If it doesn't work, one line says so and the ranks start from the checkout.
#
# RADPS_STAGE      folder on the nodes' own disks, in which each job has one of its own [$SLURM_TMPDIR, $TMPDIR or /tmp]
# kernel_options   array: options of the run for warm.sh
#
# The copies are removed when the script ends, and before attempt.sh has the job queued again. A job that is ended from outside
# can't start anything on its other nodes any more: what is there is left to the site, or to the next attempt.

: "${SLURM_JOB_ID:?jobs/stage.sh is for batch jobs}"
radps_copy=$(realpath -ms "${RADPS_STAGE:-${SLURM_TMPDIR:-${TMPDIR:-/tmp}}}/radps-$SLURM_JOB_ID")

on_each_node() { timeout "${step_limit_s:-0}" srun --mpi=none --ntasks="${SLURM_NNODES:-1}" --ntasks-per-node=1 "$@"; }

unstage() {
  trap - EXIT
  step_limit_s=60 on_each_node rm -rf "$radps_copy" || rm -rf "$radps_copy" || true
}

before_requeue() { unstage; } # the one of attempt.sh does nothing

# A file that changed while it was read, as in a cache that others use, is status 1; all else that went wrong is 2.
archive() { tar --format=posix --pax-option=delete=atime,delete=ctime "$@" || [ $? -eq 1 ]; }

# numba keeps compiled kernels in a folder that is called by the SHA-1 of the name of the sources' folder, and takes them if the
# sources have the content that they had (in older versions: time, with its fractions, and size). So the copied cache is called
# by the copied sources. Where numba does it otherwise, or a node has another processor, warm.sh compiles: once on each node.
cache_of() { echo "$(basename "$1")_$(printf %s "$1" | sha1sum | cut -c -40)"; }

pack() { # pack FILE
  local kernels compiled
  kernels=$("$RADPS_ROOT/.venv/bin/python" -P -c 'import radps_kernels; print(radps_kernels.__path__[0])') || return
  compiled=$NUMBA_CACHE_DIR/$(cache_of "$kernels")
  [ -d "$compiled" ] || bash "$RADPS_ROOT/jobs/warm.sh" "${kernel_options[@]}" || return # once, not in each job
  archive -cf "$1" -C "$RADPS_ROOT" jobs radps_mpi kernels benchmarks || return
  if [ -d "$compiled" ]; then
    archive -rf "$1" --transform "s,^\.,.cache/compiled/$(cache_of "$radps_copy/kernels/radps_kernels"),S" -C "$compiled" . || return
  fi
  archive -rf "$1" --transform 's,^\.,.venv,S' -C "$RADPS_ROOT/.venv" .
}

# The archive is packed on the disk that it is to be unpacked on: the checkout may be read-only.
stage() {
  on_each_node bash -c 'rm -rf "$1" && mkdir -p "${1%/*}" && mkdir -m 700 "$1"' stage "$radps_copy" &&
    pack "$radps_copy/packed.tar" &&
    sbcast --force "$radps_copy/packed.tar" "$radps_copy/received.tar" &&
    rm "$radps_copy/packed.tar" &&
    on_each_node bash -c 'tar -xf "$1/received.tar" -C "$1" && rm "$1/received.tar"' stage "$radps_copy" &&
    on_each_node env "${radps_copied[@]}" bash "$radps_copy/jobs/warm.sh" "${kernel_options[@]}"
}

radps_copied=(
  RADPS_ROOT="$radps_copy"
  PATH="$radps_copy/jobs:$radps_copy/.venv/bin:$PATH"
  PYTHONPATH="$radps_copy:$radps_copy/kernels${PYTHONPATH:+:$PYTHONPATH}"
  NUMBA_CACHE_DIR="$radps_copy/.cache/compiled"
)
trap unstage EXIT
if stage; then
  export "${radps_copied[@]}"
else
  unstage
  echo "radps job $SLURM_JOB_ID: nothing staged, for what is said above: ranks start from $RADPS_ROOT"
fi
