"""Matches descriptors whenever it is asked to: RUNNER LIBRARY THREADS, then lines `KIND FILE [ANSWER]` on its input.

LIBRARY: avfuse, cv2, cv2-both-ways or faiss. THREADS: 1, or 0 for all cores. KIND: binary or float; FILE: an npz with a
and b. Answers with a line of JSON: seconds, of the processor for one thread and of the clock for all. What avfuse found
is written to ANSWER where it is named. Only the library and numpy are imported: it runs inside peers' environments.
"""

import json
import os
import sys
import time

LIBRARY, THREADS = sys.argv[1], int(sys.argv[2])
if THREADS == 1:
    os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[0]})

import numpy as np  # noqa: E402


def with_avfuse(kind, a, b):
    from avfuse.spatial import match_descriptors

    found = match_descriptors(a, b, ratio=0.8)
    return found.pairs, found.distances


def with_cv2(kind, a, b):
    """The two nearest of each, as lists of its own."""
    import cv2

    if THREADS == 1:
        cv2.setNumThreads(1)
    return cv2.BFMatcher(cv2.NORM_HAMMING if kind == "binary" else cv2.NORM_L2).knnMatch(a, b, k=2)


def with_cv2_cross_check(kind, a, b):
    import cv2

    if THREADS == 1:
        cv2.setNumThreads(1)
    return cv2.BFMatcher(cv2.NORM_HAMMING if kind == "binary" else cv2.NORM_L2, crossCheck=True).match(a, b)


def with_faiss(kind, a, b):
    """The two nearest of each, from the making of the index on."""
    import faiss

    if THREADS == 1:
        faiss.omp_set_num_threads(1)
    index = faiss.IndexBinaryFlat(8 * a.shape[1]) if kind == "binary" else faiss.IndexFlatL2(a.shape[1])
    index.add(b)
    return index.search(a, 2)


def main():
    functions = {"avfuse": with_avfuse, "cv2": with_cv2, "cv2-both-ways": with_cv2_cross_check, "faiss": with_faiss}
    match, clock = functions[LIBRARY], time.process_time if THREADS == 1 else time.perf_counter
    loaded = {}
    for line in sys.stdin:
        kind, name, *answer = line.split()
        if name not in loaded:
            with np.load(name) as file:
                loaded[name] = file["a"], file["b"]
            match(kind, *loaded[name])
        began = clock()
        found = match(kind, *loaded[name])
        seconds = clock() - began
        if answer and LIBRARY == "avfuse":
            np.savez(answer[0], pairs=found[0], distances=found[1])
        print(json.dumps({"seconds": seconds}), flush=True)


if __name__ == "__main__":
    main()
