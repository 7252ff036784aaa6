"""OpenCV, and PoseLib and pydegensac where they are installed, on correspondences.

Arguments: in.npz (kind_0, ref_0, mov_0, ...; K), out.npz, repeats.

Writes `METHOD_K`, a matrix (3, 3), or (3, 4) for poses, NaN where a method gave none, and `seconds_METHOD`, the least
of all repeats for each problem.
"""

import sys
import time

import cv2
import numpy as np

try:
    import poselib
    import pydegensac
except ImportError:
    poselib = pydegensac = None

cv2.setNumThreads(1)
MOST, SURE, LIMIT = 100_000, 0.9999, 3.0


def essential(pose):
    t = pose.t
    return np.array([[0, -t[2], t[1]], [t[2], 0, -t[0]], [-t[1], t[0], 0]]) @ pose.R


def pnp(ref, mov, k):
    good, r, t, inliers = cv2.solvePnPRansac(mov, ref, k, None, iterationsCount=MOST, reprojectionError=LIMIT,
                                             confidence=SURE, flags=cv2.SOLVEPNP_SQPNP)  # fmt: skip
    if not good:
        return None
    if inliers is not None and len(inliers) > 3:
        r, t = cv2.solvePnPRefineLM(mov[inliers.ravel()], ref[inliers.ravel()], k, None, r, t)
    return np.column_stack([cv2.Rodrigues(r)[0], t])


def pinhole(k):
    return {"model": "PINHOLE", "width": 640, "height": 480, "params": [k[0, 0], k[1, 1], k[0, 2], k[1, 2]]}


def within(what):
    return {"max_iterations": MOST, "success_prob": SURE, "seed": 0, what: LIMIT}


METHODS = {
    "homography": {
        "cv2 RANSAC": lambda r, m, k: cv2.findHomography(m, r, cv2.RANSAC, LIMIT, maxIters=10_000, confidence=SURE)[0],
        "cv2 USAC_MAGSAC": lambda r, m, k: cv2.findHomography(
            m, r, cv2.USAC_MAGSAC, LIMIT, maxIters=10_000, confidence=SURE
        )[0],
        "PoseLib": lambda r, m, k: poselib.estimate_homography(m, r, within("max_reproj_error"), {})[0],
        "pydegensac": lambda r, m, k: pydegensac.findHomography(m, r, LIMIT, SURE, 10_000)[0],
    },
    "affine": {
        "cv2 RANSAC": lambda r, m, k: cv2.estimateAffine2D(
            m, r, ransacReprojThreshold=LIMIT, maxIters=MOST, confidence=SURE
        )[0],
    },
    "similarity": {
        "cv2 RANSAC": lambda r, m, k: cv2.estimateAffinePartial2D(
            m, r, ransacReprojThreshold=LIMIT, maxIters=MOST, confidence=SURE
        )[0],
    },
    "fundamental": {
        "cv2 USAC_MAGSAC": lambda r, m, k: cv2.findFundamentalMat(m, r, cv2.USAC_MAGSAC, LIMIT, SURE, MOST)[0],
        "PoseLib": lambda r, m, k: poselib.estimate_fundamental(m, r, within("max_epipolar_error"), {})[0],
        "pydegensac": lambda r, m, k: pydegensac.findFundamentalMatrix(m, r, LIMIT, SURE, MOST)[0],
    },
    "essential": {
        "cv2 USAC_MAGSAC": lambda r, m, k: cv2.findEssentialMat(m, r, k, cv2.USAC_MAGSAC, SURE, LIMIT, MOST)[0],
        "PoseLib": lambda r, m, k: essential(
            poselib.estimate_relative_pose(m, r, pinhole(k), pinhole(k), within("max_epipolar_error"), {})[0]
        ),
    },
    "pose": {
        "cv2 RANSAC": pnp,
        "PoseLib": lambda r, m, k: poselib.estimate_absolute_pose(
            r, m, pinhole(k), within("max_reproj_error"), {}
        )[0].Rt,
    },
}  # fmt: skip

given, repeats = np.load(sys.argv[1]), int(sys.argv[3])
answers, seconds = {}, {}
for i in range(sum(name.startswith("kind_") for name in given.files)):
    kind = str(given[f"kind_{i}"])
    ref, mov = (np.ascontiguousarray(given[f"{side}_{i}"]) for side in ("ref", "mov"))
    for name, method in METHODS.get(kind, {}).items():
        if poselib is None and not name.startswith("cv2"):
            continue
        name = name.replace("cv2", f"OpenCV {cv2.__version__[0]}")
        least = np.inf
        for _ in range(repeats):
            began = time.perf_counter()
            try:
                found = method(ref, mov, given["K"])
            except Exception:  # whatever a program does with a problem is its answer to it
                found = None
            least = min(least, time.perf_counter() - began)
        shape = (3, 4) if kind == "pose" else (3, 3)
        made = np.full(shape, np.nan)
        if found is not None:
            found = np.asarray(found, float)
            # Five points may have several matrices, one below the other.
            made = found[:3] if len(found) > 2 else np.vstack([found, [0, 0, 1]])
        answers[f"{name}_{i}"] = made
        seconds.setdefault(name, {})[i] = least
np.savez(sys.argv[2], **answers, **{f"{name}_{i}_seconds": s for name, of in seconds.items() for i, s in of.items()})
