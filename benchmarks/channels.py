"""Any two streams of numbers, and silent films from two places: errors, intervals and refusals.

Common sources in two mixtures, each channel with noise of its own, other filters and rates; strangers of many colours;
channels of real recordings mixed anew, and pairs of real recordings that share nothing; two views of one happening;
halves of real films.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy import fft, signal
from scipy.interpolate import CubicSpline

import avfuse
from avfuse.alignment import ClockEstimate
from avfuse.clock import ClockMap
from avfuse.features.light import PictureFeatures, grey_frames, picture_features
from avfuse.reporting.tables import Table, milliseconds, percent
from avfuse.simulation.views import two_views
from avfuse.stream import Stream
from avfuse.temporal.canonical import channels_of, compare_channels
from avfuse.temporal.motion import Samples
from avfuse.temporal.scenes import compare_pictures
from benchmarks.options import SHARED, Options
from benchmarks.tables import Goals, show

F64 = NDArray[np.float64]
_BASE = 200.0  # Hz at which sources are made
_COLOURS = (
    "white", "walks", "powers", "resonant", "bursts", "steps", "trends", "hearts", "heavy tails", "steps of feet",
    "decays",
)  # fmt: skip
_COUNTS = ((1, 1), (1, 3), (3, 8), (6, 6), (16, 16), (32, 32))
_SECONDS = (20.0, 60.0, 180.0)
_NOISE = (-20.0, -10.0, 0.0, 5.0, 10.0)  # dB over the sources


def benchmark(options: Options) -> bool:
    goals = Goals()
    tables = [_mixtures(options, goals), _strangers(options, goals)]
    if SHARED.is_dir():
        tables += [_mixed_again(options, goals), _real_strangers(options, goals)]
    films, table = _views(options, goals)
    tables.append(table)
    if SHARED.is_dir():
        tables.append(_halves(films, goals))
    show([*tables, goals.table()], options.page, "channels", f"Seed {options.seed}.")
    return goals.met


def coloured(n: int, count: int, rate: float, colour: str, rng: np.random.Generator) -> F64:
    """`(n, count)` of noise or events of a kind; channels share times of events where there are any."""
    more = n + 200
    t = np.arange(more) / rate
    white = rng.standard_normal((more, count))
    if colour == "walks":
        made = np.cumsum(white, axis=0)
    elif colour == "powers":
        f = fft.rfftfreq(more)
        made = fft.irfft(fft.rfft(white, axis=0) * (np.maximum(f, f[1]) ** (-rng.uniform(0.5, 2.5) / 2))[:, None], more,
                         axis=0)  # fmt: skip
    elif colour == "resonant":
        r, angle = rng.uniform(0.7, 0.995), rng.uniform(0.05, 1.5)
        made = signal.lfilter([1.0], [1.0, -2 * r * np.cos(angle), r * r], white, axis=0)
    elif colour == "bursts":
        at, wide = rng.uniform(0, more, 5), rng.uniform(3, 100, 5)
        made = white * np.exp(-(((np.arange(more)[:, None] - at) / wide) ** 2)).sum(axis=1)[:, None]
        made += 0.02 * rng.standard_normal(made.shape)
    elif colour == "steps":
        made = np.cumsum((rng.random(white.shape) < 5 / more) * rng.standard_normal(white.shape), axis=0) + 0.02 * white
    elif colour == "trends":
        made = np.linspace(0, 1, more)[:, None] ** rng.uniform(0.5, 3, count) * 20 + 0.05 * white
        made += np.sin(np.arange(more)[:, None] / more * rng.uniform(1, 8, count))
    elif colour == "hearts":
        beats = np.cumsum(rng.uniform(0.6, 1.1) * np.exp(0.02 * rng.standard_normal(int(t[-1] / 0.5) + 10)))
        late = t[:, None] - beats[np.clip(np.searchsorted(beats, t + 0.1) - 1, 0, None)][:, None]
        shape = np.exp(-((late / 0.02) ** 2)) + 0.3 * np.exp(-(((late - 0.25) / 0.07) ** 2))
        made = shape * rng.standard_normal(count) + 0.01 * np.cumsum(white, axis=0) + 0.05 * white
    elif colour == "heavy tails":
        made = signal.lfilter([1.0], [1.0, -0.9], rng.standard_t(1.5, white.shape), axis=0)
    elif colour == "steps of feet":
        lengths = 0.52 * rng.uniform(0.9, 1.1) * np.exp(0.03 * rng.standard_normal(int(t[-1] / 0.25) + 10))
        phase = 2 * np.pi * np.interp(t, np.cumsum(lengths), np.arange(len(lengths)))
        made = sum(
            np.outer(np.cos(k * phase + rng.uniform(0, 6)), rng.standard_normal(count) / k) for k in (1, 2, 3, 4)
        )
        made = made + 0.1 * white
    elif colour == "decays":
        made = 10 ** rng.uniform(-3, -1) * white
        for at in rng.uniform(0.1, 0.9, int(rng.integers(1, 4))) * t[-1]:
            fall = (t >= at) * np.exp(-np.maximum(t - at, 0.0) / 0.3)
            made += np.outer(fall * rng.choice([-5.0, 5.0]), rng.standard_normal(count))
    else:
        made = white
    return np.asarray(made[200:])


def mixtures(
    rng: np.random.Generator, duration: float, noise_db: float, filtered: bool
) -> tuple[Samples, Samples, ClockMap]:
    """Two sources in two mixtures with noise of their own colour, at rates of their own."""
    colour = str(rng.choice(["white", "powers", "resonant", "hearts", "bursts"]))
    one, two = _COUNTS[int(rng.integers(5))]
    rates = float(rng.choice([25.0, 50.0, 100.0])), float(rng.choice([30.0, 60.0, 200.0]))
    n = int((duration + 20) * _BASE)
    sources = coloured(n, 2, _BASE, colour, rng)
    sources = (sources - sources.mean(axis=0)) / sources.std(axis=0)
    grid = np.arange(n) / _BASE - 10
    truth = ClockMap(float(rng.uniform(-5, 5)), float(rng.normal(0, 50e-6)))

    def device(times: F64, on_reference: F64, count: int, rate: float) -> Samples:
        heard = signal.filtfilt(*signal.butter(4, min(0.9, 0.8 * rate / _BASE)), sources, axis=0)
        if filtered:
            heard = signal.filtfilt(*signal.butter(1, [0.01, rng.uniform(0.1, 0.5)], "band"), heard, axis=0)
        values = CubicSpline(grid, heard)(on_reference) @ rng.standard_normal((2, count))
        own = coloured(len(times), count, rate, str(rng.choice(["white", "powers", "resonant"])), rng)
        own = own / own.std(axis=0) @ np.linalg.qr(rng.standard_normal((count, count)))[0]
        return Samples(times, values / values.std() + 10 ** (noise_db / 20) * own, "channels")

    first = np.arange(int(duration * rates[0])) / rates[0]
    second = np.arange(int(0.8 * duration * rates[1])) / rates[1]
    return (
        device(first, first, one, rates[0]),
        device(second, np.asarray(truth(second)), two, rates[1]),
        truth,
    )


class _Tally:
    """What came out of related pairs."""

    def __init__(self) -> None:
        self.statuses, self.errors, self.held, self.wrong = Counter[str](), [], 0, 0

    def add(self, found: ClockEstimate, truth: ClockMap) -> None:
        self.statuses[found.status] += 1
        if found.clock is None:
            return
        middle = float(found.diagnostics["middle"])
        error, std = abs(float(found.map(middle)) - float(truth(middle))), float(found.std_at(middle))
        self.errors.append(error)
        self.held += error < 1.96 * std
        self.wrong += error > max(5 * std, 1e-3)

    @property
    def cells(self) -> tuple[object, ...]:
        total, answered = sum(self.statuses.values()), len(self.errors)
        spread = " / ".join(milliseconds(float(np.percentile(self.errors, p))) for p in (50, 95)) if answered else "-"
        return (total, percent(self.statuses["aligned"], total), self.wrong, spread,
                percent(self.held, answered) if answered else "-")  # fmt: skip


_RELATED = ("pairs", "aligned", "wrong", "error, median / p95 [ms]", "95 % intervals hold")


def _mixtures(options: Options, goals: Goals) -> Table:
    rows, held, answered, wrong = [], 0, 0, 0
    for duration in _SECONDS:
        for noise in _NOISE:
            tally = _Tally()
            for k in range(options.pick(1, 8)):
                rng = np.random.default_rng([options.seed, int(duration), int(noise) + 100, k])
                one, two, truth = mixtures(rng, duration, noise, bool(k % 2))
                tally.add(compare_channels(one, two), truth)
            held, answered, wrong = held + tally.held, answered + len(tally.errors), wrong + tally.wrong
            rows.append((f"{duration:g}", f"{noise:g}", *tally.cells))
    goals.add("mixtures: 95 % intervals hold 90 % or more", percent(held, answered), held >= 0.9 * answered)
    goals.add("mixtures: aligned and wrong", f"{wrong} of {answered}", wrong == 0)
    return Table(
        "Two sources in two mixtures of 1 to 16 channels, 25-100 and 30-200 Hz", ("s", "noise [dB]", *_RELATED), rows,
        "Sources are white, of power laws, resonant, heartbeats or bursts; each channel has noise of its own colour, "
        "so many dB over what it hears of the sources; half of the pairs went through other filters.",
    )  # fmt: skip


def _strangers(options: Options, goals: Goals) -> Table:
    rows, total, accepted = [], 0, 0
    for number, colour in enumerate(_COLOURS):
        statuses = Counter[str]()
        for k in range(options.pick(2, 30)):
            rng = np.random.default_rng([options.seed, 77, number, k])
            other = colour if k % 2 else str(rng.choice(_COLOURS))
            counts = _COUNTS[int(rng.integers(len(_COUNTS)))]
            pair = []
            for count, made in zip(counts, (colour, other), strict=True):
                rate, seconds = float(rng.choice([10, 25, 50, 128])), float(rng.choice([15, 30, 60, 120, 300]))
                values = coloured(int(rate * seconds), count, rate, made, rng)
                pair.append(Samples(np.arange(len(values)) / rate, values, "channels"))
            statuses[compare_channels(*pair).status] += 1
        total, accepted = total + sum(statuses.values()), accepted + statuses["aligned"]
        rows.append(_refused(colour, statuses))
    goals.add("strangers are not aligned", f"{accepted} of {total}", accepted == 0)
    return Table("Strangers: 1 to 32 channels, 10-128 Hz, 15-300 s; half of them two of one kind", _REFUSED, rows)


_REFUSED = ("kind", "pairs", "aligned", "ambiguous", "no match", "degenerate")


def _refused(kind: str, statuses: Counter[str]) -> tuple[object, ...]:
    names = ("aligned", "ambiguous", "no_match", "degenerate")
    return (kind, sum(statuses.values()), *(statuses[name] for name in names))


def _real() -> dict[str, Samples]:
    motion = SHARED / "motion"
    faros, physilog = (avfuse.read(motion / f"{name}.csv.gz") for name in ("faros", "physilog"))
    found = {
        "faros, accelerometer": faros["acceleration"], "faros, ECG": faros["other"],
        "physilog, accelerometer": physilog["acceleration"], "physilog, gyroscope": physilog["rotation_rate"],
        "karma, gyroscope": avfuse.read(motion / "karma.mp4")["rotation_rate"],
        "falcon, poses": avfuse.read(motion / "falcon_vicon.csv")["pose"],
        "freiburg, poses": avfuse.read(motion / "freiburg1_xyz-groundtruth.txt")["pose"],
    }  # fmt: skip
    return {name: channels_of(stream, "other") for name, stream in found.items()}


def _mixed_again(options: Options, goals: Goals) -> Table:
    rows, wrong, held, answered = [], 0, 0, 0
    for number, (name, samples) in enumerate(_real().items()):
        spline = CubicSpline(samples.times, samples.values / samples.values.std(axis=0))
        for noise in (-20.0, -10.0, 0.0):
            tally = _Tally()
            for k in range(options.pick(1, 5)):
                rng = np.random.default_rng([options.seed, 55, number, int(noise) + 100, k])
                truth = ClockMap(float(rng.uniform(-2, 4)), float(rng.normal(0, 50e-6)))
                start, end = samples.times[0] + 0.1, samples.times[-1] - 0.1
                pair = []
                for first, clock in ((start, ClockMap()), (start + rng.uniform(0, 0.2) * (end - start), truth)):
                    on = np.arange(first, end, 1 / (samples.rate * rng.uniform(0.5, 1.0)))
                    values = spline(on) @ rng.standard_normal((samples.values.shape[1], int(rng.integers(1, 5))))
                    values = values / values.std(axis=0) + 10 ** (noise / 20) * rng.standard_normal(values.shape)
                    pair.append(Samples(np.asarray(clock.inverse()(on)), values, "channels"))
                tally.add(compare_channels(*pair), truth)
            wrong, held, answered = wrong + tally.wrong, held + tally.held, answered + len(tally.errors)
            rows.append((name, f"{noise:g}", *tally.cells))
    goals.add("real channels mixed anew: aligned and wrong", f"{wrong} of {answered}", wrong == 0)
    goals.add("real channels mixed anew: 95 % intervals hold 90 % or more", percent(held, answered),
              held >= 0.9 * answered)  # fmt: skip
    return Table(
        "Channels of real recordings in two mixtures of 1 to 4, resampled, with white noise",
        ("recording", "noise [dB]", *_RELATED), rows,
    )  # fmt: skip


def _real_strangers(options: Options, goals: Goals) -> Table:
    rng = np.random.default_rng([options.seed, 66])
    statuses = {
        "recordings": Counter[str](),
        "people": Counter[str](),
        "one recording, before and after": Counter[str](),
    }
    real = _real()
    for one, two in combinations(real, 2):
        if one.split(",")[0] != two.split(",")[0] and {one[:5], two[:5]} != {"faros", "physi"}:
            statuses["recordings"][compare_channels(real[one], real[two]).status] += 1
    for samples in real.values():
        for share in (0.35, 0.5, 0.65):
            cut = int(share * len(samples.times))
            parts = [replace(samples, times=samples.times[s], values=samples.values[s])
                     for s in (slice(0, cut), slice(cut, None))]  # fmt: skip
            statuses["one recording, before and after"][compare_channels(*parts).status] += 1
    windows = _people()
    for _ in range(options.pick(5, 100)):
        # Windows of ten seconds of several people, one after the other, against those of others.
        picked = rng.permutation(len(windows))
        size = int(rng.choice([2, 4, 8]))
        pair = [np.concatenate([windows[k] for k in picked[s]]) for s in (slice(0, size), slice(size, 2 * size))]
        kept = [values[:, : int(rng.choice([3, 6]))] for values in pair]
        made = [Samples(np.arange(len(v)) / 10.0, v, "channels") for v in kept]
        statuses["people"][compare_channels(*made).status] += 1
    total = sum(sum(c.values()) for c in statuses.values())
    accepted = sum(c["aligned"] for c in statuses.values())
    goals.add("real strangers are not aligned", f"{accepted} of {total}", accepted == 0)
    return Table("Real recordings that share nothing", _REFUSED, [_refused(k, c) for k, c in statuses.items()])


def _people() -> list[F64]:
    """Windows `(100, 6)` at 10 Hz of accelerometer and gyroscope."""
    found = []
    for part in ("TRAIN", "TEST"):
        text = (SHARED / "labelled" / "basic_motions" / f"BasicMotions_{part}.ts").read_text("utf-8")
        for line in text.splitlines():
            if line.strip() and line[0] not in "#@":
                channels = line.strip().split(":")[:-1]
                found.append(np.array([[float(v) for v in c.split(",")] for c in channels]).T)
    return found


def _views(options: Options, goals: Goals) -> tuple[list[PictureFeatures], Table]:
    rows, films, wrong, answered = [], [], 0, 0
    statuses = Counter[str]()
    for duration in (60.0, 150.0, 300.0):
        for lights in (False, True):
            tally = _Tally()
            for k in range(options.pick(1, 3)):
                rng = np.random.default_rng([options.seed, 44, int(duration), lights, k])
                pair = two_views(duration, rng, people=1 + k % 3, lights=lights)
                seen = picture_features(pair.reference), picture_features(pair.moving)
                tally.add(compare_pictures(*seen), pair.truth)
                for film in films[-8:]:
                    statuses[compare_pictures(film, seen[1]).status] += 1
                films.append(seen[0])
            wrong, answered = wrong + tally.wrong, answered + len(tally.errors)
            rows.append((f"{duration:g}", "yes" if lights else "no", *tally.cells))
    goals.add("two views: aligned and wrong", f"{wrong} of {answered}", wrong == 0)
    goals.add("films of different happenings are not aligned",
              f"{statuses['aligned']} of {sum(statuses.values())}", not statuses["aligned"])  # fmt: skip
    return films, Table(
        "One to three people filmed by two cameras 30 to 150 degrees apart, 30 and 25 frames/s",
        ("s", "lights switched", *_RELATED), rows,
    )  # fmt: skip


def _halves(strangers: Sequence[PictureFeatures], goals: Goals) -> Table:
    """The left half of a film against its right half, mirrored, a fifth of its frames lost, on another clock."""
    names = ("picture/VID00003-20100701-2204.avi", "picture/VID00003-20100701-2204.mpg", "picture/nasa_13013.mp4",
             "picture/flipping_a_pancake.mkv", "motion/karma.mp4")  # fmt: skip
    truth, rows, wrong, whole = ClockMap(1.7, 40e-6), [], 0, []
    for name in names:
        frames = list(grey_frames(avfuse.read(SHARED / name).of_kind("picture")[0]))
        times, images = np.array([t for t, _ in frames]), np.stack([image for _, image in frames])
        half = images.shape[2] // 2
        keep = np.flatnonzero(np.arange(len(times)) % 5 != 2)

        def film(values: NDArray[np.uint8], at: F64) -> PictureFeatures:
            return picture_features(Stream("picture", "picture", np.ascontiguousarray(values), times=at))

        left = film(images[:, :, :half], times)
        right = film(images[keep][:, :, :half:-1], np.asarray(truth.inverse()(times[keep])))
        whole.append(film(images, times))
        found = compare_pictures(left, right)
        said = found.status
        if found.clock is not None:
            middle = float(found.diagnostics["middle"])
            error, std = float(found.map(middle)) - float(truth(middle)), float(found.std_at(middle))
            wrong += abs(error) > max(5 * std, 1e-3)
            said += f", {1e3 * error:+.1f} +- {1e3 * std:.1f} ms"
        rows.append((name.split("/")[1], f"{times[-1] - times[0]:.0f}", said))
    apart = [(a, b) for k, a in enumerate(whole) for b in whole[k + 1 :]][1:]  # but the two encodings of one event
    apart += [(a, b) for a in whole for b in strangers]
    accepted = sum(compare_pictures(a, b).status == "aligned" for a, b in apart)
    goals.add("halves of films: aligned and wrong", f"{wrong}", wrong == 0)
    goals.add("real films of different places are not aligned", f"{accepted} of {len(apart)}", accepted == 0)
    return Table("Left against right halves of real films", ("film", "s", "found"), rows)
