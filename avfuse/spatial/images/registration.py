"""Images onto images, without points: which map of the plane makes two of them show the same.

1. Small copies are laid over each other by the direction of their edges, which cameras of any band share: usual turns
   and scales, those of the log-polar spectrum, and, where nothing is found, all of them (`search`, `phase`).
2. The best are made exact from coarse to fine by Gauss-Newton (`refinement`), by what both images show alike: greys,
   also with light and dark exchanged; edges of one and greys of the other; or the direction of edges.
3. An account by tiles tells whether they show the same at all (`support`), and rivals whether something else fits as
   well. What does not pass is refused with its reason.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
from numpy.typing import ArrayLike

from avfuse._kernels.registration import seen_through
from avfuse.errors import StreamError
from avfuse.spatial.images.appearance import F32, F64, Level, grey_of, pyramid
from avfuse.spatial.images.phase import Spectrum, peaks
from avfuse.spatial.images.refinement import (
    FREEDOM,
    PAIRINGS,
    Fitted,
    Model,
    Pairing,
    Target,
    change,
    corners,
    covariance,
    fit,
    level_for,
    mapped,
    off_levels,
    on_levels,
)  # fmt: skip
from avfuse.spatial.images.search import Search, Start, complex_field, everything, smaller, usual
from avfuse.spatial.images.support import Support, support_of
from avfuse.transform import Affine, Homography, Rigid, Similarity
from avfuse.transform_estimate import TransformEstimate, TransformStatus

_SMALLEST = 32  # pixels of a side; below, there are too few tiles to tell anything
_LONGEST = 1400  # pixels of the longer side on which the last refinement is done
_TRIED = 5  # starts that are made exact
_CLOSER, _JUDGED = 160, 420  # pixels of the longer side on which starts are told apart, and on which tiles are counted
# Natural logarithm of how much likelier tiles are if they fit: unrelated images were seen to reach 5.
_EVIDENCE, _CERTAIN = 12.0, 25.0
_TILES, _SHARE = 5, 0.2  # tiles that must have something in them, and share of them that must fit
_SUREST = 0.999  # images are not all like those that this was tried on
_PROMISING = 9.0  # height of a peak, in scatters of its surface, above which no other start is looked for at first
_HOPELESS = 0.12  # correlation of small copies below which a start is not followed further
_RIVAL, _AS_GOOD = 0.7, 0.9  # height of a rival's peak, and its score, beside the best one's
_APART = 4.0  # pixels of the judged level by which a rival is another answer
_VAGUE = 0.01  # of the longer side, standard deviation of a corner beyond which nothing is known
_ONE_DIRECTION = 0.003  # of the gradients' energy across the strongest direction
_CLASSES: dict[Model, Callable[[F64], Homography]] = {
    "translation": Rigid, "rigid": Rigid, "similarity": Similarity, "affine": Affine, "homography": Homography,
}  # fmt: skip
_STAGES: dict[Model, tuple[Model, ...]] = {
    "translation": ("translation",),
    "rigid": ("rigid",),
    "similarity": ("similarity",),
    "affine": ("similarity", "affine"),
    "homography": ("similarity", "affine", "homography"),
}


@dataclass(frozen=True, eq=False)
class _Candidate:
    """matrix: whole moving pixels -> whole reference pixels."""

    matrix: F64
    pairing: Pairing
    fitted: Fitted
    support: Support

    @property
    def accepted(self) -> bool:
        s = self.support
        return s.tiles >= _TILES and s.share >= _SHARE and s.evidence >= _EVIDENCE

    @property
    def weight(self) -> tuple[float, float]:
        return self.support.evidence, self.support.loose

    @property
    def repeats(self) -> bool:
        """Whether it is accepted only with tiles that fit elsewhere as well."""
        s = self.support
        return not self.accepted and s.tiles + s.repeating >= _TILES and s.loose >= _EVIDENCE


class _Pair:
    """Two images and what is made of them."""

    def __init__(self, reference: F32, moving: F32, model: Model) -> None:
        self.model = model
        self.reference, self.moving = pyramid(reference), pyramid(moving)
        self.search = Search(self.reference, self.moving)
        self.edge = corners(moving.shape)
        self._targets: dict[tuple[int, Pairing], Target] = {}

    def target(self, longest: int, pairing: Pairing) -> Target:
        key = (longest, pairing)
        if key not in self._targets:
            self._targets[key] = Target.of(smaller(self.reference, longest), pairing)
        return self._targets[key]

    def sizes(self, above: int, longest: int) -> list[int]:
        """Longer sides of the levels to go through, coarsest first, all above one and up to another."""
        full = self.reference[0].longest
        least = min(self.reference[0].grey.shape)
        # What the moving image does not resolve cannot be compared either: `level_for` then takes it as it is.
        made = [min(longest, full)]
        while made[-1] > 1.5 * above and made[-1] // 2 * least >= 36 * full:
            made.append(made[-1] // 2)
        return made[::-1]

    def refined(
        self,
        matrix: F64,
        pairing: Pairing,
        model: Model,
        sizes: list[int],
        *,
        rounds: int = 10,
        until: float = 0.02,
        settled: bool = False,
    ) -> tuple[F64, Fitted, Target, Level] | None:
        found = None
        for k, size in enumerate(sizes):
            target = self.target(size, pairing)
            # Only the first level has far to go.
            for stage in _STAGES[model][-1 if k or settled else 0 :]:
                moving = level_for(self.moving, target, matrix)
                made = fit(target, moving, on_levels(matrix, moving, target), stage, rounds=rounds, until=until)
                if not made.ok:
                    return None
                # Pixels of smaller copies are not quite square.
                matrix = self.exactly(off_levels(made.matrix, moving, target), stage)
                found = (matrix, made, target, moving)
        return found

    def exactly(self, matrix: F64, model: Model) -> F64:
        """The nearest map of the kind, with the middle of the moving image where it was."""
        matrix = matrix / matrix[2, 2]
        if model in ("affine", "homography"):
            return np.asarray(matrix)
        middle = np.array([[(self.edge[-1, 0]) / 2, self.edge[-1, 1] / 2]])
        a, b = (matrix[0, 0] + matrix[1, 1]) / 2, (matrix[1, 0] - matrix[0, 1]) / 2
        size = math.hypot(a, b) or 1.0
        made = np.eye(3)
        if model == "similarity":
            made[:2, :2] = [[a, -b], [b, a]]
        elif model == "rigid":
            made[:2, :2] = [[a / size, -b / size], [b / size, a / size]]
        made[:2, 2] = (mapped(matrix, middle) - mapped(made, middle))[0]
        return made

    def candidate(self, start: F64) -> _Candidate | None:
        """A start made exact, with the pairing that shows most alike, and its tiles counted."""
        simple: Model = self.model if FREEDOM[self.model] <= 4 else "similarity"
        closer = self.refined(self.exactly(start, simple), PAIRINGS[0], simple, self.sizes(40, _CLOSER))
        if closer is None:
            return None
        found = []
        for pairing in PAIRINGS:
            made = self.refined(closer[0], pairing, simple, [min(_CLOSER, self.reference[0].longest)], rounds=4)
            if made is not None:
                found.append((made[1].score, pairing, made[0]))
        if not found:
            return None
        score, pairing, matrix = max(found, key=lambda f: f[0])
        if score < _HOPELESS:
            return None
        return self.judged(matrix, pairing, self.sizes(_CLOSER, _JUDGED))

    def judged(self, matrix: F64, pairing: Pairing, sizes: list[int]) -> _Candidate | None:
        """Exact on the level on which tiles are counted, and these."""
        judged = self.refined(matrix, pairing, self.model, sizes, rounds=8)
        if judged is None or not self.plausible(judged[0]):
            return None
        matrix, fitted, target, moving = judged
        return _Candidate(matrix, pairing, fitted, support_of(target, moving, fitted.matrix))

    def plausible(self, matrix: F64) -> bool:
        """Whether the moving image lies flat, not mirrored, and of a size that makes sense."""
        place = mapped(matrix, self.edge)
        if not np.isfinite(place).all():
            return False
        a, b, c, d = place
        turns = [
            np.cross(np.append(v - u, 0), np.append(w - u, 0))[2]
            for u, v, w in ((a, b, c), (b, d, a), (d, c, b), (c, a, d))
        ]
        signs = np.sign(turns)
        return bool((signs == signs[0]).all() and signs[0] > 0)

    def best(self, starts: list[Start], known: list[F64]) -> _Candidate | None:
        """The candidate with most evidence; stops at one that is certain. known: places that were tried before."""
        best: _Candidate | None = None
        near, tried = 0.03 * self.reference[0].longest, 0
        for start in sorted(starts, key=lambda s: -s.height):
            place = mapped(start.matrix, self.edge)
            if any(np.abs(place - k).max() < near for k in known):
                continue
            known.append(place)
            found = self.candidate(start.matrix)
            tried += 1
            if found is not None and (best is None or found.weight > best.weight):
                best = found
            if tried >= _TRIED or (best is not None and best.support.loose >= _CERTAIN):
                break
        return best


def register_images(reference: ArrayLike, moving: ArrayLike, *, model: Model = "similarity") -> TransformEstimate:
    """Map that takes pixels of `moving` onto the pixels of `reference` that show the same.

    reference, moving: images `(h, w)` or `(h, w, c)`, uint8 or any numbers; sizes, channels and kinds of camera may
        differ; NaN where there is nothing. Pixel (0, 0) has its middle at x = y = 0.
    model: `translation`, `rigid`, `similarity`, `affine` or `homography`; one that is too narrow is refused.

    The result's covariance is of the parameters of its kind (see TransformEstimate); a translation is a rigid map whose
    angle is known. Its diagnostics tell how many tiles of the images fit by themselves (`near` of `tiles`), the
    standard deviation of a corner in pixels (`corner_std`), and what was compared (`pairing`). Refused are images
    without structure (`degenerate`), that have nothing in common (`no_match`), and repeating ones (`ambiguous`).
    Raises StreamError for what is no image, or another model.
    """
    if model not in get_args(Model):
        raise StreamError(f"model {model!r}; expected one of {', '.join(get_args(Model))}")
    one, two = grey_of(reference, "reference"), grey_of(moving, "moving")
    nothing = _nothing_to_compare(one, two)
    if nothing is not None:
        return _refused("degenerate", nothing, model)
    pair = _Pair(one, two, model)
    known: list[F64] = []
    starts = pair.search.starts(usual(pair.reference, pair.moving))
    best: _Candidate | None = None
    if starts and max(s.height for s in starts) >= _PROMISING:
        best = pair.best(starts, known)
    if best is None or not (best.accepted or best.repeats):
        starts += pair.search.starts(pair.search.log_polar())
        best = _better(best, pair.best(starts, known))
    if best is None or not (best.accepted or best.repeats):
        starts += pair.search.starts(everything())
        best = _better(best, pair.best(starts, known))
    if best is None or not (best.accepted or best.repeats):
        return _refused("no_match", _unlike(best, model), model, best)
    rivals = _rivals(pair, best)
    if rivals:
        kind = _CLASSES[model]
        return _refused(
            "ambiguous",
            f"the images also fit {_away(pair, best, rivals[0]):.0f} pixels away, as patterns that repeat do",
            model, best, tuple(kind(c.matrix) for c in (best, *rivals)),
        )  # fmt: skip
    if not best.accepted:
        return _refused("no_match", _unlike(best, model), model, best)
    return _answer(pair, best)


def _better(one: _Candidate | None, two: _Candidate | None) -> _Candidate | None:
    if one is None or two is None:
        return one or two
    return two if two.weight > one.weight else one


def _nothing_to_compare(*greys: F32) -> str | None:
    """Why these cannot be compared at all, or None."""
    import cv2

    for grey, called in zip(greys, ("reference", "moving image"), strict=True):
        h, w = grey.shape
        if min(h, w) < _SMALLEST:
            return f"the {called} has {w} x {h} pixels; at least {_SMALLEST} each way are needed"
        level = smaller(pyramid(grey), 320).grey
        present = np.isfinite(level)
        if present.mean() < 0.1:
            return f"the {called} shows something on {100 * present.mean():.0f} % of its pixels; 10 % are needed"
        smooth = cv2.GaussianBlur(np.where(present, level, np.float32(np.nanmean(level))), (0, 0), 1.5)
        dx, dy = cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1)
        inner = cv2.erode(present.astype(np.uint8), np.ones((9, 9), np.uint8), borderValue=1) > 0
        dx, dy = dx[inner].astype(np.float64), dy[inner].astype(np.float64)
        if not dx.size or float(np.abs(dx).max() + np.abs(dy).max()) < 1e-3:
            return f"the {called} is of one colour: it has no structure to go by"
        energies = np.linalg.eigvalsh(np.array([[dx @ dx, dx @ dy], [dx @ dy, dy @ dy]]))
        if energies[0] < _ONE_DIRECTION * energies[1]:
            return f"the {called} shows lines of one direction only: where they lie along it cannot be told"
    return None


def _refused(
    status: TransformStatus, message: str, model: Model, best: _Candidate | None = None,
    candidates: tuple[Homography, ...] = (),
) -> TransformEstimate:  # fmt: skip
    seen: dict[str, Any] = {"kind": "rigid" if model == "translation" else model}
    if best is not None:
        seen |= _seen(best)
    return TransformEstimate(status, message=message, candidates=candidates, diagnostics=seen)


def _seen(best: _Candidate) -> dict[str, Any]:
    s = best.support
    return {
        "pairing": best.pairing, "score": best.fitted.score, "overlap": best.fitted.overlap, "tiles": s.tiles,
        "near": s.near, "evidence": s.evidence,
    }  # fmt: skip


def _unlike(best: _Candidate | None, model: Model) -> str:
    if best is None or best.support.tiles < _TILES:
        return "the images share nothing that could be laid over each other, or show too little of it"
    said = f"{best.support.near} of {best.support.tiles} tiles fit where they lie, as by chance"
    wider = {"translation": "rigid", "rigid": "similarity", "similarity": "homography", "affine": "homography"}
    if best.support.evidence > _EVIDENCE / 3 and model in wider:
        return f"{said}, or the images are apart by more than model='{model}' can say; try model='{wider[model]}'"
    return f"{said}: the images seem to have nothing in common"


def _away(pair: _Pair, one: _Candidate, two: _Candidate) -> float:
    return float(np.linalg.norm(mapped(one.matrix, pair.edge) - mapped(two.matrix, pair.edge), axis=1).mean())


def _rivals(pair: _Pair, best: _Candidate) -> list[_Candidate]:
    """Other answers that fit as well: shifts at which the images meet again, and half and quarter turns."""
    target = pair.target(min(_JUDGED, pair.reference[0].longest), PAIRINGS[0])
    h, w = target.shape
    moving = level_for(pair.moving, target, best.matrix)
    seen = Level(seen_through(moving.grey, np.linalg.inv(on_levels(best.matrix, moving, target)), h, w), np.eye(3))
    surface, zero = Spectrum(complex_field(target.level), (h, w), whiten=0.0).surface(complex_field(seen))
    around = surface[zero[0] - 2 : zero[0] + 3, zero[1] - 2 : zero[1] + 3]
    own = float(around.max())
    down = target.level.matrix
    starts = []
    for row, column, height in peaks(surface, 6):
        y, x = row - zero[0], column - zero[1]
        if height >= _RIVAL * own and math.hypot(x, y) > _APART:
            starts.append(np.linalg.inv(down) @ np.array([[1, 0, x], [0, 1, y], [0, 0, 1.0]]) @ down @ best.matrix)
    model: Model = pair.model if FREEDOM[pair.model] <= 4 else "affine"
    linear = best.matrix[:2, :2]
    angle, scale = math.atan2(linear[1, 0], linear[0, 0]), math.sqrt(abs(np.linalg.det(linear)))
    turned = pair.search.starts([(angle + t, scale) for t in (0.0, np.pi / 2, np.pi, -np.pi / 2)])
    top = max((s.height for s in turned), default=0.0)
    if pair.model != "translation":
        starts += [s.matrix for s in turned if s.height >= _RIVAL * top]
    found: list[_Candidate] = []
    apart = _APART / down[0, 0]
    for start in starts:
        if np.abs(mapped(start, pair.edge) - mapped(best.matrix, pair.edge)).max() < apart:
            continue
        # On this level only: a pattern that repeats is gone from smaller ones.
        rival = pair.judged(pair.exactly(start, model), best.pairing, [min(_JUDGED, pair.reference[0].longest)])
        if rival is None or not (rival.accepted or rival.repeats) or rival.fitted.score < _AS_GOOD * best.fitted.score:
            continue
        if all(
            np.abs(mapped(rival.matrix, pair.edge) - mapped(c.matrix, pair.edge)).max() > apart for c in (best, *found)
        ):
            found.append(rival)
    return found


def _answer(pair: _Pair, best: _Candidate) -> TransformEstimate:
    """The candidate on the finest level, with its covariance."""
    model = pair.model
    full = pair.reference[0].longest
    sizes = [s for s in pair.sizes(_JUDGED, _LONGEST) if s > min(_JUDGED, full)] or [min(_JUDGED, full)]
    fine = pair.refined(best.matrix, best.pairing, model, sizes, rounds=12, until=0.003, settled=True)
    if fine is None:
        return _refused("no_match", _unlike(best, model), model, best)
    matrix, fitted, target, moving = fine
    cov = covariance(target, moving, fitted.matrix, model)
    transform = _CLASSES[model](matrix)
    if cov is None:
        vague = "what both images show does not hold every parameter: lines of one direction, or something round"
        return _refused("degenerate", vague, model, best)

    down = target.level.matrix
    scale = np.sqrt(np.maximum(np.diag(cov), 1e-30))

    def changed(d: F64) -> F64:
        made = np.linalg.inv(down) @ change(model, d, target) @ down @ transform.matrix
        return np.asarray(made / made[2, 2])

    def slopes(of: Callable[[F64], F64]) -> F64:
        columns = [
            (of(changed(s * e)) - of(changed(-s * e))) / (2 * s) for s, e in zip(scale, np.eye(len(scale)), strict=True)
        ]
        return np.stack(columns, axis=1)

    corner = slopes(lambda m: mapped(m, pair.edge).ravel())
    corner_std = float(np.sqrt(np.trace(corner @ cov @ corner.T) / 4))
    if corner_std > max(_VAGUE * full, 1.0):
        vague = (
            f"corners are known to {corner_std:.1f} pixels only: what both images show does not hold every parameter"
        )
        return _refused("degenerate", vague, model, best)
    own = slopes(lambda m: _parameters(m, model))
    stated = own @ cov @ own.T
    s = best.support
    seen = _seen(best) | {"corner_std": corner_std, "score": fitted.score, "overlap": fitted.overlap}
    confidence = min(_SUREST, 1.0 - math.exp(-(s.evidence - _EVIDENCE / 2)))
    return TransformEstimate("aligned", transform, (stated + stated.T) / 2, confidence=confidence, diagnostics=seen)


def _parameters(matrix: F64, model: Model) -> F64:
    """What TransformEstimate.cov is the covariance of."""
    if model == "homography":
        return np.asarray((matrix / matrix[2, 2]).ravel()[:-1])
    if model == "affine":
        return np.asarray(matrix[:2].ravel())
    angle = math.atan2(matrix[1, 0] - matrix[0, 1], matrix[0, 0] + matrix[1, 1])
    made = [angle, matrix[0, 2], matrix[1, 2]]
    if model == "similarity":
        made.append(0.5 * math.log(abs(float(np.linalg.det(matrix[:2, :2])))))
    return np.array(made)
