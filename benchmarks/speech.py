"""Speech whose words and times are known: recordings of ../shared/data, and sentences that flite speaks."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import soundfile

from avfuse.io import read
from avfuse.io.transcripts import Interval, read_tiers, read_transcript
from avfuse.stream import Stream
from avfuse.temporal.spelling import written_words
from avfuse.transcript import Emissions
from benchmarks.options import SHARED

SPELLING = {"bobby": "B AA1 B IY0", "ripped": "R IH1 PT", "the": "DH AH0", "ledger": "L EH1 JH ER0"}
GRID = {
    "bbaf2n": "bin blue at f two now",
    "lwbsza": "lay white by s zero again",
    "sbia1a": "set blue in a one again",
    "id2_vcd_swwp2s": "set white with p two soon",
}
VOICES = ("slt", "rms", "awb", "kal16")
_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_SPEAKERS = ("jackson", "george", "lucas", "nicolas", "theo", "yweweler")
# Of the Harvard sentences (IEEE 1969), which were written so that all sounds of English come as often as they do.
SENTENCES = (
    "The birch canoe slid on the smooth planks.",
    "Glue the sheet to the dark blue background, and it is easy to tell the depth of a well.",
    "These days a chicken leg is a rare dish.",
    "Rice is often served in round bowls, while lemons make fine punch.",
    "The box was thrown beside the parked truck. The hogs were fed chopped corn and garbage.",
    "Four hours of steady work faced us; large size in stockings is hard to sell.",
    "The boy was there when the sun rose. A rod is used to catch pink salmon.",
    "Kick the ball straight and follow through, help the woman get back to her feet.",
)


@dataclass(frozen=True, eq=False)
class Said:
    """times: `(words, 2)` seconds; None where only the words are known."""

    sound: Stream
    text: str
    times: np.ndarray | None


def bobby() -> Said:
    folder = SHARED / "speech"
    words = read_transcript(folder / "bobby_words.TextGrid").words
    sound = read(folder / "bobby.wav")["sound"]
    return Said(sound, "Bobby ripped the ledger.", np.array([(word.start, word.end) for word in words]))


def bobby_phones() -> list[Interval]:
    path = SHARED / "speech" / "bobby_phones.TextGrid"
    return read_tiers(str(path), path.read_text(encoding="utf-8"))["phone"]


def phone_emissions(
    phones: list[Interval], rng: np.random.Generator, *, rate: float, strength: float, noise: float, others: int = 30
) -> Emissions:
    """What a model might say: the phone's logit is `strength` above the rest, all of them with normal `noise`.

    others: phones of the table that are never said.
    """
    names = ("sil", *sorted({mark[2] for mark in phones} - {""}), *(f"x{k}" for k in range(others)))
    frames = int(phones[-1][1] * rate)
    times = (np.arange(frames) + 0.5) / rate
    logits = noise * rng.standard_normal((frames, len(names)))
    for first, last, mark in phones:
        logits[(times >= first) & (times < last), names.index(mark or "sil")] += strength
    logits[times < phones[0][0], 0] += strength
    logits -= np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return Emissions(logits, names, rate, silence="sil")


def grid() -> dict[str, Said]:
    found = {}
    for name, text in GRID.items():
        times = None
        if name == "id2_vcd_swwp2s":
            lines = (SHARED / "picture" / "swwp2s.align").read_text(encoding="utf-8").split("\n")
            marks = [line.split() for line in lines if line]
            times = np.array([(float(a), float(b)) for a, b, word in marks if word != "sil"]) / 25000
        found[name] = Said(read(SHARED / "picture" / f"{name}.mpg")["sound"], text, times)
    return found


def digits(rng: np.random.Generator, count: int) -> Said:
    """Digits that one person spoke, one after another with pauses of up to 0.3 s, and a little noise."""
    speaker, parts, times, words, at = str(rng.choice(_SPEAKERS)), [], [], [], 0
    for k in range(count + 1):
        parts.append(np.zeros(round(rng.uniform(0.0, 0.3) * 8000)))
        at += len(parts[-1])
        if k < count:
            digit = int(rng.integers(10))
            samples = _digit(f"{digit}_{speaker}_{int(rng.integers(50))}.wav")
            times.append((at / 8000, (at + len(samples)) / 8000))
            parts.append(0.5 * samples / np.abs(samples).max())
            words.append(_DIGITS[digit])
            at += len(samples)
    sound = np.concatenate(parts)
    return Said(with_noise(sound, 8000, 30.0, rng), ", ".join(words), np.array(times))


@cache
def _archive() -> dict[str, bytes]:
    with tarfile.open(SHARED / "labelled" / "fsdd.tar") as tar:
        return {Path(m.name).name: file.read() for m in tar if (file := tar.extractfile(m)) is not None}


def _digit(name: str) -> np.ndarray:
    samples, _ = soundfile.read(io.BytesIO(_archive()[name]))
    return np.asarray(samples)


def with_noise(samples: np.ndarray, rate: float, snr_db: float, rng: np.random.Generator) -> Stream:
    noise = np.std(samples) * 10 ** (-snr_db / 20) * rng.standard_normal(len(samples))
    return Stream.from_samples((samples + noise).astype(np.float32), rate=rate)


def has_flite() -> bool:
    return shutil.which("flite") is not None


@cache
def by_flite(text: str, voice: str, slower: float) -> tuple[np.ndarray, float, np.ndarray] | None:
    """Samples, rate and `(words, 2)` times, or None where its phones cannot be told apart by words."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "said.wav"
        command = [
            "flite",
            "-voice",
            voice,
            "--setf",
            f"duration_stretch={slower}",
            "-psdur",
            "-t",
            text,
            "-o",
            str(path),
        ]
        told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        samples, rate = soundfile.read(path)
    ends = [(phone, float(end)) for phone, end in re.findall(r"(\S+):([\d.]+)", told)]
    spans = [(a[1], b[1]) for a, b in zip([("", 0.0), *ends], ends, strict=False) if b[0] != "pau"]
    counts = [_phones(word, voice) for word in re.findall(r"[a-z']+", text.lower())]
    if sum(counts) != len(spans):
        return None
    cuts = np.cumsum([0, *counts])
    return (
        samples,
        float(rate),
        np.array([(spans[a][0], spans[b - 1][1]) for a, b in pairwise(cuts)]),
    )


@cache
def _phones(word: str, voice: str) -> int:
    command = ["flite", "-voice", voice, "-ps", "-t", word, "-o", "none"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return sum(phone != "pau" for phone in told.split())


def sentences(rng: np.random.Generator, rounds: int) -> Iterator[Said]:
    """Every sentence by every voice, a fifth slower or faster, in noise at -40 to -10 dB."""
    for _ in range(rounds):
        for text in SENTENCES:
            for voice in VOICES:
                made = by_flite(text, voice, float(rng.choice([0.8, 1.0, 1.25])))
                if made is not None:
                    yield Said(with_noise(made[0], made[1], rng.uniform(10, 40), rng), text, made[2])


HOW = ("right", "words replaced", "words missing", "words too many", "a sentence missing", "a sentence too many")


def passage(rng: np.random.Generator, how: str) -> Said:
    """Two to four sentences by one voice, in noise at -30 to -5 dB, and a text that is wrong as `how` (of HOW) says.

    times: NaN for words of the text that are not said.
    """
    voice, slower, at = str(rng.choice(VOICES)), float(rng.choice([0.8, 1.0, 1.25])), 0.0
    count, parts, said, rate = int(rng.integers(2, 5)), [], [], 16000.0
    for k in rng.permutation(len(SENTENCES)):
        made = by_flite(SENTENCES[k], voice, slower)
        if made is not None and len(said) <= count:
            said.append([(word, *times) for word, times in zip(written_words(SENTENCES[k]), made[2] + at, strict=True)])
            if len(said) <= count:
                rate = made[1]
                parts += [made[0], np.zeros(round(float(rng.uniform(0.1, 0.6)) * rate))]
                at = sum(map(len, parts)) / rate
    words = _spoilt(said[:count], said[count], how, rng)
    sound = with_noise(np.concatenate(parts), rate, float(rng.uniform(5, 30)), rng)
    return Said(sound, " ".join(word for word, *_ in words), np.array([times for _, *times in words]))


def spelled(rng: np.random.Generator, how: str) -> tuple[Emissions, Said]:
    """Letters as a model of connectionist temporal classification might hear three sentences, some of them wrong."""
    strength, wrong, frames = float(rng.choice([3.0, 5.0, 8.0])), float(rng.choice([0.0, 0.05, 0.15])), []
    said = []
    for k in rng.permutation(len(SENTENCES))[:4]:
        said.append([])
        for word in written_words(SENTENCES[k]):
            kept = frames if len(said) < 4 else []
            kept += [0] * int(rng.integers(2, 10)) + [1]
            first, tempo = len(kept), np.exp(0.3 * rng.standard_normal())
            for letter in filter(_LETTERS.__contains__, word.lower()):
                heard = _LETTERS.index(letter) if rng.random() > wrong else int(rng.integers(2, len(_LETTERS)))
                kept += [heard] + [0] * max(1, round(tempo * rng.integers(1, 4)))
            said[-1].append((word, first / 50, len(kept) / 50))
    logits = rng.standard_normal((len(frames), len(_LETTERS)))
    logits[np.arange(len(frames)), frames] += strength
    logits -= np.log(np.exp(logits).sum(axis=1, keepdims=True))
    words = _spoilt(said[:3], said[3], how, rng)
    heard_as = Emissions(logits, _LETTERS, 50.0, blank="-", separator="|")
    silence = Stream.from_samples(np.zeros(round(len(frames) / 50 * 16000), np.float32), rate=16000.0)
    return heard_as, Said(silence, " ".join(word for word, *_ in words), np.array([times for _, *times in words]))


_LETTERS = ("-", "|", *"abcdefghijklmnopqrstuvwxyz'")
_Timed = tuple[str, float, float]


def _spoilt(said: list[list[_Timed]], other: list[_Timed], how: str, rng: np.random.Generator) -> list[_Timed]:
    """Words of the text, with NaN for times where they are not said."""
    unsaid = [(word, np.nan, np.nan) for word, *_ in other]
    words = [word for sentence in said for word in sentence]
    some = sorted(rng.choice(len(words), max(1, len(words) // 10), replace=False).tolist(), reverse=True)
    if how == "a sentence missing":
        return [word for sentence in said[:-2] + said[-1:] for word in sentence]
    if how == "a sentence too many":
        return [*said[0], *unsaid, *(word for sentence in said[1:] for word in sentence)]
    for k in some:
        if how == "words missing":
            del words[k]
        elif how == "words replaced":
            words[k] = unsaid[int(rng.integers(len(unsaid)))]
        elif how == "words too many":
            words.insert(k, unsaid[int(rng.integers(len(unsaid)))])
    return words


def lecture(minutes: float, rng: np.random.Generator) -> Said:
    """Sentences of three voices, one after another."""
    parts, words, times, at = [], [], [], 0.0
    while at < 60 * minutes:
        text = SENTENCES[int(rng.integers(len(SENTENCES)))]
        made = by_flite(text, VOICES[int(rng.integers(3))], float(rng.choice([0.8, 1.0, 1.25])))
        if made is not None:
            parts.append(made[0])
            words.append(text)
            times.append(made[2] + at)
            at += len(made[0]) / made[1]
    return Said(with_noise(np.concatenate(parts), 16000.0, 30.0, rng), " ".join(words), np.concatenate(times))
