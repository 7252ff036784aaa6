"""Tasks on Ray Data: on this machine, or on a cluster whose nodes see the same files.

Reference: Moritz et al., "Ray: a distributed framework for emerging AI applications", OSDI 2018.
"""

from __future__ import annotations

import logging
import pickle
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from avfuse.errors import StreamError
from avfuse.preparation.pool import BOUNDS, ENVIRONMENT, Bounds, Failed, attempt, settle

Task = TypeVar("Task")
Result = TypeVar("Result")


def run_on_ray(
    function: Callable[[Task], Result],
    tasks: Sequence[Task],
    *,
    workers: int | None,
    address: str | None,
    bounds: Bounds = BOUNDS,
) -> Iterator[Result | Failed]:
    """`function` of every task, in their order, as a map over a Ray dataset.

    workers: tasks at once; None takes as many as the cluster has cores. address: of a running cluster; None starts Ray
    on this machine. Ray holds tasks back while results wait, and tries those of lost workers and nodes again.
    Raises StreamError where Ray is not installed or does not answer.
    """
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise StreamError("engine: ray is not installed; expected pip install 'avfuse[scale]'") from error
    started = not ray.is_initialized()
    if started:
        told: dict[str, Any] = {"address": address} if address is not None else {"num_cpus": workers}
        try:
            ray.init(
                **told,
                runtime_env={"env_vars": dict(ENVIRONMENT)},
                include_dashboard=False if address is None else None,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise StreamError(f"ray_address {address!r}: Ray does not answer ({error})") from error
    try:
        yield from _mapped(function, tasks, workers, bounds)
    finally:
        if started:
            ray.shutdown()


def _mapped(
    function: Callable[[Task], Result], tasks: Sequence[Task], workers: int | None, bounds: Bounds
) -> Iterator[Result | Failed]:
    import ray
    import ray.data

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_options.preserve_order = True
    # A task whose process dies again and again costs itself, not the job.
    context.max_errored_blocks = -1
    rows = [{"number": number, "task": pickle.dumps(task)} for number, task in enumerate(tasks)]
    found = ray.data.from_items(rows, override_num_blocks=max(1, len(rows))).map(
        _Mapped(function, bounds), num_cpus=1, concurrency=workers, max_retries=bounds.retries
    )
    done = 0
    for row in found.iter_rows():
        while done < row["number"]:
            yield _lost(bounds)
            done += 1
        yield pickle.loads(row["result"])
        done += 1
    while done < len(rows):
        yield _lost(bounds)
        done += 1


def _lost(bounds: Bounds) -> Failed:
    return Failed("Died", "its process ended: a decoder crashed, or memory ran out", bounds.retries + 1)


class _Mapped:
    """A row with a task -> a row with its result."""

    def __init__(self, function: Callable[[Any], Any], bounds: Bounds) -> None:
        self._function, self._bounds = function, bounds

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        settle()
        attempts = 0
        while True:
            attempts += 1
            result = attempt(self._function, pickle.loads(row["task"]))
            if not (isinstance(result, Failed) and result.kind == "Fault") or attempts > self._bounds.retries:
                break
        if isinstance(result, Failed):
            result = Failed(result.kind, result.message, attempts, result.error)
        return {"number": row["number"], "result": pickle.dumps(result)}
