"""Export: a trained network as a program of torch.export or an ONNX file, with proof that it says the same.

The program takes, for each modality in the order of names, values, times, valid, present, confidence and std; absent
modalities are told by `present`, so that one file serves every subset. Rates of sound are those of the example.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from avfuse.errors import StreamError, WriteError
from avfuse.files import replacing
from avfuse.nn.colearning.missing import keep_rows
from avfuse.nn.colearning.missing import subsets as subsets_of
from avfuse.nn.network import FusionNet
from avfuse.nn.timed import TENSORS, Timed

_PARITY = 1e-4


class Flat(nn.Module):
    """A FusionNet whose inputs are plain tensors, in the order of `names` and TENSORS."""

    def __init__(self, network: FusionNet, example: Mapping[str, Timed]) -> None:
        super().__init__()
        self.network = network
        self.names = tuple(network.encoders)
        missing = [name for name in self.names if name not in example]
        if missing:
            raise StreamError(f"export: the example lacks {', '.join(missing)}; expected every modality in it")
        self.like = {name: example[name] for name in self.names}

    def forward(self, *tensors: Tensor) -> Tensor:
        count = len(TENSORS)
        batch = {}
        for k, name in enumerate(self.names):
            given: dict[str, Any] = dict(zip(TENSORS, tensors[k * count :], strict=False))
            batch[name] = replace(self.like[name], **given)
        return self.network(batch)  # type: ignore[no-any-return]

    def inputs(self, batch: Mapping[str, Timed]) -> tuple[Tensor, ...]:
        return tuple(getattr(batch[name], field) for name in self.names for field in TENSORS)

    @property
    def input_names(self) -> list[str]:
        return [f"{name}.{field}" for name in self.names for field in TENSORS]


def subsets(batch: Mapping[str, Timed]) -> list[dict[str, Timed]]:
    """The batch with every non-empty subset of its modalities present."""
    return [
        {
            name: timed if name in kept else keep_rows(timed, torch.zeros_like(timed.present))
            for name, timed in batch.items()
        }
        for kept in subsets_of(batch)
    ]


def export_program(network: FusionNet, example: Mapping[str, Timed]) -> torch.export.ExportedProgram:
    """A program of torch.export for batches of the example's shapes.

    Raises StreamError where it differs from the network by more than 1e-4 for any subset of modalities.
    """
    flat = Flat(network.eval(), example)
    with torch.no_grad():
        program = torch.export.export(flat, flat.inputs(example))
        ran = program.module()
        for batch in subsets(example):
            _check("torch.export", flat(*flat.inputs(batch)), ran(*flat.inputs(batch)))
    return program


def export_onnx(network: FusionNet, example: Mapping[str, Timed], path: str | os.PathLike[str]) -> Path:
    """An ONNX file for batches of the example's shapes; its inputs are called MODALITY.FIELD, its output "output".

    Where onnxruntime is installed, every subset of modalities is compared with the network. Raises StreamError where
    they differ by more than 1e-4, and WriteError where something of the network has no ONNX.
    """
    flat = Flat(network.eval(), example)
    with torch.no_grad(), replacing(path) as temporary:
        program = torch.export.export(flat, flat.inputs(example))
        with _quiet_exporter():
            try:
                made = torch.onnx.export(
                    program,
                    (),
                    input_names=flat.input_names,
                    output_names=["output"],
                    dynamo=True,
                    verbose=False,
                )
                assert made is not None
                made.save(str(temporary))
            except torch.onnx.errors.OnnxExporterError as error:
                raise WriteError(
                    f"{path}: this network has no ONNX ({str(error).splitlines()[0]}); use torch.export"
                ) from error
        _compare(flat, example, temporary)
    return Path(path)


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Without what the exporter says of itself: that torchvision is not there, and what it will call otherwise."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)


def _compare(flat: Flat, example: Mapping[str, Timed], file: Path) -> None:
    try:
        import onnxruntime
    except ImportError:
        return
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    taken = {entry.name for entry in session.get_inputs()}
    for batch in subsets(example):
        inputs = flat.inputs(batch)
        fed: dict[str, Any] = dict(zip(flat.input_names, (tensor.numpy() for tensor in inputs), strict=True))
        found = session.run(["output"], {name: value for name, value in fed.items() if name in taken})[0]
        _check("ONNX", flat(*inputs), torch.as_tensor(found))


def _check(what: str, expected: Tensor, found: Tensor) -> None:
    apart = float((expected - found).abs().max())
    if not apart <= _PARITY:
        raise StreamError(f"{what}: differs from the network by {apart:.2g}; expected at most {_PARITY:g}")
