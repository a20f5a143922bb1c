# Source this: `. jobs/environment.sh`. It selects the checkout's virtual environment and keeps every cache inside the checkout,
# or among the user's where that is read-only. Whatever is set already wins, so that a site or a job can choose otherwise; but
# the folder of kernels that it chose itself follows their sources.

RADPS_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export RADPS_ROOT
if [ -r "$RADPS_ROOT/.venv/bin/activate" ]; then
  . "$RADPS_ROOT/.venv/bin/activate"
fi

# Outside a batch system there are often more ranks than cores: Open MPI 4.1 reads the first, 5.0 the second.
if [ -z "${SLURM_JOB_ID:-}" ]; then
  export OMPI_MCA_rmaps_base_oversubscribe=${OMPI_MCA_rmaps_base_oversubscribe:-1}
  export PRTE_MCA_rmaps_default_mapping_policy=${PRTE_MCA_rmaps_default_mapping_policy:-:oversubscribe}
fi
if [ "$(id -u)" = 0 ]; then # containers; Open MPI wants it said twice
  export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
fi
if [ -e /.dockerenv ] || [ -e /run/.containerenv ]; then # containers forbid one process to read another's memory
  export OMPI_MCA_btl_vader_single_copy_mechanism=${OMPI_MCA_btl_vader_single_copy_mechanism:-none}
fi

# Compiled kernels outlive an uninstall when they lie beside the sources, and an installation may be read-only.
radps_cache=$RADPS_ROOT/.cache
if ! mkdir -p "$radps_cache" 2>/dev/null || [ ! -w "$radps_cache" ]; then
  radps_cache=${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/radps
fi
# numba looks whether the file of a compiled function has changed, not whether those have that it calls from other files.
radps_kernels=$({ cat "$RADPS_ROOT"/kernels/radps_kernels/*.py 2>/dev/null || true; } | cksum | cut -d ' ' -f 1)
case ${NUMBA_CACHE_DIR:-} in
  "" | "$radps_cache"/numba | "$radps_cache"/numba/*) export NUMBA_CACHE_DIR=$radps_cache/numba/$radps_kernels ;;
esac
export MPLCONFIGDIR=${MPLCONFIGDIR:-$radps_cache/matplotlib}
export PIP_CACHE_DIR=${PIP_CACHE_DIR:-$radps_cache/pip}
mkdir -p "$NUMBA_CACHE_DIR" "$MPLCONFIGDIR"

# File systems without locks (some Lustre mounts) would refuse every open; the run directory has a lock of its own.
export HDF5_USE_FILE_LOCKING=${HDF5_USE_FILE_LOCKING:-BEST_EFFORT}

# One rank per core is the rule: libraries that start a thread per core on each rank only get in each other's way.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} OPENBLAS_NUM_THREADS=${OPENBLAS_NUM_THREADS:-1}
