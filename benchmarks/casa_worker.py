"""Runs inside the python that has casatasks, never in ours: python casa_worker.py REQUEST.json

The request is a list of {"task": name of a CASA task, "arguments": {...}}. {"version": of casatasks, "tasks": [...]} goes to
REQUEST.json.done, with the seconds that each task took and the iterations of CLEAN that it counted (null where it does none).
"""

import json
import sys
import time


def configure():
    """Take CASA's data from the casadata package where it is installed: nothing is fetched, nothing written at home."""
    from casaconfig import config

    config.data_auto_update = config.measures_auto_update = False
    config.nologger = True
    try:
        import casadata
    except ImportError:
        return
    config.measurespath = casadata.datapath


def main(path):
    configure()
    import casatasks

    done = []
    with open(path) as f:
        requests = json.load(f)
    for request in requests:
        began = time.perf_counter()
        answer = getattr(casatasks, request["task"])(**request["arguments"])
        seconds = time.perf_counter() - began
        iterations = answer.get("iterdone") if isinstance(answer, dict) else None
        done.append({"seconds": seconds, "iterations": None if iterations is None else int(iterations)})
    with open(path + ".done", "w") as f:
        json.dump({"version": casatasks.version_string(), "tasks": done}, f)


if __name__ == "__main__":
    main(sys.argv[1])
