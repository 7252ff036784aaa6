"""Manifests of what benchmarks make."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def write_manifest(
    path: Path, events: Mapping[str, Mapping[str, Path]], more: Mapping[str, Mapping[str, Any]] | None = None
) -> Path:
    """A line for each event: name -> role -> file. more: name -> further entries of its line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [
        json.dumps(
            {"event": name, "files": {role: str(file) for role, file in files.items()}, **(more or {}).get(name, {})}
        )
        + "\n"
        for name, files in events.items()
    ]
    path.write_text("".join(lines), "utf-8")
    return path
