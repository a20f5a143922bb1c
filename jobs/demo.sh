#!/usr/bin/env bash
# The main job on real data: a CLEANed image cube of the HI line of NGC 5921 (VLA, 1995), made by two MPI ranks.
#
#   bash jobs/demo.sh
#
# Sets up what is missing, unpacks the data that come with the checkout, images them, prints where the products are and
# how their numbers compare with the known ones, and draws channel maps. RADPS_DEMO_RANKS sets the number of ranks (2).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash jobs/setup.sh
. jobs/environment.sh

run=runs/demo
name=ngc5921_src_contsub
mkdir -p "$run"
if [ ! -d "$run/$name.ms" ]; then
  echo "demo: unpacking data/$name.ms.tar.xz (source: data/README.md)"
  rm -rf "$run/unpacking"
  # Python rather than tar, which can't read .xz where xz-utils is missing; Debian 12's 3.11.2 has no filters yet
  python -c 'import sys, tarfile as t
t.open(sys.argv[1]).extractall(sys.argv[2], **({"filter": "data"} if hasattr(t, "data_filter") else {}))' "data/$name.ms.tar.xz" "$run/unpacking"
  mv "$run/unpacking/$name.ms" "$run/"
  rmdir "$run/unpacking"
fi

echo "demo: imaging 46 channels with ${RADPS_DEMO_RANKS:-2} ranks"
mpirun -n "${RADPS_DEMO_RANKS:-2}" radps image "$run/$name.ms" --imagename "$run/ngc5921" \
  --imsize 256 --cell 15arcsec --nchan 46 --start 5 --width 1 --weighting briggs --robust 0.5 \
  --niter 6000 --threshold 8mJy --mask 'circle[[128pix,128pix],80pix]' --pblimit -0.2 --overwrite

python jobs/demo_report.py "$run/ngc5921"
