"""Fixtures shared by the tests."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from importlib import util
from pathlib import Path

import pytest
from chromium import PROGRAM, Chromium
from hypothesis import settings

# Each worker has a core: threads of torch would only take those of the others, and spin while they wait for them.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OPENBLAS_NUM_THREADS", str(os.cpu_count()))  # as it is for users
    os.environ.setdefault("MKL_NUM_THREADS", "1")
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# A busy machine is no fault of what is tested; the same examples each time, so that a change is judged by itself.
# `pytest --hypothesis-profile=hunt` looks for new ones.
settings.register_profile("avfuse", deadline=None, derandomize=True)
settings.register_profile("hunt", deadline=None)
settings.load_profile("avfuse")

# Benchmarks are not installed; appended, so that avfuse itself still comes from where it is installed.
sys.path.append(str(Path(__file__).resolve().parents[1]))

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of the real recordings; tests that need it are skipped where it is absent.

    AVFUSE_REQUIRE_SHARED=1, as CI sets it where the folder is there, turns that skip into a failure.
    """
    if not SHARED.is_dir():
        absent = "real recordings are not here: no ../shared/data beside the checkout"
        if os.environ.get("AVFUSE_REQUIRE_SHARED") == "1":
            pytest.fail(absent)
        pytest.skip(absent)
    return SHARED


@pytest.fixture(scope="session")
def ffmpeg() -> str:
    """Debian's ffmpeg, an independent writer of odd files."""
    found = shutil.which("ffmpeg")
    if found is None:
        pytest.skip("no ffmpeg program: it is used to make files of other encoders")
    return found


@pytest.fixture(scope="session")
def sox() -> str:
    """Debian's sox, another independent writer of odd files."""
    found = shutil.which("sox")
    if found is None:
        pytest.skip("no sox program: it is used to make files of other encoders")
    return found


@pytest.fixture(scope="module")
def chromium() -> Iterator[Chromium]:
    """AVFUSE_REQUIRE_CHROMIUM=1 turns the skip into a failure."""
    if PROGRAM is None:
        absent = "no chromium program (Debian: apt-get install chromium), or its path in AVFUSE_CHROMIUM"
        if os.environ.get("AVFUSE_REQUIRE_CHROMIUM") == "1":
            pytest.fail(absent)
        pytest.skip(absent)
    with Chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def axe() -> str:
    """axe-core's script: the file in AVFUSE_AXE, or the copy that the package axe-core-python carries."""
    if "AVFUSE_AXE" in os.environ:
        return Path(os.environ["AVFUSE_AXE"]).read_text(encoding="utf-8")
    found = util.find_spec("axe_core_python")
    if found is None or found.origin is None:
        pytest.skip("no axe-core: install the extra `test`, or name axe.min.js in AVFUSE_AXE")
    return (Path(found.origin).parent / "axe.min.js").read_text(encoding="utf-8")
