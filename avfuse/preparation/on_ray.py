"""Tasks on Ray Data: on this machine, or on a cluster whose nodes see the same files.

Each task of Ray hands its own to a process of its own, as the pool does: environment, limits and tries are the same,
and what crashes takes no process of Ray with it.

Reference: Moritz et al., "Ray: a distributed framework for emerging AI applications", OSDI 2018.
"""

from __future__ import annotations

import logging
import os
import pickle
import socket
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from avfuse.cores import cores
from avfuse.errors import AvfuseError, StreamError
from avfuse.preparation.pool import BOUNDS, Bounds, Failed, Worker

Task = TypeVar("Task")
Result = TypeVar("Result")
_PATIENCE = 5.0  # seconds


def run_on_ray(
    function: Callable[[Task], Result],
    tasks: Sequence[Task],
    *,
    workers: int | None,
    address: str | None,
    bounds: Bounds = BOUNDS,
) -> Generator[Result | Failed, None, None]:
    """`function` of every task, in their order, as a map over a Ray dataset.

    workers: tasks at once; None takes as many as the cluster has cores. address: of a running cluster; None starts Ray
    on this machine. Ray holds tasks back while results wait, and tries those of lost workers and nodes again.
    Raises StreamError where Ray is not installed or does not answer.
    """
    check_ray()
    import ray

    started = not ray.is_initialized()
    if started:
        _check_address(address)
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        # "local": else it would join a cluster that happens to run here.
        here = {"address": "local", "num_cpus": workers or cores()}
        told: dict[str, Any] = here if address is None else {"address": address}
        try:
            ray.init(
                **told,
                include_dashboard=False if address is None else None,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
        except (ConnectionError, RuntimeError, ValueError) as error:
            told_by_ray = " ".join(str(error).split())
            raise StreamError(f"ray_address {address!r}: Ray does not answer ({told_by_ray})") from error
    try:
        yield from _mapped(function, tasks, workers, bounds)
    finally:
        if started:
            ray.shutdown()


def _check_address(address: str | None) -> None:
    """Raises StreamError where nobody listens: Ray itself would wait for minutes."""
    host, _, port = (address or "").rpartition("/")[2].rpartition(":")
    if not (host and port.isdecimal()):
        return  # such as "auto"
    try:
        socket.create_connection((host, int(port)), _PATIENCE).close()
    except (OSError, OverflowError) as error:
        raise StreamError(
            f"ray_address {address!r}: nobody answers ({error}); expected that of a running cluster"
        ) from error


def check_ray() -> None:
    """Raises StreamError where Ray is not installed."""
    try:
        import ray.data  # noqa: F401
    except ImportError as error:
        raise StreamError("engine: ray is not installed; expected pip install 'avfuse[scale]'") from error


def _mapped(
    function: Callable[[Task], Result], tasks: Sequence[Task], workers: int | None, bounds: Bounds
) -> Generator[Result | Failed, None, None]:
    import ray
    import ray.data
    import ray.exceptions

    context = ray.data.DataContext.get_current()
    before = context.enable_progress_bars, context.execution_options.preserve_order
    context.enable_progress_bars, context.execution_options.preserve_order = False, True
    try:
        rows = [{"task": pickle.dumps(task)} for task in tasks]
        mapped = _Mapped(pickle.dumps((function, bounds)), os.getcwd(), [os.path.abspath(path) for path in sys.path])
        # A block for each row: that is what Ray tries again. Named by strategy: `concurrency` is on its way out.
        found = ray.data.from_items(rows, override_num_blocks=max(1, len(rows))).map(
            mapped, num_cpus=1, compute=ray.data.TaskPoolStrategy(size=workers)
        )
        for row in found.iter_rows():
            result = pickle.loads(row["result"])
            if isinstance(result, AvfuseError):
                raise result
            yield result
    except ray.exceptions.RayError as error:
        raise AvfuseError(f"engine ray: {type(error).__name__}: {' '.join(str(error).split())}") from error
    finally:
        context.enable_progress_bars, context.execution_options.preserve_order = before


class _Mapped:
    """A row with a task -> a row with its result.

    told: function and bounds, pickled. folder, paths: the driver's, of files and of modules.
    """

    def __init__(self, told: bytes, folder: str, paths: list[str]) -> None:
        self._told, self._folder, self._paths = told, folder, paths

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        result: Any
        try:
            result = self._worker().ask(pickle.loads(row["task"]))
        except AvfuseError as error:  # no process can be started: the job's business, not the task's
            result = AvfuseError(str(error))
        return {"result": pickle.dumps(result)}

    def _worker(self) -> Worker[Any, Any]:
        if self._told not in _WORKERS:
            for one in _WORKERS.values():  # of an earlier job
                one.stop()
            _WORKERS.clear()
            # Modules beside the script, and relative paths, are found here where they are there.
            sys.path += [path for path in self._paths if path not in sys.path]
            with suppress(OSError):
                os.chdir(self._folder)
            function, bounds = pickle.loads(self._told)
            _WORKERS[self._told] = Worker(function, bounds)
        return _WORKERS[self._told]


_WORKERS: dict[bytes, Worker[Any, Any]] = {}  # of this process of Ray: the one that does its tasks
