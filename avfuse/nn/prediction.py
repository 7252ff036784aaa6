"""Prediction: files of events that a model has not seen -> aligned -> windows -> decisions, or none."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from avfuse.errors import ReadError, StreamError
from avfuse.manifests import Event
from avfuse.nn.calibration import Calibration, probabilities
from avfuse.nn.checkpoints import load_checkpoint, load_weights
from avfuse.nn.configuration import Configuration, build_network, configuration_from_json
from avfuse.nn.data import batches
from avfuse.nn.heads import gaussian
from avfuse.nn.network import FusionNet
from avfuse.nn.targets import Targets
from avfuse.nn.timed import to_timed
from avfuse.nn.training import MODEL, windows_of

FORMAT = "avfuse.predictions/1"


@dataclass(frozen=True)
class Decision:
    """What a model says of a window, or of a whole event.

    start, end: seconds of the event's timeline. answer: a class, a list of labels, or numbers; None if withheld.
    confidence: probability that the answer is right, calibrated on held-out data (classes: of the class; labels: of the
    least sure one); None of numbers, which have `std`. best: the answer that was withheld.
    """

    start: float
    end: float
    answer: Any
    confidence: float | None
    best: Any = None
    std: tuple[float, ...] | None = None
    present: tuple[str, ...] = ()


@dataclass(frozen=True)
class Prediction:
    """Of one event. decision: of the whole; None where no window could be cut. windows: of its parts, in order.

    left_out: what is not aligned, and why.
    """

    event: str
    decision: Decision | None
    windows: tuple[Decision, ...]
    left_out: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether there is an answer, and everything is aligned."""
        return self.decision is not None and self.decision.answer is not None and not self.left_out


@dataclass(frozen=True, eq=False)
class Model:
    """A trained network with what its outputs mean, and how sure it may be."""

    network: FusionNet
    configuration: Configuration
    targets: Targets
    calibration: Calibration


def load_model(path: str | os.PathLike[str]) -> Model:
    """A model as `train` wrote it: its file, or the folder that it is in. Raises ReadError where there is none."""
    file = Path(path) / MODEL if os.path.isdir(path) else Path(path)
    checkpoint = load_checkpoint(file)
    try:
        configuration = configuration_from_json(checkpoint.facts["configuration"])
        told = checkpoint.facts["targets"]
        targets = Targets(told["kind"], *(tuple(told[key]) for key in ("classes", "centre", "scale")))
        calibration = Calibration(**checkpoint.facts.get("calibration", {}))
    except (KeyError, TypeError, StreamError) as error:
        raise ReadError(f"{file}: is no model that `avfuse train` wrote ({error})") from error
    network = build_network(configuration, targets.outputs)
    load_weights(network, checkpoint)
    return Model(network.eval(), configuration, targets, calibration)


def events_of(files: Sequence[str], roles: Sequence[str]) -> list[Event]:
    """Files as events: ROLE=PATH, or a path whose stem is a role or ends with one; one event for each folder.

    Raises ReadError for a file that is not there, fits no role or several, or is the second one of its role.
    """
    events: dict[str, dict[str, str]] = {}
    for given in files:
        role, _, path = given.partition("=")
        if role not in roles or not path:
            path = given
            stem = Path(given).stem
            fits = [r for r in roles if stem == r] or [r for r in roles if stem.endswith((f"-{r}", f"_{r}", f".{r}"))]
            if len(fits) != 1:
                raise ReadError(f"{given}: fits no role; expected a stem of {', '.join(roles)}, or {roles[0]}={given}")
            role = fits[0]
        if not os.path.isfile(path):
            raise ReadError(f"{path}: no such file")
        folder = os.path.dirname(os.path.abspath(path))
        event = events.setdefault(folder, {})
        if role in event:
            raise ReadError(
                f"{path}: is a second {role} in {folder}, beside {event[role]}; expected one for each event"
            )
        event[role] = path
    return [Event(os.path.basename(folder) or folder, paths, where=folder) for folder, paths in events.items()]


def predict(model: Model, events: Sequence[Event]) -> list[Prediction]:
    """Align, cut and decide each event.

    An event's decision is that of the mean of its windows' probabilities (of regressions, of their means weighted by
    their variances): windows of one event are alike, and their product would be too sure.
    """
    return [_predict(model, event) for event in events]


def _predict(model: Model, event: Event) -> Prediction:
    cut, left_out = windows_of(event, model.configuration, None)
    if not cut:
        return Prediction(event.name, None, (), tuple(left_out))
    device = next(model.network.parameters()).device
    with torch.no_grad():
        outputs = [model.network(to_timed(batch, device)).float().cpu() for batch in batches(cut, 32)]
    output = torch.cat(outputs).double()
    spans = [(w.start, w.start + w.duration) for w in cut]
    present = [tuple(sorted(w.samples)) for w in cut]
    if model.targets.kind == "regression":
        mean, log_variance = gaussian(output)
        centre, scale = np.array(model.targets.centre), np.array(model.targets.scale)
        means = mean.numpy() * scale + centre
        stds = np.exp(0.5 * log_variance.numpy()) * scale * model.calibration.temperature
        shares = stds**-2 / (stds**-2).sum(axis=0)
        # As wide as one window is: how far the errors of windows are alike is not known.
        whole = (means * shares).sum(axis=0), np.sqrt((stds**2 * shares).sum(axis=0))
        rows = [_numbers(*span, m, s, p) for span, m, s, p in zip(spans, means, stds, present, strict=True)]
        decision = _numbers(spans[0][0], spans[-1][1], *whole, _everyone(present))
        return Prediction(event.name, decision, tuple(rows), tuple(left_out))
    exclusive = model.targets.kind == "classification"
    stated = probabilities(output.numpy(), model.calibration.temperature, exclusive=exclusive)
    rows = [_named(*span, p, model, there) for span, p, there in zip(spans, stated, present, strict=True)]
    decision = _named(spans[0][0], spans[-1][1], stated.mean(axis=0), model, _everyone(present))
    return Prediction(event.name, decision, tuple(rows), tuple(left_out))


def _everyone(present: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(sorted({name for each in present for name in each}))


def _numbers(start: float, end: float, mean: Any, std: Any, present: tuple[str, ...]) -> Decision:
    return Decision(start, end, [float(v) for v in mean], None, None, tuple(float(v) for v in std), present)


def _named(start: float, end: float, stated: Any, model: Model, present: tuple[str, ...]) -> Decision:
    classes = model.targets.classes
    if model.targets.kind == "multi_label":
        answer = [name for name, p in zip(classes, stated, strict=True) if p > 0.5]
        return Decision(start, end, answer, float(np.maximum(stated, 1 - stated).min()), answer, None, present)
    best = int(np.argmax(stated))
    confidence = float(stated[best])
    threshold = model.calibration.threshold
    withheld = threshold is not None and confidence < threshold
    return Decision(start, end, None if withheld else classes[best], confidence, classes[best], None, present)


def to_json(model: str, predictions: Sequence[Prediction]) -> dict[str, Any]:
    """The document of the schema `avfuse.predictions/1`."""
    return {"format": FORMAT, "model": model, "events": [_event_json(p) for p in predictions]}


def _event_json(prediction: Prediction) -> Mapping[str, Any]:
    whole = {"answer": None, "confidence": None, "best": None, "std": None} if prediction.decision is None else {}
    return {
        "event": prediction.event,
        **(whole or _decision_json(prediction.decision)),
        "left_out": list(prediction.left_out),
        "windows": [_decision_json(window) for window in prediction.windows],
    }


def _decision_json(decision: Decision | None) -> dict[str, Any]:
    assert decision is not None
    return {
        "start": decision.start,
        "end": decision.end,
        "answer": decision.answer,
        "confidence": decision.confidence,
        "best": decision.best,
        "std": None if decision.std is None else list(decision.std),
        "present": list(decision.present),
    }
