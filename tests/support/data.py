"""Where test data are, and how they are unpacked once per machine user."""

from __future__ import annotations

import os
import shutil
import tarfile
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
SHARED = REPOSITORY.parent / "shared"
GOLDEN = SHARED / "golden"


def unpack(archive: Path, into: Path) -> Path:
    """Unpack ``NAME.tar.xz`` into ``into/NAME`` unless it is there; safe when several processes do it at once."""
    name = archive.name.removesuffix(".tar.xz")
    target = into / name
    if not target.exists():
        into.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(dir=into))
        with tarfile.open(archive) as tar:
            # Debian 12's Python 3.11.2 has no filters yet; these archives are our own
            tar.extractall(scratch, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
        try:
            os.rename(scratch / name, target)
        except OSError:
            if not target.exists():
                raise
        shutil.rmtree(scratch, ignore_errors=True)
    return target


def cache_directory() -> Path:
    """Where unpacked sets stay between test runs."""
    return Path(os.environ.get("RADPS_TEST_CACHE", REPOSITORY / ".cache" / "data"))


def archive_of(name: str) -> Path | None:
    """The archive of the set ``name``: the repository's own, else the shared folder's; None where there is neither."""
    places = (REPOSITORY / "data", SHARED / "data")
    return next((path for place in places if (path := place / f"{name}.tar.xz").exists()), None)


def dataset(name: str) -> Path:
    """Path of the unpacked set ``name`` (read it, never write)."""
    archive = archive_of(name)
    if archive is None:
        raise FileNotFoundError(f"no archive of {name}")
    return unpack(archive, cache_directory())
