"""What tclean makes of NGC 5921 with Clark's CLEAN, as numbers per channel: tests/golden/clark.json.

For a python that has casatasks, casadata and casaconfig: ``PYTHON tests/support/casa_statistics.py MS OUT.json``, with MS the
set in data/, unpacked. Works in a folder of its own beside OUT.json.
"""

import json
import shutil
import sys
from pathlib import Path

PARAMETERS = {
    "specmode": "cube", "imsize": 256, "cell": "15arcsec", "nchan": 46, "start": 5, "width": 1, "gridder": "standard",
    "interpolation": "linear", "pblimit": -0.2, "perchanweightdensity": True, "niter": 6000, "interactive": False,
    "weighting": "briggs", "robust": 0.5, "threshold": "8mJy", "deconvolver": "clark", "gain": 0.1, "cyclefactor": 1.0,
    "usemask": "user", "mask": "circle[[128pix,128pix],80pix]",
}  # fmt: skip
CASE = "briggs05_clark"


def digits(values):
    return [float(f"{value:.8g}") for value in values]


def planes(path):
    from casatools import image

    tool = image()
    tool.open(str(path))
    cube, beams = tool.getchunk().squeeze(), tool.restoringbeam()
    tool.close()
    return (cube.reshape(-1, 1) if cube.ndim == 1 else cube.reshape(-1, cube.shape[-1]).T).astype("f8"), beams


def statistics(path):
    cube = planes(path)[0]
    return {
        "max_per_channel": digits(cube.max(axis=1)),
        "rms_per_channel": digits((cube**2).mean(axis=1) ** 0.5),
        "sum_per_channel": digits(cube.sum(axis=1)),
    }


def main(vis, out):
    import casadata
    from casaconfig import config

    config.data_auto_update = config.measures_auto_update = False
    config.nologger, config.measurespath = True, casadata.datapath
    from casatasks import tclean, version_string

    folder = out.with_suffix(".run")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    done = tclean(vis=str(vis), imagename=str(folder / "cube"), **PARAMETERS)
    named = planes(folder / "cube.image")[1]["beams"]
    beams = [named[name] for name in sorted(named, key=lambda name: int(name[1:]))]
    parts = ("major", "minor", "positionangle")
    record = {
        "casa": version_string().replace(" ", ""),
        "parameters": {"vis": vis.name} | PARAMETERS,
        **{name: int(done[name]) for name in ("iterdone", "nmajordone", "stopcode")},
        "beams_arcsec_deg": [digits(beam["*0"][part]["value"] for part in parts) for beam in beams],
        **{product: statistics(folder / f"cube.{product}") for product in ("sumwt", "image", "residual", "model")},
    }
    out.write_text("{\n" + f"{json.dumps(CASE)}: {json.dumps(record)}" + "\n}\n")
    shutil.rmtree(folder)


if __name__ == "__main__":
    main(*(Path(name).resolve() for name in sys.argv[1:3]))
