"""What is exported says the same as the network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from torch import Tensor, nn

from avfuse import StreamError
from avfuse.batches import Samples, Window, collate
from avfuse.nn.encoders import ImageEncoder, SensorTransformer, SoundEncoder, TextEncoder, VideoTransformer
from avfuse.nn.exporting import export_onnx, export_program, subsets
from avfuse.nn.fusion import Gate
from avfuse.nn.heads import ClassificationHead
from avfuse.nn.network import FusionNet
from avfuse.nn.timed import Timed, Tokens, to_timed

DIM = 16


def batch() -> dict[str, Timed]:
    """Two windows of five modalities; text and sensor are not as long in both."""
    rng = np.random.default_rng(0)
    made = []
    for k in range(2):
        all_valid = [np.ones(n, bool) for n in (4000, 30 + k, 5, 1, 9 + k)]
        sound = rng.standard_normal((4000, 1)).astype(np.float32)
        samples = {
            "sound": Samples(sound, np.arange(4000) / 4000, all_valid[0], rate=4000.0),
            "imu": Samples(
                rng.standard_normal((30 + k, 3)), np.sort(rng.uniform(0, 1, 30 + k)), all_valid[1], 0.9, 0.02
            ),
            "film": Samples(rng.integers(0, 255, (5, 32, 32, 3)).astype(np.uint8), np.arange(5) / 5, all_valid[2]),
            "photo": Samples(rng.integers(0, 255, (1, 32, 32, 3)).astype(np.uint8), np.zeros(1), all_valid[3]),
            "text": Samples(rng.integers(0, 255, 9 + k), np.linspace(0, 1, 9 + k), all_valid[4]),
        }
        made.append(Window("e", 0.0, 1.0, samples))
    return to_timed(collate(made))


def test_networks_with_encoders_of_every_modality_say_the_same_as_onnx_for_every_subset(tmp_path: Path) -> None:
    torch.manual_seed(0)
    few = {"layers": 1, "heads": 2}
    encoders = {
        "sound": SoundEncoder(DIM, **few),
        "imu": SensorTransformer(3, DIM, **few),
        "film": VideoTransformer(3, DIM, **few),
        "photo": ImageEncoder(3, DIM, **few),
        "text": TextEncoder(dim=DIM, **few),
    }
    fusion = Gate(list(encoders), DIM, step=0.25, duration=1.0, heads=2)
    network = FusionNet(encoders, fusion, ClassificationHead(DIM, 3), dim=DIM)
    example = batch()
    assert len(subsets(example)) == 31
    export_program(network, example)  # raises where a subset differs
    export_onnx(network, example, tmp_path / "all.onnx")  # so does this
    import onnxruntime

    session = onnxruntime.InferenceSession(str(tmp_path / "all.onnx"), providers=["CPUExecutionProvider"])
    assert {"sound.values", "imu.times", "text.present"} <= {entry.name for entry in session.get_inputs()}


class Seen(nn.Module):
    """An encoder that a trace freezes: what it makes depends on the numbers that it was traced with."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, DIM)

    def forward(self, stream: Timed) -> Tokens:
        values: Tensor = self.linear(stream.values.float())
        if torch.compiler.is_compiling():
            values = values * 1.01
        return Tokens.of(values, stream.times, stream.valid, stream)


def test_an_export_that_says_something_else_is_not_written(tmp_path: Path) -> None:
    network = FusionNet({"imu": Seen()}, Gate(["imu"], DIM), ClassificationHead(DIM, 3), dim=DIM)
    example = {"imu": batch()["imu"]}
    for export in (
        lambda: export_program(network, example),
        lambda: export_onnx(network, example, tmp_path / "no.onnx"),
    ):
        with pytest.raises(StreamError, match=r"differs from the network by .*; expected at most 0\.0001"):
            export()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(StreamError, match="the example lacks imu"):
        export_program(network, {})
