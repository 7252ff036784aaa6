"""OpenCV and scikit-image on pairs of images. Arguments: in.npz (reference_0, moving_0, ...), out.npz.

Writes for each method the matrices moving -> reference, NaN where it raised or gave none, and seconds.
"""

import sys
import time

import cv2
import numpy as np
from skimage.registration import phase_cross_correlation

cv2.setNumThreads(1)


def ecc(reference, moving):
    # It maps the template's pixels to the input's: with the moving image as template, moving -> reference.
    start = np.eye(2, 3, dtype=np.float32)
    stop = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 200, 1e-6)
    _, found = cv2.findTransformECC(moving, reference, start, cv2.MOTION_AFFINE, stop, None, 5)
    return np.vstack([found, [0, 0, 1]])


def phase_correlate(reference, moving):
    window = cv2.createHanningWindow(moving.shape[::-1], cv2.CV_32F)
    (x, y), _ = cv2.phaseCorrelate(moving, reference, window)
    return np.array([[1, 0, x], [0, 1, y], [0, 0, 1.0]])


def cross_correlation(reference, moving):
    (y, x), _, _ = phase_cross_correlation(reference, moving, upsample_factor=100)
    return np.array([[1, 0, x], [0, 1, y], [0, 0, 1.0]])


METHODS = {"ecc": ecc, "phase_correlate": phase_correlate, "cross_correlation": cross_correlation}
given = np.load(sys.argv[1])
made = {}
for name, method in METHODS.items():
    matrices, taken = [], []
    for k in range(len(given.files) // 2):
        pair = given[f"reference_{k}"], given[f"moving_{k}"]
        began = time.perf_counter()
        try:
            matrices.append(method(*pair))
        except Exception:  # whatever a library does with a pair is its answer to it
            matrices.append(np.full((3, 3), np.nan))
        taken.append(time.perf_counter() - began)
    made |= {name: np.array(matrices), f"{name}_seconds": np.array(taken)}
np.savez(sys.argv[2], **made)
