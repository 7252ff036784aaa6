"""What `import avfuse`, and aligning sound, may not load: seconds of start-up that nobody asked for."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("torch", "ray", "matplotlib", "cv2", "librosa", "scipy.signal", "opentimelineio", "jinja2")
SOUND = "import avfuse, sys; avfuse.align(sys.argv[1:])"


def heavy_modules_after(code: str, *arguments: str) -> list[str]:
    """Which of HEAVY a fresh interpreter has loaded after `code`."""
    ask = f"{code}\nimport json, sys\nprint(json.dumps([m for m in {HEAVY} if m in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", ask, *arguments], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def test_importing_avfuse_loads_nothing_heavy() -> None:
    assert heavy_modules_after("import avfuse") == []


@pytest.mark.parametrize("heavy", ["matplotlib", "scipy.signal"])
def test_a_heavy_import_would_be_seen(heavy: str) -> None:
    assert heavy in heavy_modules_after(f"import avfuse\nimport {heavy}")


def test_the_command_line_loads_nothing_heavy_before_it_knows_what_to_do() -> None:
    assert heavy_modules_after("import avfuse.cli") == []


def test_reading_and_aligning_sound_loads_nothing_heavy(shared: Path) -> None:
    clicks = shared / "sound" / "clicks"
    files = sorted(str(path) for path in clicks.glob("latency_*_2.wav"))
    assert len(files) == 2
    assert heavy_modules_after(SOUND, *files) == []


def test_importing_avfuse_takes_less_than_0_4_seconds() -> None:
    clock = "import time; t = time.perf_counter(); import avfuse; print(time.perf_counter() - t)"
    runs = [subprocess.run([sys.executable, "-c", clock], capture_output=True, text=True, check=True) for _ in range(3)]
    assert min(float(run.stdout) for run in runs) < 0.4


def test_everything_promised_can_be_imported() -> None:
    ask = "import avfuse\nfor name in avfuse.__all__: getattr(avfuse, name)"
    subprocess.run([sys.executable, "-c", ask], check=True)
