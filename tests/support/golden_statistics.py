"""The subset of CASA's results that travels with the checkout: tests/golden/statistics.json.

``python tests/support/golden_statistics.py`` makes it anew from the folder of goldens beside the checkout.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
STATISTICS = REPOSITORY / "tests" / "golden" / "statistics.json"
KEPT = {"natural_dirty": ("image",), "briggs05_dirty": ("image", "psf"), "briggs05_clean": ("image", "residual")}
"""Cases, and the images whose maxima and rms per channel are kept (of all pixels, not of a crop)."""


def make_statistics() -> dict[str, Any]:
    """Contents of the file: per case the request, counts, beams, sums of weights and statistics, to 8 digits."""
    return {case: _statistics_of(case, products) for case, products in KEPT.items()}


def _statistics_of(case: str, products: tuple[str, ...]) -> dict[str, Any]:
    text = (REPOSITORY.parent / "shared" / "golden" / f"ngc5921_{case}.json").read_text()
    record = json.loads(text, parse_float=lambda digits: float(f"{float(digits):.8g}"))
    names = ("casa", "parameters", "iterdone", "nmajordone", "stopcode", "sumwt", "beams_arcsec_deg", *products)
    return {name: record[name] for name in names}


def main() -> int:
    lines = (f"{json.dumps(case)}: {json.dumps(statistics)}" for case, statistics in make_statistics().items())
    STATISTICS.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
