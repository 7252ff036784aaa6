"""What alignment says: estimates with their uncertainty, the evidence between clocks, and their JSON.

ClockEstimate   status, map, covariance, confidence of one clock against a reference
ClockEdge       one piece of evidence between two streams
Alignment       every recording's clock on one reference, saved as alignment.json
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from avfuse.clock import ClockMap, PiecewiseClock, Segment
from avfuse.errors import ReadError, StreamError, WeakAlignmentError
from avfuse.files import check_spares, replacing
from avfuse.stream import Recording
from avfuse.transform_estimate import TransformEstimate, transform_estimate_from_json

if TYPE_CHECKING:
    from avfuse.io.timeline import Exported

Status = Literal["aligned", "ambiguous", "no_match", "degenerate", "reference"]
Node = tuple[str, str]
FORMAT = "avfuse.alignment/1"


@dataclass(frozen=True)
class Candidate:
    """One of several answers that fit: t_ref = offset + (1 + drift) * t."""

    offset: float
    drift: float
    confidence: float

    @property
    def map(self) -> ClockMap:
        return ClockMap(self.offset, self.drift)


@dataclass(frozen=True)
class Break:
    """Where a clock jumps.

    at: seconds of the moving recording's own time. std: 1 sigma of that.
    missing: seconds of the reference that the moving recording lacks there; < 0 where it has so much more instead.
    """

    at: float
    std: float
    missing: float


@dataclass(frozen=True, eq=False)
class ClockEstimate:
    """How one clock maps onto a reference, or why that cannot be said.

    status: `aligned`; `ambiguous` (several answers fit, see `candidates`); `no_match` (there was information
        and nothing shared); `degenerate` (no information); `reference`.
    clock: the map, None for refusals; read it as `.map`, which raises WeakAlignmentError where there is none.
    cov: `(2, 2)` covariance of (offset [s], drift), or `(segments, 2, 2)` for a PiecewiseClock.
    confidence: probability of the right peak, |error| <= max(5 std, 1 ms).
    span: seconds of the moving recording's own time that the recording covers.
    drift_known: False where drift was not estimated; it is then 0, and `cov` holds what an ordinary crystal allows.
    evidence: kinds of evidence used, e.g. ("sound",).
    reference: name of the recording whose clock this maps to; None outside an Alignment.
    breaks: where the clock jumps from one segment to the next.
    """

    status: Status
    clock: ClockMap | PiecewiseClock | None = None
    cov: NDArray[np.float64] | None = None
    confidence: float = 0.0
    candidates: tuple[Candidate, ...] = ()
    message: str | None = None
    span: tuple[float, float] = (0.0, 0.0)
    drift_known: bool = True
    evidence: tuple[str, ...] = ()
    reference: str | None = None
    breaks: tuple[Break, ...] = ()
    diagnostics: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.status not in get_args(Status):
            raise StreamError(f"ClockEstimate: status {self.status!r}; expected one of {', '.join(get_args(Status))}")
        if (self.status in ("aligned", "reference")) != (self.clock is not None):
            raise StreamError(f"ClockEstimate: status {self.status!r} with map {self.clock}; only answers carry a map")
        count = len(self.clock.segments) if isinstance(self.clock, PiecewiseClock) else 1
        if self.cov is not None and self.cov.shape not in ((count, 2, 2), (2, 2))[: 2 if count == 1 else 1]:
            raise StreamError(f"ClockEstimate: cov of shape {self.cov.shape} for {count} segments; expected (n, 2, 2)")

    @property
    def map(self) -> ClockMap | PiecewiseClock:
        """The map moving -> reference. Raises WeakAlignmentError, with the reason, where there is none."""
        if self.clock is None:
            raise WeakAlignmentError(f"{self.status}: {self.message or 'there is no map'}")
        return self.clock

    @property
    def offset(self) -> float:
        return self._line().offset

    @property
    def drift(self) -> float:
        return self._line().drift

    def _line(self) -> ClockMap:
        clock = self.map
        if isinstance(clock, ClockMap):
            return clock
        if len(clock.segments) > 1:
            raise WeakAlignmentError(
                f"this clock has {len(clock.segments)} segments; ask each of .map.segments instead"
            )
        return clock.segments[0].map

    @property
    def segments(self) -> tuple[Segment, ...]:
        """The map as segments of the moving recording's own time; none for refusals."""
        if self.clock is None:
            return ()
        if isinstance(self.clock, PiecewiseClock):
            return self.clock.segments
        start, end = self.span
        return (Segment(start, max(end, math.nextafter(start, math.inf)), self.clock.offset, self.clock.drift),)

    def std_at(self, times: ArrayLike) -> NDArray[np.float64]:
        """1 sigma of the mapped time at `times` (the moving recording's own, seconds), given the right peak."""
        t = np.asarray(times, np.float64)
        if self.clock is None or self.cov is None:
            return np.full(t.shape, np.nan)
        covs = self.cov if self.cov.ndim == 3 else self.cov[None]
        starts = np.array([s.start for s in self.segments])
        c = covs[np.clip(np.searchsorted(starts, t, side="right") - 1, 0, len(covs) - 1)]
        variance = c[..., 0, 0] + 2 * t * c[..., 0, 1] + t * t * c[..., 1, 1]
        return np.sqrt(np.maximum(variance, 0.0))

    @property
    def std(self) -> float:
        """1 sigma of the mapped time in the middle of the recording, seconds."""
        return float(self.std_at((self.span[0] + self.span[1]) / 2))

    @property
    def drift_std(self) -> float | None:
        """1 sigma of the drift; None where it was not estimated."""
        if self.cov is None or not self.drift_known:
            return None
        return float(np.sqrt((self.cov if self.cov.ndim == 2 else self.cov[0])[1, 1]))

    def __str__(self) -> str:
        if self.status == "reference":
            return "reference"
        if self.clock is None:
            return f"{self.status}: {self.message}" if self.message else self.status
        line = self.segments[0]
        text = f"{line.offset:+.5f} s ± {format_std(self.std)}"
        if self.drift_known and self.drift_std is not None:
            text += f"   {line.drift * 1e6:+.2f} ± {self.drift_std * 1e6:.2g} ppm"
        if len(self.segments) > 1:
            text += f"   {len(self.segments)} segments"
        return f"{text}   {self.status}"


def format_std(std: float) -> str:
    """A standard deviation of time in the unit that suits it."""
    if not math.isfinite(std):
        return "unknown"
    for scale, unit in ((1.0, "s"), (1e3, "ms")):
        if std * scale >= 0.01:
            return f"{std * scale:.2g} {unit}"
    return f"{std * 1e6:.2g} µs"


@dataclass(frozen=True, eq=False)
class ClockEdge:
    """One piece of evidence that two streams share: t_reference = map(t_moving).

    reference, moving: nodes `(recording, stream)`.
    cov: `(2, 2)` of (offset, drift) of `map`.
    confidence: probability that `map` is the right peak.
    evidence: what it was measured from: "sound", "picture", "container", ...
    """

    reference: Node
    moving: Node
    map: ClockMap
    cov: NDArray[np.float64]
    confidence: float
    evidence: str

    def __post_init__(self) -> None:
        if np.shape(self.cov) != (2, 2) or not np.all(np.isfinite(self.cov)):
            raise StreamError(
                f"ClockEdge {self.reference} - {self.moving}: cov of shape {np.shape(self.cov)}; "
                "expected a finite (2, 2)"
            )

    def inverse(self) -> ClockEdge:
        """The same evidence read the other way round; its covariance to first order."""
        jacobian = inverse_jacobian(self.map)
        cov = jacobian @ self.cov @ jacobian.T
        return ClockEdge(self.moving, self.reference, self.map.inverse(), cov, self.confidence, self.evidence)


def inverse_jacobian(clock: ClockMap) -> NDArray[np.float64]:
    """d(offset, drift of the inverse) / d(offset, drift)."""
    s = 1.0 + clock.drift
    return np.array([[-1.0 / s, clock.offset / s**2], [0.0, -1.0 / s**2]])


@dataclass(frozen=True)
class RecordingFacts:
    """What alignment.json says of a recording beside its clock.

    source: path as given; start: nanoseconds subtracted from its time stamps; duration: seconds.
    streams: stream name -> seconds that correct this stream inside the recording.
    extra: whatever else stands there; `reading`, the options that its table was read with.
    """

    source: str | None = None
    start: int = 0
    start_clock: str | None = None
    duration: float = 0.0
    streams: Mapping[str, float] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, recording: Recording) -> RecordingFacts:
        extra = {key: recording.facts[key] for key in ("reading",) if key in recording.facts}
        return cls(recording.source, recording.start, recording.start_clock, recording.duration, extra=extra)


@dataclass(frozen=True, eq=False)
class Alignment:
    """Recordings on one timeline: `clocks[name].map(t)` is t on the reference's clock.

    reference: name of the reference recording; recordings that share nothing with it form islands, whose
        clocks name their own reference.
    clocks: name -> ClockEstimate.
    transforms: "moving->reference" -> TransformEstimate between frames of space.
    facts: name -> source, start, duration.
    recordings: name -> Recording where it is at hand; else it is read from its source.
    """

    reference: str
    clocks: Mapping[str, ClockEstimate]
    transforms: Mapping[str, TransformEstimate] = field(default_factory=dict)
    facts: Mapping[str, RecordingFacts] = field(default_factory=dict)
    recordings: Mapping[str, Recording] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_maps(cls, maps: Mapping[str | os.PathLike[str], ClockMap | PiecewiseClock | None]) -> Alignment:
        """What a method found that states no more than clocks: file -> its clock on that of the first file.

        None refuses: the file shares nothing with the first. Recordings are named after their files' stems, by their
        paths where stems collide. Raises StreamError where there is no file.
        """
        paths = [os.fspath(path) for path in maps]
        if not paths:
            raise StreamError("Alignment.from_maps: no file; expected the first one's clock, which is the reference")
        stems = [Path(path).stem for path in paths]
        names = [s if stems.count(s) == 1 else path for s, path in zip(stems, paths, strict=True)]
        clocks = {names[0]: reference_estimate(names[0], 0.0)}
        for name, clock in list(zip(names, maps.values(), strict=True))[1:]:
            refused = "the method found no match"
            clocks[name] = (
                ClockEstimate("no_match", message=refused) if clock is None else ClockEstimate("aligned", clock)
            )
        facts = {name: RecordingFacts(path) for name, path in zip(names, paths, strict=True)}
        return cls(names[0], clocks, facts=facts)

    @property
    def complete(self) -> bool:
        """Whether every recording is on the reference's clock."""
        return not self.left_out

    @property
    def left_out(self) -> dict[str, str]:
        """Recordings that are not on the reference's clock, and why."""
        found = {}
        for name, estimate in self.clocks.items():
            if estimate.clock is None:
                found[name] = f"{estimate.status}: {estimate.message}" if estimate.message else estimate.status
            elif estimate.reference not in (None, self.reference):
                found[name] = f"on the clock of {estimate.reference}, which shares nothing with {self.reference}"
        return found

    def recording(self, name: str) -> Recording:
        """The recording itself; read from its source where it is not in memory."""
        if name in self.recordings:
            return self.recordings[name]
        source = self.facts[name].source if name in self.facts else None
        if source is None:
            raise ReadError(f"recording {name!r} was made from arrays and is not in this alignment any more")
        from avfuse.io import read

        # How a table is to be read, where it leaves that open and it was told.
        reading = self.facts[name].extra.get("reading")
        told = {k: reading[k] for k in ("time_column", "time_unit", "rate") if k in reading} if reading else {}
        return replace(read(source, **told), name=name)

    def __str__(self) -> str:
        width = max((len(name) for name in self.clocks), default=0)
        rows = []
        for name, estimate in self.clocks.items():
            island = "" if estimate.reference in (None, self.reference) else f"   on the clock of {estimate.reference}"
            rows.append(f"{name:<{width}}  {estimate}{island}")
        return "\n".join(rows)

    # Thin methods: each imports its room when called.

    def render(self, folder: str | os.PathLike[str], **options: Any) -> list[Path]:
        """Write every aligned recording onto the common timeline: see `avfuse.rendering.render`."""
        from avfuse.rendering import render

        return render(self, folder, **options)

    def export(self, path: str | os.PathLike[str], **options: Any) -> Exported:
        """Write a timeline for editing programs, `.otio` or `.fcpxml`: see `avfuse.io.timeline.export`."""
        from avfuse.io.timeline import export

        return export(self, path, **options)

    def picture(self, path: str | os.PathLike[str]) -> Path:
        """Draw the timeline as a PNG or SVG: see `avfuse.reporting.timeline.draw_timeline`."""
        from avfuse.reporting.timeline import draw_timeline

        return draw_timeline(self, path)

    def report(self, path: str | os.PathLike[str], **options: Any) -> Path:
        """Write the HTML page that explains this alignment: see `avfuse.reporting.page.write_report`."""
        from avfuse.reporting.page import write_report

        return write_report(self, path, **options)

    def to_json(self, folder: str | os.PathLike[str] | None = None) -> dict[str, Any]:
        """The document of the schema `avfuse.alignment/1`.

        folder: where it will be saved; relative sources are then written relative to it.
        """
        clocks = {
            name: _clock_to_json(estimate, self.facts.get(name, RecordingFacts()), self.reference, folder)
            for name, estimate in self.clocks.items()
        }
        return {
            "format": FORMAT,
            "reference": self.reference,
            "clocks": clocks,
            "transforms": {
                name: estimate.to_json(*reversed(name.split("->", 1))) for name, estimate in self.transforms.items()
            },
            **self.extra,
        }

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write alignment.json. Raises WriteError where that is not possible, or would replace a recording."""
        check_spares(path, self.sources)
        document = json_text(self.to_json(Path(path).parent))
        with replacing(path) as temporary:
            temporary.write_text(document + "\n", encoding="utf-8")
        return Path(path)

    @property
    def sources(self) -> set[str]:
        """Paths of the recordings, as far as they are known."""
        found = [facts.source for facts in self.facts.values()] + [r.source for r in self.recordings.values()]
        return {source for source in found if source is not None}


def json_text(document: Mapping[str, Any], encoding: str = "utf-8") -> str:
    """JSON that `encoding` can write: names that it cannot (files whose names are no UTF-8) are escaped."""
    text = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False)
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        text = json.dumps(document, indent=1, allow_nan=False)
    return text


_CLOCK_KEYS = {
    "status", "reference", "source", "start", "start_clock", "duration", "confidence", "evidence", "segments",
    "streams", "candidates", "message", "breaks",
}  # fmt: skip


def _clock_to_json(
    estimate: ClockEstimate, facts: RecordingFacts, reference: str, folder: str | os.PathLike[str] | None
) -> dict[str, Any]:
    source = facts.source
    if source is not None and folder is not None and "://" not in source and not os.path.isabs(source):
        # Links are followed, but for the last: "l/.." is not here where l is a link to elsewhere.
        real = os.path.join(os.path.realpath(os.path.dirname(source)), os.path.basename(source))
        source = os.path.relpath(real, os.path.realpath(folder))
    found: dict[str, Any] = {
        "status": estimate.status,
        "reference": estimate.reference or reference,
        "source": source,
        "start": facts.start,
        "start_clock": facts.start_clock,
        "duration": facts.duration,
    }
    streams = {name: {"offset": offset} for name, offset in facts.streams.items()}
    if estimate.status == "reference":
        if streams:
            found["streams"] = streams
        if estimate.message is not None:
            found["message"] = estimate.message
    else:
        segments = []
        covs: Sequence[NDArray[np.float64] | None] = [None] * len(estimate.segments)
        if estimate.cov is not None:
            covs = list(estimate.cov.reshape(-1, 2, 2)) if estimate.segments else []
        for segment, cov in zip(estimate.segments, covs, strict=True):
            middle = (segment.start + segment.end) / 2
            segments.append(
                {
                    "start": segment.start,
                    "end": segment.end,
                    "offset": segment.offset,
                    "drift": segment.drift,
                    "std": None if cov is None else float(estimate.std_at(middle)),
                    "drift_std": float(np.sqrt(cov[1, 1])) if cov is not None and estimate.drift_known else None,
                    "cov": None if cov is None else cov.tolist(),
                }
            )
        found |= {
            "confidence": estimate.confidence,
            "evidence": list(estimate.evidence),
            "segments": segments,
            "streams": streams,
            "candidates": [
                {"offset": c.offset, "drift": c.drift, "confidence": c.confidence} for c in estimate.candidates
            ],
            "message": estimate.message,
        }
        if estimate.breaks:
            found["breaks"] = [{"at": b.at, "std": b.std, "missing": b.missing} for b in estimate.breaks]
    return found | dict(facts.extra)


_FARTHEST = 1e10  # seconds; three centuries
_STEEPEST = 0.5


def _clock_from_json(name: str, entry: dict[str, Any], folder: Path) -> tuple[ClockEstimate, RecordingFacts]:
    os.fsencode(name)  # files are named after it; raises ValueError for what no file name can hold
    source = entry.get("source")
    if source is not None and "://" not in source and not os.path.isabs(source):
        # Relative to here and not absolute, so that saving it again keeps it relative to its folder.
        source = os.path.relpath(os.path.join(os.path.realpath(folder), source))
    duration = float(entry.get("duration") or 0.0)
    facts = RecordingFacts(
        source,
        int(entry.get("start") or 0),
        entry.get("start_clock"),
        duration,
        {key: float(value.get("offset", 0.0)) for key, value in (entry.get("streams") or {}).items()},
        {key: value for key, value in entry.items() if key not in _CLOCK_KEYS},
    )
    status = entry["status"]
    if status == "reference":
        return replace(reference_estimate(name, duration), message=entry.get("message")), facts
    segments = tuple(Segment(s["start"], s["end"], s["offset"], s["drift"]) for s in entry.get("segments") or ())
    for segment in segments:
        if abs(segment.offset) > _FARTHEST or abs(segment.drift) > _STEEPEST:
            raise ValueError(f"{name}: offset {segment.offset:g} s and drift {segment.drift:g} are no clock's")
    clock: ClockMap | PiecewiseClock | None = None
    cov: NDArray[np.float64] | None = None
    span = (0.0, duration)
    if segments and status == "aligned":
        clock = segments[0].map if len(segments) == 1 else PiecewiseClock(segments)
        span = (segments[0].start, segments[-1].end)
        covs = [_segment_cov(s) for s in entry["segments"]]
        if None not in covs:
            cov = np.array(covs[0] if len(segments) == 1 else covs, np.float64)
    drift_known = all(s.get("drift_std") is not None for s in entry.get("segments") or ())
    return (
        ClockEstimate(
            status,
            clock,
            cov,
            float(entry.get("confidence") or 0.0),
            tuple(Candidate(c["offset"], c["drift"], c.get("confidence", 0.0)) for c in entry.get("candidates") or ()),
            entry.get("message"),
            span,
            drift_known,
            tuple(entry.get("evidence") or ()),
            entry.get("reference"),
            tuple(Break(b["at"], b.get("std", 0.0), b["missing"]) for b in entry.get("breaks") or ()),
        ),
        facts,
    )


def _segment_cov(segment: dict[str, Any]) -> list[list[float]] | None:
    """Files by other tools may give only std and drift_std: those of the middle of the segment, uncorrelated there."""
    if segment.get("cov") is not None:
        return segment["cov"]  # type: ignore[no-any-return]
    if segment.get("std") is None:
        return None
    middle = (segment["start"] + segment["end"]) / 2
    variance, drift_variance = segment["std"] ** 2, (segment.get("drift_std") or 0.0) ** 2
    return [
        [variance + middle**2 * drift_variance, -middle * drift_variance],
        [-middle * drift_variance, drift_variance],
    ]


def reference_estimate(name: str, duration: float) -> ClockEstimate:
    """The clock of a reference: itself, exactly."""
    return ClockEstimate(
        "reference", ClockMap(), np.zeros((2, 2)), 1.0, span=(0.0, duration), evidence=(), reference=name
    )


def load_alignment(path: str | os.PathLike[str]) -> Alignment:
    """Read an alignment.json. Raises ReadError where it is missing, is no JSON, or is of another format."""
    file = Path(path)
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ReadError(f"{file}: no such file; expected an alignment.json as `avfuse align -o` writes it") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ReadError(f"{file}: cannot be read as JSON ({error}); expected an alignment.json") from error
    return alignment_from_json(document, file.parent, str(file))


def alignment_from_json(document: Any, folder: str | os.PathLike[str], called: str) -> Alignment:
    """The alignment that a document of `avfuse.alignment/1` states. Raises ReadError where it is of another format.

    folder: what its relative sources are relative to. called: what errors call it.
    """
    found = document.get("format") if isinstance(document, dict) else type(document).__name__
    if found != FORMAT:
        raise ReadError(f"{called}: format is {found!r}; expected {FORMAT!r}")
    try:
        clocks, facts = {}, {}
        for name, entry in document["clocks"].items():
            clocks[name], facts[name] = _clock_from_json(name, entry, Path(folder))
        if document["reference"] not in clocks:
            raise ReadError(f"{called}: reference {document['reference']!r} is none of its clocks: {', '.join(clocks)}")
        return Alignment(
            document["reference"],
            clocks,
            {name: transform_estimate_from_json(entry) for name, entry in (document.get("transforms") or {}).items()},
            facts,
            extra={k: v for k, v in document.items() if k not in {"format", "reference", "clocks", "transforms"}},
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise ReadError(f"{called}: not a valid {FORMAT} document ({type(error).__name__}: {error})") from error
