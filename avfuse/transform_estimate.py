"""What an estimate of a transform says: the transform with its uncertainty, or why there is none; and its JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from avfuse.errors import StreamError, WeakAlignmentError
from avfuse.transform import Camera, Transform, transform_from_json

F64 = NDArray[np.float64]
TransformStatus = Literal["aligned", "ambiguous", "no_match", "degenerate"]


@dataclass(frozen=True, eq=False)
class TransformEstimate:
    """How one frame of space maps onto another, or why that cannot be said.

    status: `aligned`; `ambiguous` (several answers fit equally well: `candidates`); `no_match` (there was enough to
        look at, and nothing agreed); `degenerate` (the points or pictures cannot tell it: collinear, flat, too few).
    answer: the transform moving -> reference, None for refusals; read it as `.transform`, which raises
        WeakAlignmentError where there is none.
    cov: covariance, 1 sigma squared, of

        rigid        (rotation vector, translation): R' = exp(r) R, t' = t + d; in the plane (angle, translation)
        similarity   the same, then the logarithm of the scale
        affine       the entries of the rows but the last, row by row
        homography   the entries but the last, row by row, where the last is 1
        fundamental, essential   the nine entries, row by row, of the matrix of norm 1 (rank 7 and 5)

        rotations in radians, all else in the units of the points.
    inliers: `(n,)` bool over the correspondences given: those that lie within the threshold of the transform returned.
    residuals: `(n,)` distances of all of them, in the units of the reference.
    confidence: probability that this is the right answer, give or take five standard deviations.
    extra: what alignment.json says of it besides; kept as it was.
    """

    status: TransformStatus
    answer: Transform | None = None
    cov: F64 | None = None
    inliers: NDArray[np.bool_] | None = None
    residuals: F64 | None = None
    confidence: float = 0.0
    message: str | None = None
    candidates: tuple[Transform, ...] = ()
    diagnostics: Mapping[str, Any] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.status not in get_args(TransformStatus):
            expected = ", ".join(get_args(TransformStatus))
            raise StreamError(f"TransformEstimate: status {self.status!r}; expected one of {expected}")
        if (self.status == "aligned") != (self.answer is not None):
            raise StreamError(f"TransformEstimate: status {self.status!r} with {self.answer}; only answers carry one")

    @property
    def transform(self) -> Transform:
        """The transform moving -> reference. Raises WeakAlignmentError, with the reason, where there is none."""
        if self.answer is None:
            raise WeakAlignmentError(f"{self.status}: {self.message or 'there is no transform'}")
        return self.answer

    @property
    def std(self) -> F64:
        """Roots of the diagonal of `cov`; empty where there is none."""
        return np.zeros(0) if self.cov is None else np.sqrt(np.diag(self.cov))

    def to_json(self, reference: str, moving: str) -> dict[str, Any]:
        """As one entry of alignment.json's `transforms`, called "moving->reference" there."""
        made: dict[str, Any] = {"status": self.status, "reference": reference, "moving": moving}
        if self.answer is None:
            made["kind"] = self.diagnostics.get("kind")
        elif isinstance(self.answer, Camera):
            made |= self.answer.to_json()
        else:
            made |= {"kind": self.answer.kind, "matrix": self.answer.matrix.tolist()}
        if self.answer is not None:
            made["cov"] = None if self.cov is None else self.cov.tolist()
        return made | {"confidence": self.confidence, "message": self.message} | dict(self.extra)


_KEYS = {"status", "reference", "moving", "kind", "matrix", "cov", "confidence", "message"}
_OF_CAMERAS = {"size", "distortion", "fisheye", "pose"}


def transform_estimate_from_json(entry: Mapping[str, Any]) -> TransformEstimate:
    """An entry of alignment.json's `transforms`. Raises StreamError for what is none."""
    answer = transform_from_json(entry) if entry.get("status") == "aligned" else None
    cov = entry.get("cov")
    known = _KEYS | _OF_CAMERAS if entry.get("kind") == "camera" else _KEYS
    return TransformEstimate(
        entry.get("status"),  # type: ignore[arg-type]
        answer,
        None if cov is None else np.array(cov, np.float64),
        confidence=float(entry.get("confidence") or 0.0),
        message=entry.get("message"),
        diagnostics={} if entry.get("kind") is None else {"kind": entry["kind"]},
        extra={key: value for key, value in entry.items() if key not in known},
    )
