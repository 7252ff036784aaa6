"""Speech with its transcript: the path and its time beside torchaudio's, and errors of words on recordings.

torchaudio runs in an environment of its own; both make the same path on one core, one after the other. Errors are of
both ends of every word. Without a model, reference speech is espeak-ng's; flite is another synthesiser, with voices of
real people, that tells its times.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from itertools import pairwise

import numpy as np

from avfuse.reporting.tables import Table, milliseconds, percent
from avfuse.temporal import ctc_path, estimate_transcript
from avfuse.transcript import Transcript
from benchmarks import speech
from benchmarks.measuring import run_here
from benchmarks.options import ROOT, Options
from benchmarks.peers import RUNNERS, Method, python_of
from benchmarks.tables import Goals, show

_TORCHAUDIO = Method(
    "torchaudio", ("with_torchaudio.py",), "", "torchaudio", ("torch==2.13.0", "torchaudio==2.11.0", "numpy")
)
_IMPORTABLE = ROOT.parent / "shared" / "ci" / "torchaudio-cpu.sh"
_SPELLING = {word: tokens.split() for word, tokens in speech.SPELLING.items()}

_LONG = """
import time
import numpy as np
from avfuse.temporal import ctc_path
from benchmarks.transcript import random_emissions
emissions, tokens = random_emissions({minutes}, np.random.default_rng(1))
emissions = emissions.astype(np.float64)
ctc_path(emissions[:200], tokens[:20])
began = time.perf_counter()
ctc_path(emissions, tokens)
print(time.perf_counter() - began, emissions.nbytes / 1e6)
"""

# Made by another process, so that only what is measured counts as memory.
_MAKE = """
import numpy as np
import soundfile
from benchmarks.speech import lecture
said = lecture({minutes}, np.random.default_rng(1))
samples = said.sound.values[0]
soundfile.write({path!r}, samples / abs(samples).max(), round(said.sound.rate))
np.savez({path!r} + ".npz", text=said.text, times=said.times)
"""

_SPOKEN = """
import time
import numpy as np
from avfuse.io import read
from avfuse.temporal import estimate_transcript
said = np.load({path!r} + ".npz")
began = time.perf_counter()
found = estimate_transcript(read({path!r})["sound"], str(said["text"]))
taken = time.perf_counter() - began
errors = np.abs(np.array([(word.start, word.end) for word in found.words]) - said["times"])
print(taken, len(errors), float(np.median(errors)), float(np.percentile(errors, 95)))
"""


def benchmark(options: Options) -> bool:
    goals = Goals()
    tables = [_beside_torchaudio(options, goals), _lengths(options, goals), _by_emissions(options, goals)]
    tables += _by_speech(options, goals)
    tables += _of_wrong_texts(options, goals)
    show([*tables, goals.table()], options.page, "transcript", f"Seed {options.seed}.")
    return goals.met


def random_emissions(minutes: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """50 frames a second of 32 tokens, as wav2vec2 gives them, and 15 letters a second; nothing makes the path easy."""
    frames = round(minutes * 3000)
    logits = 2 * rng.standard_normal((frames, 32))
    logits -= np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return logits.astype(np.float32), rng.integers(1, 32, round(frames * 0.3)).astype(np.int32)


def _beside_torchaudio(options: Options, goals: Goals) -> Table:
    minutes, repeats = (1 if options.quick else 10), options.pick(3, 5)
    emissions, tokens = random_emissions(minutes, np.random.default_rng(options.seed))
    given, told = options.out / "emissions.npz", options.out / "torchaudio.npz"
    np.savez(given, emissions=emissions, tokens=tokens)
    told.unlink(missing_ok=True)
    python = python_of(_TORCHAUDIO)
    line = shlex.join([python, str(RUNNERS / _TORCHAUDIO.runner[0]), str(given), str(told), str(repeats)])
    activate = shlex.quote(str(ROOT / "benchmarks" / ".peers" / "torchaudio" / "bin" / "activate"))
    script = f"source {activate}; {f'source {_IMPORTABLE};' if _IMPORTABLE.exists() else ''} {line}"
    ran = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    if not told.exists():
        raise SystemExit(f"torchaudio: {(ran.stderr.strip() or ran.stdout.strip())[-500:]}")
    theirs, rows = np.load(told), []
    for dtype in ("float32", "float64"):
        scores, taken = emissions.astype(dtype), []
        path = ctc_path(scores, tokens)
        for _ in range(repeats):
            began = time.perf_counter()
            path = ctc_path(scores, tokens)
            taken.append(time.perf_counter() - began)
        other = theirs[f"path_{dtype}"]
        ratio = float(np.median(theirs[f"seconds_{dtype}"]) / np.median(taken))
        sums = [float(emissions[np.arange(len(p)), p].sum(dtype=np.float64)) for p in (other, path)]
        apart = int((path != other).sum())
        rows.append((dtype, f"{np.median(theirs[f'seconds_{dtype}']):.2f}", f"{np.median(taken):.2f}", f"{ratio:.1f}",
                     str(apart), f"{sums[1] - sums[0]:+.3f}"))  # fmt: skip
        goals.add(f"{minutes} min, {dtype}: at least twice as fast as torchaudio", f"{ratio:.1f}", ratio >= 2)
        if dtype == "float64":
            goals.add(f"{minutes} min, {dtype}: the same path", f"{apart} frames differ", apart == 0)
        else:
            goals.add(f"{minutes} min, {dtype}: the same path, or a better one", f"{sums[1] - sums[0]:+.3f}",
                      apart == 0 or sums[1] > sums[0])  # fmt: skip
    return Table(
        f"Forced alignment of {len(emissions)} frames to {len(tokens)} tokens ({minutes} min)",
        ("emissions", "torchaudio, s", "avfuse, s", "ratio", "frames that differ", "our sum above theirs"),
        rows,
        "One core each, medians. Where going on and skipping a blank are equally good, torchaudio stays, which is "
        "worse; in float32 sums are often equal.",
    )


def _lengths(options: Options, goals: Goals) -> Table:
    rows = []
    for minutes in (1, 2) if options.quick else (10, 60):
        ran = run_here([sys.executable, "-c", _LONG.format(minutes=minutes)])
        seconds, held = map(float, ran.stdout.split())
        rows.append((f"{minutes} min", "emissions, float64", f"{seconds:.1f}", f"{ran.peak_mb:.0f}", "", ""))
        goals.add(f"{minutes} min of emissions in less than 1 GB", f"{ran.peak_mb:.0f} MB ({held:.0f} MB emissions)",
                  ran.peak_mb < 1000)  # fmt: skip
    for minutes in ((2,) if options.quick else (10, 60)) if speech.has_flite() else ():
        path = str(options.out / f"lecture-{minutes}.wav")
        run_here([sys.executable, "-c", _MAKE.format(minutes=minutes, path=path)])
        ran = run_here([sys.executable, "-c", _SPOKEN.format(path=path)])
        seconds, words, median, late = map(float, ran.stdout.split())
        rows.append((f"{minutes} min", f"espeak-ng, {words:.0f} words", f"{seconds:.0f}", f"{ran.peak_mb:.0f}",
                     milliseconds(median), milliseconds(late)))  # fmt: skip
        goals.add(f"{minutes} min of speech in less than 1.5 GB", f"{ran.peak_mb:.0f} MB", ran.peak_mb < 1500)
    return Table(
        "Long recordings", ("length", "by", "seconds", "MB resident", "median, ms", "p95, ms"), rows,
        "Resident memory includes Python, NumPy, numba, and the emissions; recordings are read from WAV files.",
    )  # fmt: skip


def _errors(found: Transcript, times: np.ndarray) -> np.ndarray:
    return np.abs(np.array([(word.start, word.end) for word in found.words]) - times)


def _figures(errors: np.ndarray) -> tuple[str, str, str]:
    return (
        milliseconds(float(np.median(errors))), milliseconds(float(errors.mean())),
        milliseconds(float(np.percentile(errors, 95))),
    )  # fmt: skip


def _by_emissions(options: Options, goals: Goals) -> Table:
    said, phones, rows = speech.bobby(), speech.bobby_phones(), []
    assert said.times is not None
    for rate in (100.0, 50.0):
        for strength, noise in ((6.0, 1.0), (4.0, 2.0), (3.0, 2.0)):
            errors, refused = [], 0
            for k in range(options.pick(10, 50)):
                rng = np.random.default_rng([options.seed, k])
                heard = speech.phone_emissions(phones, rng, rate=rate, strength=strength, noise=noise)
                found = estimate_transcript(said.sound, said.text, emissions=heard, spelling=_SPELLING)
                refused += found.status != "aligned"
                if found.status == "aligned":
                    errors.append(_errors(found, said.times))
            all_errors = np.concatenate(errors)
            figures = _figures(all_errors)
            rows.append((f"{rate:g} Hz", f"{strength:g} above noise of {noise:g}", *figures, f"{refused}"))
            median = float(np.median(all_errors))
            goals.add(
                f"bobby, {rate:g} Hz, {strength:g} above {noise:g}: median <= 10 ms", f"{figures[0]} ms", median <= 0.01
            )
    return Table(
        "bobby.wav, its words by emissions made from its phone tier", ("frames", "logit of the phone", "median, ms",
        "mean, ms", "p95, ms", "refused"), rows, "45 phones; 5 ms of the errors at 50 Hz are the frames' own.",
    )  # fmt: skip


def _by_speech(options: Options, goals: Goals) -> list[Table]:
    sets: dict[str, list[speech.Said]] = {"bobby.wav": [speech.bobby()], "GRID talkers": list(speech.grid().values())}
    rng = np.random.default_rng(options.seed)
    sets["spoken digits, six people"] = [speech.digits(rng, 12) for _ in range(options.pick(3, 20))]
    if speech.has_flite():
        sets["flite, four voices"] = list(speech.sentences(rng, 1))[:: 6 if options.quick else 1]
    rows, sure, right, wrong, others = [], [], [], 0, 0
    for name, cases in sets.items():
        errors, answered = [], 0
        for said in cases:
            found = estimate_transcript(said.sound, said.text)
            if found.status == "aligned":
                answered += 1
                if said.times is not None:
                    errors.append(_errors(found, said.times))
                    sure += [word.confidence for word in found.words]
                    right += list(errors[-1].max(axis=1) <= 0.1)
        all_errors = np.concatenate(errors)
        rows.append((name, percent(answered, len(cases)), f"{len(all_errors)}", *_figures(all_errors)))
        median = float(np.median(all_errors))
        goals.add(f"{name}, no model: median <= 60 ms", f"{milliseconds(median)} ms", median <= 0.06)
        for k, said in enumerate(cases):
            for step in (1, 2, 3):
                text = cases[(k + step) % len(cases)].text
                if (
                    text != said.text and name != "spoken digits, six people"
                ):  # of which each text shares words with others
                    others += 1
                    wrong += estimate_transcript(said.sound, text).status == "aligned"
    goals.add("wrong texts refused", f"{others - wrong} of {others}", wrong == 0)
    return [
        Table(
            "No model: against espeak-ng, en-us",
            ("speech", "answered", "words", "median, ms", "mean, ms", "p95, ms"),
            rows,
            f"Digits are at 8 kHz. Texts of the other recordings of a set: {others - wrong} of {others} refused.",
        ),
        Table("Confidence of words, no model", _STATED, _stated(np.array(sure), np.array(right))),
    ]  # fmt: skip


_STATED = ("stated", "words", "mean stated", "both ends within 100 ms")


def _stated(told: np.ndarray, right: np.ndarray) -> list[tuple[str, ...]]:
    rows = []
    for low, high in pairwise((0.0, 0.3, 0.5, 0.7, 0.8, 0.9, 1.0)):
        inside = (told >= low) & (told < high)
        if inside.any():
            rows.append((f"{low:g}-{high:g}", f"{inside.sum()}", f"{told[inside].mean():.3f}",
                         f"{right[inside].mean():.3f}"))  # fmt: skip
    return rows


def _of_wrong_texts(options: Options, goals: Goals) -> list[Table]:
    """Texts that are wrong in part: what is stated of words that are said, and of words that are not."""
    tables, count = [], options.pick(3, 20)
    for way in ("emissions", "no model") if speech.has_flite() else ("emissions",):
        rows, every = [], []
        for number, how in enumerate(speech.HOW):
            answered, found = 0, []
            for k in range(count):
                rng = np.random.default_rng([options.seed, number, k])
                heard, said = speech.spelled(rng, how) if way == "emissions" else (None, speech.passage(rng, how))
                got = estimate_transcript(said.sound, said.text, emissions=heard)
                if got.status == "aligned":
                    answered += 1
                    errors = np.nan_to_num(_errors(got, said.times).max(axis=1), nan=np.inf)
                    found += [(word.confidence, error) for word, error in zip(got.words, errors, strict=True)]
            told, errors = np.array(found).reshape(-1, 2).T
            sure = told >= 0.9
            far, unsaid = sure & (errors > 0.25) & np.isfinite(errors), sure & np.isinf(errors)
            within = percent(int((errors[sure] <= 0.1).sum()), int(sure.sum()))
            rows.append((how, percent(answered, count), f"{len(told)}", f"{sure.sum()}", within, f"{far.sum()}",
                         f"{unsaid.sum()} of {np.isinf(errors).sum()}"))  # fmt: skip
            every += found
        told, errors = np.array(every).T
        sure = told >= 0.9
        wrong = float((errors[sure] > 0.25).mean())
        goals.add(f"{way}: of words stated at >= 0.9 at least 90 % are within 100 ms",
                  f"{(errors[sure] <= 0.1).mean():.1%}", bool((errors[sure] <= 0.1).mean() >= 0.9))  # fmt: skip
        goals.add(f"{way}: of words stated at >= 0.9 at most 2 % are farther than 250 ms, or not said",
                  f"{wrong:.1%}", wrong <= 0.02)  # fmt: skip
        tables += [
            Table(
                f"Texts that are wrong in part, {way}",
                ("text", "answered", "words", "stated at >= 0.9", "of these within 100 ms", "farther than 250 ms",
                 "not said, of all these"),
                rows, f"{count} texts of each kind. A word that replaces another counts as one that is not said.",
            ),
            Table(f"Confidence of their words, {way}", _STATED, _stated(told, errors <= 0.1)),
        ]  # fmt: skip
    return tables
