"""The card and the page of a prepared dataset: that they tell what its rows say, harm nobody and shut nobody out."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

LABELS = ("clap", "speech", "door", "music")
ROLES = {"camera": "reference", "phone": "moving", "recorder": "moving"}


def made_rows(
    events: int,
    *,
    seed: int = 0,
    windows: int = 4,
    dropping: float = 0.25,
    name: str = "e{}",
    labels: tuple[Any, ...] = LABELS,
) -> Iterator[dict[str, Any]]:
    """Rows as `prepare` writes them: some events dropped as a whole, some windows alone, some clocks corrected."""
    rng = random.Random(seed)
    for k in range(events):
        event, split = name.format(k + 1), rng.choices(("train", "validation", "test"), (8, 1, 1))[0]
        label, delay = rng.choice(labels), rng.gauss(0.0, 0.015)
        clocks = {
            role: {"offset": rng.gauss(0.0, 3.0), "drift": rng.gauss(0.0, 2e-5) if rng.random() < 0.9 else 0.0,
                   "std": 10 ** rng.gauss(-4.5, 0.6), "confidence": 1 - 10 ** rng.uniform(-5, -2)}
            for role in ("phone", "recorder")
        }  # fmt: skip
        checks = {"camera": _check(delay, rng)}
        common = {"event": event, "split": split, "label": label, "extra": {}, "reference": "camera", "sync": checks}
        if rng.random() < dropping / 2:
            sure = rng.uniform(0.2, 0.89)
            clocks["recorder"] |= {"offset": None, "drift": None, "std": None, "confidence": sure}
            reason = rng.choice([f"recorder: confidence {sure:.2f} is below 0.9", f"only {rng.random():.1f} s overlap"])
            yield {
                **common, "key": event, "shard": None, "start": None, "duration": None, "decision": "drop",
                "reasons": [reason], "streams": {n: _stream(n, clocks, 0.0, rng) for n in ("camera", "sound")},
            }  # fmt: skip
            continue
        for n in range(windows):
            start, dropped, corrected = 2.0 * n, rng.random() < dropping / 2, abs(delay) > 0.02
            whole = rng.random() < 0.9
            coverage = 1.0 if whole else rng.uniform(0.8, 1.0)
            reasons = [f"sound of camera moved by {-1e3 * delay:.1f} ms"] if corrected else []
            if dropped:
                reasons = [f"sound covers {rng.uniform(0.1, 0.7):.2f} of the window, less than 0.8"]
            streams = {m: _stream(m, clocks, start, rng, coverage) for m in ("camera", "phone", "sound")}
            yield {
                **common, "key": f"{event}-{n:05d}", "shard": None if dropped else f"{split}/000000.tar",
                "start": start, "duration": 2.0, "reasons": reasons, "streams": streams,
                "decision": "drop" if dropped else "correct" if corrected else "keep",
            }  # fmt: skip


def _check(delay: float, rng: random.Random) -> dict[str, Any]:
    if rng.random() < 0.2:
        return {"verdict": "unknown", "sound_delay": None, "std": None, "confidence": 0.0, "message": "nothing moves"}
    verdict = "in_sync" if abs(delay) < 0.03 else "out_of_sync"
    return {"verdict": verdict, "sound_delay": delay, "std": 0.004, "confidence": 0.99, "message": None}


def _stream(
    name: str, clocks: dict[str, Any], start: float, rng: random.Random, coverage: float = 1.0
) -> dict[str, Any]:
    recording = "recorder" if name == "sound" else name
    clock = clocks.get(recording, {"offset": 0.0, "drift": 0.0, "std": 0.0, "confidence": 1.0})
    sound = name == "sound"
    return {
        "recording": recording, "stream": "sound" if sound else "picture", "source": f"e1/{recording}.mp4",
        "source_start": start, "kind": "sound" if sound else "picture", "file": f"{name}.{'flac' if sound else 'mp4'}",
        "codec": "flac" if sound else "h264", "time_base": "1/16000" if sound else "1/15360", "start": 0.0,
        "samples": 32000 if sound else 60, "rate": 16000.0 if sound else 30.0,
        **({} if sound else {"width": 320, "height": 180}), **clock, "evidence": ["sound"], "coverage": coverage,
        "valid": [[0.0, 2.0 * coverage]], "bytes": rng.randrange(30000, 60000), "sha256": "0" * 64,
    }  # fmt: skip


def facts_of(rows: list[dict[str, Any]], *, suffix: str = "tar") -> dict[str, Any]:
    """prepare.json for `rows`."""
    written = [row for row in rows if row["decision"] != "drop"]
    splits = sorted({row["split"] for row in written})
    size = {s: sum(t["bytes"] for r in written if r["split"] == s for t in r["streams"].values()) for s in splits}
    return {
        "format": "avfuse.shards/1",
        "avfuse": "0.1.0",
        "recipe": {
            "window": 2.0, "hop": 2.0, "min_confidence": 0.9, "min_overlap": 0.8, "max_delay": None, "format": suffix,
            "picture": {"size": [320, 180], "rate": None}, "sound": {"rate": 16000, "mono": True},
        },
        "manifest": "events.jsonl",
        "shards": [
            {"name": f"{s}/000000.{suffix}", "split": s, "bytes": size[s], "sha256": "0" * 64,
             "samples": sum(r["split"] == s for r in written)} for s in splits
        ],
        "errors": 0,
    }  # fmt: skip


def made_errors(count: int) -> list[dict[str, Any]]:
    return [
        {"event": f"broken{k}", "where": "events.jsonl: line 3", "source": f"/home/somebody/raw/broken{k}.mp4",
         "kind": "ReadError", "message": f"/home/somebody/raw/broken{k}.mp4: ends after {k} bytes; expected a film",
         "attempts": 2}
        for k in range(count)
    ]  # fmt: skip
