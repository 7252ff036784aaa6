"""How much an image tells of values that lie on it, whatever their units: for sensors that see differently.

A point's value (a return's intensity, a depth, a grey of another camera) and what the image shows at the point's
place are counted in a joint histogram. The normalised information distance (H_ab - I) / H_ab is 0 where one tells the
other, and 1 where they share nothing; unlike mutual information it does not grow where the overlap merely shows more
(Stewart 2014; Pascoe, Maddern, Newman 2015). Greys are spread over their steps by cubic B-splines, so that it changes
smoothly with the places (Thevenaz and Unser 2000).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from avfuse._kernels.information import entropies, joint_moments, position_slopes, spread_moments
from avfuse.errors import StreamError

F64 = NDArray[np.float64]

_CLIPPED = (0.5, 99.5)  # percentiles that become the first and the last step: single bright points tell nothing
_SAMPLE = 100_000  # values from which percentiles are taken
_TINY = 1e-12
# Cubic B-spline: weights of columns k - 1 to k + 2 by powers of f, for a grey k + f.
_SPLINE = np.array([[1, -3, 3, -1], [4, 0, -6, 3], [1, 3, 3, -3], [0, 0, 0, 1]]) / 6.0


class JointInformation:
    """Values and the image that they are compared with, prepared for many evaluations.

    reference_values: `(n,)` numbers of any unit; NaN for points that have none. image: `(h, w)`, or `(h, w, c)` whose
    channels are averaged; NaN becomes the least grey. bins: steps of both. Raises StreamError for other shapes.
    """

    def __init__(self, reference_values: ArrayLike, image: ArrayLike, *, bins: int = 16) -> None:
        values, grey = np.asarray(reference_values), np.asarray(image)
        if values.ndim != 1 or values.dtype.kind not in "fiub":
            raise StreamError(f"reference_values: {values.dtype} of shape {values.shape}; expected numbers (n,)")
        if grey.ndim not in (2, 3) or grey.dtype.kind not in "fiub" or min(grey.shape[:2], default=0) < 2:
            raise StreamError(f"image: {grey.dtype} of shape {grey.shape}; expected (h, w) of at least 2 by 2 pixels")
        if not 2 <= bins <= 128:
            raise StreamError(f"bins: {bins!r}; expected 2 to 128")
        self.bins = int(bins)
        scaled = in_steps(values, self.bins)
        self._rows = np.where(np.isfinite(scaled), np.minimum(np.nan_to_num(scaled) + 0.5, bins - 1), 255).astype(
            np.uint8
        )
        steps = np.nan_to_num(in_steps(grey if grey.ndim == 2 else grey.mean(axis=2), self.bins))
        # The last grey lies just below its step, so that its whole part is a cell.
        self._image = np.ascontiguousarray(np.minimum(steps, np.nextafter(np.float32(bins - 1), np.float32(0))))

    def _places(self, positions: ArrayLike) -> F64:
        places = np.ascontiguousarray(positions, np.float64)
        if places.shape != (len(self._rows), 2):
            raise StreamError(f"positions: shape {places.shape}; expected ({len(self._rows)}, 2), one for each value")
        return places

    def histogram(self, positions: ArrayLike) -> F64:
        """`(bins, bins + 2)`: how often each value meets each grey; columns are greys -1 to `bins`."""
        return self._histogram(self._places(positions))

    def _histogram(self, places: F64) -> F64:
        return np.asarray(spread_moments(joint_moments(self._rows, self._image, places, self.bins), _SPLINE))

    def distance(self, positions: ArrayLike) -> float:
        """Normalised information distance, 0 to 1, with value i seen at `positions[i]` `(n, 2)`, x and y in pixels.

        Positions outside the image count for nothing; where none is inside, the distance is 1.
        """
        own, seen, joint = entropies(self.histogram(positions))
        return 2.0 - (own + seen) / joint if joint > _TINY else 1.0

    def mutual_information(self, positions: ArrayLike) -> float:
        """Nats that the image tells of the values at these positions."""
        own, seen, joint = entropies(self.histogram(positions))
        return float(own + seen - joint)

    def slopes(self, positions: ArrayLike) -> tuple[float, F64]:
        """The distance, and how it changes with each position, `(n, 2)`, per pixel."""
        places = self._places(positions)
        histogram = self._histogram(places)
        count = float(histogram.sum())
        own, seen, joint = entropies(histogram)
        if not joint > _TINY:
            return 1.0, np.zeros(places.shape)
        share = histogram / count
        # Derivatives of -sum p log p by p; what is the same for all cells cancels, as a point's weights sum to 1.
        of_seen = -np.log(np.maximum(share.sum(axis=0), _TINY))
        of_joint = -np.log(np.maximum(share, _TINY))
        cells = ((own + seen) / joint**2 * of_joint - of_seen / joint) / count
        cells = np.pad(cells, ((0, 0), (0, 1)))  # the column that greys of a whole number do not reach
        powers = _SPLINE[:, 1:] * np.array([1.0, 2.0, 3.0])
        polynomials = sum(cells[:, j : j + self.bins, None] * powers[j] for j in range(4))
        made = position_slopes(self._rows, self._image, places, np.asarray(polynomials, np.float32))
        return 2.0 - (own + seen) / joint, made


def information_distance(
    reference_values: ArrayLike, image: ArrayLike, positions: ArrayLike, *, bins: int = 16
) -> tuple[float, F64]:
    """Normalised information distance of values `(n,)` and an image that shows them at `positions` `(n, 2)`, and how it
    changes with each position, `(n, 2)`, per pixel. See JointInformation, which prepares values and image once."""
    return JointInformation(reference_values, image, bins=bins).slopes(positions)


def in_steps(values: NDArray[Any], bins: int) -> NDArray[np.float32]:
    """Values as float32 of 0 to `bins` - 1, between robust ends; NaN and infinite ones are NaN."""
    made = np.asarray(values, np.float32)
    finite = np.isfinite(made)
    some = made[finite] if not finite.all() else made.ravel()
    if not some.size:
        return np.full(made.shape, np.nan, np.float32)
    low, high = np.percentile(some[:: max(1, some.size // _SAMPLE)], _CLIPPED)
    if not high > low:
        low, high = float(some.min()), float(some.max())
    made = (made - np.float32(low)) * np.float32((bins - 1) / (high - low) if high > low else 0.0)
    return np.where(finite, np.clip(made, 0, bins - 1), np.float32(np.nan))
