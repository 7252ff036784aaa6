"""Work shared among cores."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from avfuse.cores import on_cores, one_blas_thread


def blas_threads() -> list[int]:
    return [one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"]


def test_results_come_in_the_order_of_the_items():
    assert on_cores(lambda k: k * k, range(20), most=4) == [k * k for k in range(20)]


def test_blas_gets_its_threads_back_whoever_calls():
    np.ones((2, 2)) @ np.ones((2, 2))
    before = blas_threads()

    def called(_k: int) -> list[int]:
        with one_blas_thread(), one_blas_thread():
            time.sleep(0.002)
            return blas_threads()

    with ThreadPoolExecutor(8) as pool:
        for found in pool.map(called, range(40)):
            assert set(found) == {1}
    assert blas_threads() == before


def test_blas_gets_its_threads_back_after_an_error():
    before = blas_threads()

    def failing() -> None:
        with one_blas_thread():
            raise ValueError("lost")

    with pytest.raises(ValueError, match="lost"):
        failing()
    assert blas_threads() == before
