#!/usr/bin/env bash
# Sets up all that radps_mpi needs in this checkout: bash jobs/setup.sh [EXTRA...]   (extras of pyproject.toml; default: test)
#
# MPI and parallel HDF5 come from the modules that are loaded (mpicc and h5pcc in PATH, or HDF5_DIR / HDF5_ROOT), or from the
# system's packages, which are installed where that is possible (root on Debian or Ubuntu). h5py is built against that HDF5,
# mpi4py is made to use that MPI, everything else are wheels; all of it goes into .venv and .cache of the checkout.
# Does nothing, quickly, when nothing is to do. What each step printed is in .cache/setup.log.
#
# RADPS_PYTHON       the Python to use (3.11 to 3.13; default: the first suitable one in PATH)
# RADPS_WHEEL_CACHE  where the built h5py is kept (default .cache/wheels)
# RADPS_NO_APT=1     never install system packages
# MPICC              the MPI compiler (default mpicc, or cc on a Cray)
set -euo pipefail

H5PY_VERSION=3.16.0
MPI4PY_VERSION=4.1.2
HDF5_OLDEST=1.10.7
APT_MPI="openmpi-bin libopenmpi-dev"
APT_HDF5="libhdf5-openmpi-dev pkg-config"
APT_COMPILER="gcc libc6-dev"
APT_PYTHON="python3-venv python3-dev"

cd "$(dirname "${BASH_SOURCE[0]}")/.."
ROOT=$PWD
VENV=$ROOT/.venv
PYTHON=$VENV/bin/python
STAMP=$VENV/radps-setup
LOG=$ROOT/.cache/setup.log
WHEELS=${RADPS_WHEEL_CACHE:-$ROOT/.cache/wheels}
EXTRAS=("${@:-test}")
SITE_HDF5=${HDF5_DIR:-${HDF5_ROOT:-}}
HDF5_PREFIX=$SITE_HDF5
SECONDS=0

say() { echo "setup: $*"; }

fail() {
  echo "setup: $*" >&2
  exit 1
}

# run MESSAGE COMMAND...: one line on the terminal, the command's output in the log, its end shown if it fails.
run() {
  local message=$1
  shift
  say "$message"
  printf '\n=== %s: %s\n' "$message" "$*" >>"$LOG"
  "$@" >>"$LOG" 2>&1 </dev/null || {
    echo "setup: FAILED: $message. The end of $LOG:" >&2
    tail -n 25 "$LOG" >&2
    exit 1
  }
}

# Everything that the result depends on: another Python, other modules, a moved checkout or new dependencies set up anew.
stamp_key() {
  local python_version
  python_version=$("$PYTHON" -V 2>&1) || return 1
  {
    cat pyproject.toml jobs/setup.sh
    echo "$ROOT $python_version $SITE_HDF5 $(command -v "$(mpi_compiler)" || true)"
  } | sha256sum | cut -c1-32
}

mpi_compiler() {
  if [ -n "${MPICC:-}" ]; then
    echo "$MPICC"
  elif [ -n "${CRAYPE_VERSION:-}" ]; then
    echo cc
  else
    echo mpicc
  fi
}

is_done() {
  [ -x "$PYTHON" ] && [ -r "$STAMP" ] || return 1
  [ "$(head -n 1 "$STAMP")" = "$(stamp_key)" ] || return 1
  python_wanted_is_the_one_there || return 1
  local extra
  for extra in "${EXTRAS[@]}"; do
    grep -qx "$extra" "$STAMP" || return 1
  done
}

python_wanted_is_the_one_there() {
  [ -z "${RADPS_PYTHON:-}" ] || [ "$("$RADPS_PYTHON" -V 2>&1)" = "$("$PYTHON" -V 2>&1)" ]
}

# --- what the system offers -------------------------------------------------------------------------------------------

is_suitable_python() {
  "$1" - <<'PY' 2>/dev/null
import os, sys, sysconfig
import ensurepip, lzma, ssl, venv
headers = os.path.join(sysconfig.get_path("include"), "Python.h")
sys.exit(not ((3, 11) <= sys.version_info[:2] <= (3, 13) and os.path.exists(headers)))
PY
}

find_python() {
  local candidate
  for candidate in ${RADPS_PYTHON:-python3 python3.13 python3.12 python3.11 /usr/bin/python3}; do
    if command -v "$candidate" >/dev/null && is_suitable_python "$candidate"; then
      command -v "$candidate"
      return 0
    fi
  done
  return 1
}

has_compiler() { command -v "$(mpi_compiler)" >/dev/null && { command -v gcc || command -v cc; } >/dev/null; }

is_parallel_hdf5() { grep -qsE '^#define H5_HAVE_PARALLEL 1' "$1"/include/H5pubconf*.h; }

# Sets HDF5_KIND to "prefix" (then HDF5_PREFIX is where it is) or "pkgconfig", and HDF5_VERSION.
find_hdf5() {
  if [ -z "$HDF5_PREFIX" ] && pkg-config --exists hdf5-openmpi 2>/dev/null; then
    HDF5_KIND=pkgconfig
    HDF5_VERSION=$(pkg-config --modversion hdf5-openmpi)
    return 0
  fi
  if [ -z "$HDF5_PREFIX" ] && command -v h5pcc >/dev/null; then
    HDF5_PREFIX=$(h5pcc -showconfig 2>/dev/null | sed -n 's/^ *Installation point: *//p')
  fi
  [ -n "$HDF5_PREFIX" ] || return 1
  is_parallel_hdf5 "$HDF5_PREFIX" || fail "the HDF5 in $HDF5_PREFIX is not a parallel one: load the module of parallel HDF5, or unset HDF5_DIR and HDF5_ROOT"
  HDF5_KIND=prefix
  HDF5_VERSION=$(sed -nE 's/^#define H5_(PACKAGE_)?VERSION "([0-9.]+).*/\2/p' "$HDF5_PREFIX"/include/H5pubconf*.h | head -n 1)
}

hdf5_is_recent() { [ "$(printf '%s\n%s\n' "$HDF5_OLDEST" "$HDF5_VERSION" | sort -V | head -n 1)" = "$HDF5_OLDEST" ]; }

missing_packages() {
  local wanted="" package
  find_python >/dev/null || wanted+=" $APT_PYTHON"
  has_compiler || wanted+=" $APT_COMPILER"
  command -v "$(mpi_compiler)" >/dev/null || wanted+=" $APT_MPI"
  find_hdf5 || wanted+=" $APT_HDF5"
  for package in $wanted; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || echo "$package"
  done
}

can_use_apt() { [ "$(id -u)" = 0 ] && [ -z "${RADPS_NO_APT:-}" ] && command -v apt-get >/dev/null; }

install_packages() {
  local packages
  packages=$(missing_packages | tr '\n' ' ')
  [ -n "$packages" ] || return 0
  export DEBIAN_FRONTEND=noninteractive
  run "reading Debian's package lists" apt-get -o Acquire::Retries=3 -qq update
  # shellcheck disable=SC2086 # one word per package
  run "installing $packages" apt-get -o Acquire::Retries=3 -qq install -y --no-install-recommends $packages
}

say_what_is_missing() {
  local missing=""
  find_python >/dev/null || missing+="
  - Python 3.11, 3.12 or 3.13 with venv and headers${RADPS_PYTHON:+ (RADPS_PYTHON=$RADPS_PYTHON is not one)}: package python3-venv python3-dev, or a python module; RADPS_PYTHON names another one"
  command -v "$(mpi_compiler)" >/dev/null || missing+="
  - an MPI with its compiler $(mpi_compiler): packages $APT_MPI, or the module of your site's MPI"
  command -v gcc >/dev/null || command -v cc >/dev/null || missing+="
  - a C compiler: packages $APT_COMPILER, or a compiler module"
  find_hdf5 || missing+="
  - parallel HDF5 $HDF5_OLDEST or newer: packages $APT_HDF5, or the module of parallel HDF5 (hdf5/parallel, hdf5-mpi, cray-hdf5-parallel); HDF5_DIR names its folder"
  [ -z "$missing" ] && return 0
  fail "can't go on without:$missing
  On Debian or Ubuntu:  apt-get install $APT_MPI $APT_HDF5 $APT_COMPILER $APT_PYTHON
  (as root this script does it by itself). On a cluster load the modules, then run it again: jobs/setup.sh uses what is loaded."
}

# --- what goes into the virtual environment ---------------------------------------------------------------------------

pip_install() { "$PYTHON" -m pip install --retries 8 --timeout 60 --progress-bar off "$@"; }

make_venv() {
  local base
  if [ -x "$PYTHON" ] && "$PYTHON" -m pip -V 2>/dev/null | grep -q "$VENV/" && python_wanted_is_the_one_there; then
    return 0
  fi
  base=$(find_python)
  run "virtual environment with $("$base" -V 2>&1) ($base)" "$base" -m venv --clear "$VENV"
}

# The MPI library that programs built with this compiler use: soname and file.
linked_libmpi() {
  local scratch
  scratch=$(mktemp -d "$ROOT/.cache/mpi.XXXXXX")
  echo 'int MPI_Finalize(void); int f(void) { return MPI_Finalize(); }' >"$scratch/f.c"
  "$CC" -shared -fPIC -o "$scratch/f.so" "$scratch/f.c" >>"$LOG" 2>&1 || fail "the MPI compiler $CC can't link a library: see the end of $LOG"
  ldd "$scratch/f.so" | awk '$1 ~ /^libmpi[^+]*\.so/ {print $1, $3; exit}'
  rm -rf "$scratch"
}

mpi4py_uses_that_mpi() {
  "$PYTHON" - "$1" <<'PY' >>"$LOG" 2>&1
import os, sys
import mpi4py
mpi4py.rc.initialize = False
from mpi4py import MPI
loaded = {os.path.realpath(line.split()[-1]) for line in open("/proc/self/maps") if "/libmpi" in line}
print("mpi4py", mpi4py.__version__, "loads", loaded, "wanted", sys.argv[1])
sys.exit(os.path.realpath(sys.argv[1]) not in loaded)
PY
}

install_mpi4py() {
  local soname file
  read -r soname file <<<"$(linked_libmpi)"
  [ -n "${file:-}" ] || fail "found no libmpi in what $CC links: is it an MPI compiler?"
  mpi4py_uses_that_mpi "$file" && return 0
  run "mpi4py $MPI4PY_VERSION" pip_install "mpi4py==$MPI4PY_VERSION"
  mpi4py_uses_that_mpi "$file" && return 0
  run "building mpi4py for $soname (2 minutes)" env CC="$CC" MPICC="$CC" "$PYTHON" -m pip install --retries 8 --no-cache-dir \
    --no-build-isolation --no-binary=mpi4py --force-reinstall --no-deps "mpi4py==$MPI4PY_VERSION"
  mpi4py_uses_that_mpi "$file" || fail "mpi4py does not load $file, the library of $CC: see the end of $LOG"
}

h5py_is_parallel() {
  "$PYTHON" -c "
import sys, h5py
ok = h5py.get_config().mpi and h5py.__version__ == '$H5PY_VERSION' and h5py.version.hdf5_version == '$HDF5_VERSION'
sys.exit(not ok)" >>"$LOG" 2>&1
}

build_h5py() { # into the folder $1
  printf '[build_ext]\nparallel=%s\n' "$(nproc)" >"$ROOT/.cache/distutils.cfg"
  local where=(HDF5_PKGCONFIG_NAME=hdf5-openmpi)
  [ "$HDF5_KIND" = pkgconfig ] || where=(HDF5_DIR="$HDF5_PREFIX")
  # -O1 halves the build and h5py is glue; build isolation would compile another mpi4py for 20 minutes.
  env -u HDF5_DIR -u HDF5_ROOT CC="$CC" HDF5_MPI=ON "${where[@]}" CFLAGS='-O1 -g0' DIST_EXTRA_CONFIG="$ROOT/.cache/distutils.cfg" \
    "$PYTHON" -m pip wheel --retries 8 --no-cache-dir --no-build-isolation --no-deps --no-binary=h5py -w "$1" "h5py==$H5PY_VERSION"
}

install_h5py() {
  h5py_is_parallel && return 0
  local tag folder
  tag=$("$PYTHON" -c 'import sys; print(sys.implementation.cache_tag)')
  folder=$WHEELS/h5py-$H5PY_VERSION-$tag-hdf5-$HDF5_VERSION-mpi4py-$MPI4PY_VERSION-$({ uname -m; linked_libmpi; echo "$HDF5_PREFIX"; } | sha256sum | cut -c1-12)
  if ! ls "$folder"/h5py-*.whl >/dev/null 2>&1; then
    mkdir -p "$WHEELS"
    rm -rf "$folder.partial"
    run "building h5py $H5PY_VERSION against parallel HDF5 $HDF5_VERSION (1 to 2 minutes)" build_h5py "$folder.partial"
    mv "$folder.partial" "$folder"
  fi
  run "h5py $H5PY_VERSION with parallel HDF5 $HDF5_VERSION" pip_install --no-deps --force-reinstall "$folder"/h5py-*.whl
}

check_result() {
  local launcher=""
  . jobs/environment.sh
  if command -v mpirun >/dev/null; then
    launcher="mpirun -n 2"
  elif command -v mpiexec >/dev/null; then
    launcher="mpiexec -n 2"
  else
    say "no mpirun or mpiexec here: checking on one rank only; run 'srun -n 2 radps doctor' inside a job"
  fi
  # shellcheck disable=SC2086 # launcher and its options
  run "checking MPI and parallel HDF5 together${launcher:+ on 2 ranks}" $launcher "$PYTHON" -m mpi4py jobs/check_parallel_hdf5.py "$ROOT/.cache"
}

if is_done; then
  exit 0
fi
mkdir -p "$ROOT/.cache"
if command -v flock >/dev/null; then
  exec 9>"$ROOT/.cache/setup.lock"
  flock 9
  is_done && exit 0
fi
date >"$LOG"
export PIP_CACHE_DIR=${PIP_CACHE_DIR:-$ROOT/.cache/pip} PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore

if can_use_apt; then
  install_packages
fi
say_what_is_missing
find_hdf5
hdf5_is_recent || fail "HDF5 $HDF5_VERSION is too old: h5py $H5PY_VERSION needs $HDF5_OLDEST or newer; load a newer module of parallel HDF5"
CC=$(mpi_compiler)
make_venv
run "build tools" pip_install -U pip 'setuptools>=77.0.1' wheel 'cython>=3,<4' pkgconfig packaging 'numpy>=2,<3'
install_mpi4py
install_h5py
if [ -r "$STAMP" ]; then # extras that were asked for earlier stay
  mapfile -t EXTRAS < <(printf '%s\n' "${EXTRAS[@]}" $(tail -n +2 "$STAMP") | sort -u)
fi
names=$(IFS=,; echo "${EXTRAS[*]}")
run "radps_mpi and its dependencies [$names]" pip_install --no-build-isolation -e ".[$names]"
check_result
printf '%s\n' "$(stamp_key)" "${EXTRAS[@]}" >"$STAMP"
# Kernels compiled from sources that are no more
find "$ROOT/.cache/numba" -mindepth 1 -maxdepth 1 ! -name "${NUMBA_CACHE_DIR##*/}" -mtime +30 -exec rm -rf {} + || true
say "done in $SECONDS s; activate with: . jobs/environment.sh"
