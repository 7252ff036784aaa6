"""Fixtures shared by the tests."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of the real recordings; tests that need it are skipped where it is absent (CI fails if they were)."""
    if not SHARED.is_dir():
        pytest.skip("real recordings are not here: no ../shared/data beside the checkout")
    return SHARED


@pytest.fixture(scope="session")
def ffmpeg() -> str:
    """Debian's ffmpeg, an independent writer of odd files."""
    found = shutil.which("ffmpeg")
    if found is None:
        pytest.skip("no ffmpeg program: it is used to make files of other encoders")
    return found
