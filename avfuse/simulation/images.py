"""Two images of one scene, apart by a known transform, seen alike or as other sensors see it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from avfuse._kernels.registration import seen_through
from avfuse.errors import StreamError
from avfuse.transform import Affine, Homography, Rigid, Similarity

F32 = NDArray[np.float32]
Look = Literal["same", "light", "inverted", "edges", "remapped"]

_FINE = 2  # pixels of the scene for one of an image


@dataclass(frozen=True, eq=False)
class ImagePair:
    """Images `(h, w)` float32 of 0 to 255. truth: moving pixels -> reference pixels."""

    reference: F32
    moving: F32
    truth: Homography

    def corner_error(self, found: Any) -> float:
        """Pixels by which `found` puts the moving image's corners elsewhere, the mean of the four."""
        h, w = self.moving.shape
        corners = np.array([[0, 0], [w - 1, 0], [0, h - 1], [w - 1, h - 1]], float)
        return float(np.linalg.norm(found(corners) - self.truth(corners), axis=1).mean())


def image_pair(
    rng: np.random.Generator,
    *,
    size: tuple[int, int] = (240, 320),
    kind: str = "similarity",
    shift: float = 20.0,
    turn: float = 5.0,
    stretch: float = 0.05,
    look: Look = "same",
    noise: float = 2.0,
    scene: NDArray[Any] | None = None,
) -> ImagePair:
    """A random pair, the moving image's middle at most `shift` pixels and `turn` degrees away.

    size: height and width. kind: `translation`, `rigid`, `similarity`, `affine` or `homography`. stretch: most of the
    scale and of the skew. look: how the moving image differs: `same`; `light` (gain, gamma and a shadow); `inverted`;
    `edges` (only the gradient's strength); `remapped` (each grey becomes another one, light or dark). noise: standard
    deviation of both, of 255. scene: `(h, w)`, at least `_FINE` times the size and room for the shift; None draws one.
    """
    if look not in get_args(Look):
        raise StreamError(f"look {look!r}; expected one of {', '.join(get_args(Look))}")
    h, w = size
    # By how far a corner may go.
    room = int(np.ceil(shift + np.hypot(h, w) / 2 * (min(2 * np.sin(np.radians(turn) / 2), 1.0) + 2 * stretch))) + 8
    if scene is None:
        canvas = draw_scene(rng, (_FINE * (h + 2 * room), _FINE * (w + 2 * room)))
        fine: float = _FINE
    else:
        canvas = np.ascontiguousarray(scene, np.float32)
        fine = min(canvas.shape[0] / (h + 2 * room), canvas.shape[1] / (w + 2 * room))
    truth = _transform(rng, kind, shift, turn, stretch, h, w)
    place = np.array([[fine, 0, fine * room], [0, fine, fine * room], [0, 0, 1.0]])
    images = []
    for k, matrix in enumerate((np.eye(3), truth.matrix)):
        shown = canvas if k == 0 else _seen_as(canvas, look, rng)
        if fine > 1:
            import cv2

            shown = np.asarray(cv2.GaussianBlur(shown, (0, 0), 0.45 * fine), np.float32)
        seen = seen_through(np.asarray(shown, np.float32), np.asarray(place @ matrix), h, w)
        seen = seen + rng.normal(0.0, noise, seen.shape).astype(np.float32)
        images.append(np.clip(seen, 0, 255).astype(np.float32))
    return ImagePair(images[0], images[1], truth)


def _transform(
    rng: np.random.Generator, kind: str, shift: float, turn: float, stretch: float, h: int, w: int
) -> Homography:
    angle = np.radians(rng.uniform(-turn, turn)) if kind != "translation" else 0.0
    away = rng.uniform(0, shift) * np.array([np.cos(a := rng.uniform(0, 2 * np.pi)), np.sin(a)])
    linear = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    made, cls = np.eye(3), {"translation": Rigid, "rigid": Rigid, "similarity": Similarity, "affine": Affine}.get(kind)
    if kind not in ("translation", "rigid"):
        linear = linear * np.exp(rng.uniform(-stretch, stretch))
    if kind in ("affine", "homography"):
        linear = linear @ (np.eye(2) + rng.uniform(-stretch / 2, stretch / 2, (2, 2)))
    middle = np.array([(w - 1) / 2, (h - 1) / 2])
    made[:2, :2], made[:2, 2] = linear, middle + away - linear @ middle
    if kind == "homography":
        bend = np.eye(3)
        bend[2, :2] = rng.uniform(-stretch, stretch, 2) / max(h, w)
        there = np.eye(3)
        there[:2, 2] = -middle
        made = made @ np.linalg.inv(there) @ bend @ there
    return (cls or Homography)(made / made[2, 2])


def _seen_as(canvas: F32, look: Look, rng: np.random.Generator) -> F32:
    import cv2

    if look == "inverted":
        return np.asarray(255 - canvas)
    if look == "light":
        h, w = canvas.shape
        dark = cv2.resize(rng.uniform(0.5, 1.0, (3, 3)).astype(np.float32), (w, h), interpolation=cv2.INTER_CUBIC)
        return np.asarray(255 * (np.clip(canvas, 0, 255) / 255) ** np.float32(rng.uniform(0.6, 1.6)) * dark)
    if look == "edges":
        smooth = cv2.GaussianBlur(canvas, (0, 0), 2.0)
        strength = np.hypot(cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1))
        return np.asarray(np.clip(strength * (255 / np.percentile(strength, 99)), 0, 255), np.float32)
    if look == "remapped":
        # Smooth, neither rising nor falling: what is light here may be dark there.
        knots = np.linspace(0, 255, 7)
        values = np.concatenate([[0, 255, 0, 255], rng.uniform(0, 255, 3)])
        rng.shuffle(values)
        return np.asarray(np.interp(canvas, knots, values), np.float32)
    return canvas


def draw_scene(rng: np.random.Generator, shape: tuple[int, int]) -> F32:
    """Patches, bars and discs of any grey, with texture as nature has it (amplitude falling with frequency)."""
    import cv2

    h, w = shape
    size = fft.next_fast_len(h, real=True), fft.next_fast_len(w, real=True)
    frequency = np.hypot(fft.fftfreq(size[0])[:, None], fft.rfftfreq(size[1])[None, :])
    spectrum = fft.rfft2(rng.normal(size=size)) / np.maximum(frequency, 1 / max(shape)) ** 1.3
    texture = fft.irfft2(spectrum, size)[:h, :w]
    canvas = (125 + 25 * texture / texture.std()).astype(np.float32)
    for _ in range(max(12, h * w // 9000)):
        x, y, grey = int(rng.integers(0, w)), int(rng.integers(0, h)), float(rng.uniform(20, 235))
        r = float(np.exp(rng.uniform(np.log(8), np.log(max(16, min(h, w) / 6)))))
        patch = np.zeros(shape, np.uint8)
        if rng.uniform() < 0.4:
            cv2.ellipse(
                patch, (x, y), (int(r), int(r * rng.uniform(0.3, 1))), float(rng.uniform(0, 180)), 0, 360, 255, -1
            )
        else:
            angles = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 6))))
            points = np.stack([x + r * np.cos(angles), y + r * np.sin(angles)], axis=1)
            cv2.fillPoly(patch, [points.astype(np.int32)], 255)
        inside = patch > 0
        canvas[inside] = 0.35 * canvas[inside] + 0.65 * grey
    return np.asarray(np.clip(canvas, 0, 255), np.float32)
