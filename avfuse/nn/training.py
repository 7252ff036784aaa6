"""Training: events of a manifest are aligned, cut and learned from; or windows of shards are read.

The loop is short and stands on accelerate: one process, several GPUs or several machines (`accelerate launch`), mixed
precision. After each epoch everything is saved that the next one depends on, so that what was killed goes on as if it
had not been.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from torch import Tensor

from avfuse.batches import NoWindowError, Window, collate, windows
from avfuse.errors import ReadError, StreamError
from avfuse.files import check_folder, replacing
from avfuse.manifests import Event, align_event, read_manifest, split_events
from avfuse.nn.calibration import Calibration, fit_spread, fit_temperature, fit_threshold, probabilities
from avfuse.nn.checkpoints import (
    load_checkpoint,
    load_weights,
    optimiser_tensors,
    restore_optimiser,
    save_checkpoint,
)
from avfuse.nn.colearning.missing import ModalityDropout
from avfuse.nn.configuration import Configuration, build_network, place_of, with_data
from avfuse.nn.data import HeldWindows, Pass
from avfuse.nn.heads import gaussian
from avfuse.nn.network import FusionNet
from avfuse.nn.shards import StoredWindows, windows_as_stored
from avfuse.nn.targets import Targets
from avfuse.nn.timed import to_timed

Tell = Callable[[float, str], None]
Source = HeldWindows | StoredWindows
MODEL, LAST, LOG = "model.safetensors", "last.safetensors", "log.csv"


@dataclass(frozen=True)
class Trained:
    """What came of it. model: the file; epochs: that were run; best: the epoch whose weights it holds.

    scores: split -> loss, and accuracy or error. left_out: what is not aligned, and why. is_main: False in all but one
    of several processes, which have nothing to tell that it does not.
    """

    model: Path
    epochs: int
    best: int
    scores: Mapping[str, Mapping[str, float]]
    left_out: tuple[str, ...] = ()
    is_main: bool = True


@dataclass
class _Progress:
    """Of training, saved with each checkpoint. stale: epochs since the best one."""

    epoch: int = 0
    best: int = 0
    best_loss: float = math.inf
    log: list[dict[str, float]] = field(default_factory=list)

    @property
    def stale(self) -> int:
        return self.epoch - self.best


def train(
    configuration: Configuration,
    output: str | os.PathLike[str],
    *,
    resume: bool = False,
    tell: Tell | None = None,
) -> Trained:
    """Train on the events of the manifest, or on the windows of shards; writes `model.safetensors` (the best epoch),
    `last.safetensors` and a log.

    output: folder, made where it is not there. resume: go on from its `last.safetensors`.
    Raises ReadError and StreamError for what does not fit, before anything is trained; StreamError where the loss is
    not a number, and WriteError where the folder cannot be written to.
    """
    folder, tell = Path(output), tell or (lambda fraction, text: None)
    source: Source
    check_folder(folder)
    if not resume and (folder / LAST).exists():
        raise StreamError(f"{folder}: holds a training run already; resume it, or choose another folder")
    stored, events = _stored(configuration), _events(configuration)
    folder.mkdir(parents=True, exist_ok=True)
    accelerator = Accelerator(
        mixed_precision=configuration.training.precision,
        cpu=not torch.cuda.is_available(),
        # A batch may lack a modality: its encoder then has no gradient.
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
    )
    if stored is not None:
        source, left_out = stored, stored.left_out
    else:
        with accelerator.main_process_first():  # the others find what it aligned
            source, left_out = _cut(events, configuration, folder / "alignments", tell)
    targets = _targets(configuration, source)
    configuration = with_data(configuration, source.widths, targets.classes)
    torch.manual_seed(configuration.seed)
    network = build_network(configuration, targets.outputs)
    _fit_inputs(network, source)
    run = _Run(configuration, targets, network, accelerator, folder)
    if resume:
        run.restore(load_checkpoint(folder / LAST))
    told = configuration.training
    while run.progress.epoch < told.epochs and not (told.patience and run.progress.stale >= told.patience):
        run.epoch(source)
        last = run.progress.log[-1]
        tell(run.progress.epoch / told.epochs, f"epoch {run.progress.epoch}: validation loss {last['validation']:.4f}")
    return run.finish(source, left_out)


def _stored(configuration: Configuration) -> StoredWindows | None:
    """What the shards hold; None where it is learned from a manifest."""
    told, batch = configuration.data, configuration.training.batch
    if told.shards is None:
        return None
    return StoredWindows(place_of(told.shards, configuration.where), configuration.stored, batch, workers=told.workers)


class _Run:
    """One training run: the network, what changes it, and how far it is."""

    def __init__(
        self, configuration: Configuration, targets: Targets, network: FusionNet, accelerator: Accelerator, folder: Path
    ) -> None:
        told = configuration.training
        self.configuration, self.targets, self.folder = configuration, targets, folder
        self.accelerator = accelerator
        self.network = network
        self.optimiser = torch.optim.AdamW(network.parameters(), lr=told.rate, weight_decay=told.decay)
        self.model, self.wrapped = accelerator.prepare(network, self.optimiser)
        self.dropout = (
            ModalityDropout(told.modality_dropout, seed=configuration.seed) if told.modality_dropout else None
        )
        self.progress = _Progress()

    def epoch(self, source: Source) -> None:
        told, accelerator = self.configuration.training, self.accelerator
        number = self.progress.epoch
        each = math.ceil(source.count("train") / accelerator.num_processes)
        steps = math.ceil(each / told.batch)
        # Each epoch begins from its own seed: it does not matter whether it is the first one of a process.
        torch.manual_seed((self.configuration.seed + 1) * 1_000_003 + number * 1009 + accelerator.process_index)
        self.model.train()
        total = 0.0
        order = Pass("train", self.configuration.seed, number, accelerator.process_index, accelerator.num_processes)
        for step, (batch, labels, events) in enumerate(source.batches(order)):
            for group in self.optimiser.param_groups:
                group["lr"] = told.rate * _pace(
                    (number * steps + step) / (told.epochs * steps), told.warmup, told.schedule
                )
            timed = {name: stream.to(accelerator.device) for name, stream in batch.items()}
            if self.dropout is not None:
                timed = self.dropout(timed)
            with accelerator.autocast():
                output = self.model(timed)
            loss = self.network.head.loss(output.float(), self.targets.tensor(labels, accelerator.device))  # type: ignore[operator]
            if not torch.isfinite(loss):
                raise StreamError(
                    f"training: the loss of epoch {number + 1}, step {step + 1} is {float(loss.detach())} on events "
                    f"{', '.join(sorted(set(events)))}; look at these, or try a lower rate than {told.rate:g}"
                )
            self.wrapped.zero_grad()
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(self.model.parameters(), told.clip)
            self.wrapped.step()
            total += float(loss.detach()) * len(labels)
        total = float(accelerator.reduce(torch.tensor(total, device=accelerator.device), "sum"))
        scores = self.score(*self.outputs(source, "validation"))
        self.progress.epoch = number + 1
        if scores["loss"] < self.progress.best_loss:
            self.progress.best, self.progress.best_loss = number + 1, scores["loss"]
            self.save(MODEL)
        row = {"epoch": number + 1.0, "train": total / (each * accelerator.num_processes), "validation": scores["loss"]}
        self.progress.log.append(row | {key: value for key, value in scores.items() if key != "loss"})
        self.save(LAST)
        self._write_log()

    def outputs(self, source: Source, split: str) -> tuple[Tensor, Tensor]:
        """Outputs and targets of the windows of a split, in order; every process computes all of them."""
        self.network.eval()
        found, wanted = [], []
        with torch.no_grad():
            for batch, labels, _ in source.batches(Pass(split)):
                timed = {name: stream.to(self.accelerator.device) for name, stream in batch.items()}
                found.append(self.network(timed).float().cpu())
                wanted.append(self.targets.tensor(labels))
        return torch.cat(found), torch.cat(wanted)

    def score(self, output: Tensor, target: Tensor) -> dict[str, float]:
        scores = {"loss": float(self.network.head.loss(output, target))}  # type: ignore[operator]
        if self.targets.kind == "classification":
            scores["accuracy"] = float((output.argmax(dim=1) == target).float().mean())
        elif self.targets.kind == "multi_label":
            scores["accuracy"] = float(((output > 0) == (target > 0)).float().mean())
        else:
            mean, _ = gaussian(output)
            scale = torch.tensor(self.targets.scale)
            scores["error"] = float((((mean - target) * scale) ** 2).mean().sqrt())
        return scores

    def save(self, name: str, **more: Any) -> None:
        if not self.accelerator.is_main_process:
            return
        tensors = {f"model.{key}": value for key, value in self.network.state_dict().items()}
        told = {"configuration": self.configuration.to_json(), "targets": asdict(self.targets)}
        facts = told | {"progress": asdict(self.progress), **more}
        if name == LAST:
            tensors |= {f"optimiser.{key}": value for key, value in optimiser_tensors(self.optimiser).items()}
            if self.dropout is not None:
                tensors |= {f"dropout.{key}": value for key, value in self.dropout.state_dict().items()}
        save_checkpoint(self.folder / name, tensors, facts)

    def restore(self, checkpoint: Any) -> None:
        """Raises ReadError where the checkpoint is of another configuration."""
        theirs, ours = _without_places(checkpoint.facts["configuration"]), _without_places(self.configuration.to_json())
        if theirs != ours:
            raise ReadError(
                f"{checkpoint.path}: {_difference(theirs, ours)}; expected the configuration that it began with"
            )
        load_weights(self.network, checkpoint)
        restore_optimiser(self.optimiser, checkpoint.part("optimiser"))
        if self.dropout is not None:
            self.dropout.load_state_dict(checkpoint.part("dropout"))
        self.progress = _Progress(**checkpoint.facts["progress"])

    def finish(self, source: Source, left_out: tuple[str, ...]) -> Trained:
        """Calibrate the best weights on the validation data, measure, and write the model."""
        self.accelerator.wait_for_everyone()
        load_weights(self.network, load_checkpoint(self.folder / MODEL))
        outputs = {split: self.outputs(source, split) for split in source.splits}
        calibration = self._calibrated(*outputs["validation"])
        scores = {name: self.score(*found) for name, found in outputs.items()}
        self.save(MODEL, calibration=asdict(calibration), scores=scores)
        self.accelerator.wait_for_everyone()  # a process that ends early would take the one that writes with it
        self.accelerator.end_training()
        progress, main = self.progress, self.accelerator.is_main_process
        return Trained(self.folder / MODEL, progress.epoch, progress.best, scores, left_out, main)

    def _calibrated(self, output: Tensor, target: Tensor) -> Calibration:
        logits, wanted = output.double().numpy(), target.numpy()
        if self.targets.kind == "regression":
            mean, log_variance = gaussian(output.double())
            return Calibration(fit_spread(mean.numpy(), torch.exp(0.5 * log_variance).numpy(), wanted))
        temperature = fit_temperature(logits, wanted)
        risk = self.configuration.training.risk
        if self.targets.kind != "classification" or not risk:
            return Calibration(temperature)
        stated = probabilities(logits, temperature)
        found = fit_threshold(stated.max(axis=1), stated.argmax(axis=1) == wanted, risk)
        if found is None:
            # No threshold is good enough on these data: nothing may be answered.
            return Calibration(temperature, math.nextafter(1.0, 2.0), risk, answered=0.0)
        threshold, bound, answered = found
        return Calibration(temperature, threshold, bound, answered=answered)

    def _write_log(self) -> None:
        if not self.accelerator.is_main_process:
            return
        text = io.StringIO()
        writer = csv.DictWriter(text, list(self.progress.log[0]))
        writer.writeheader()
        writer.writerows(self.progress.log)
        with replacing(self.folder / LOG) as temporary:
            temporary.write_text(text.getvalue(), encoding="utf-8")
        if self.configuration.training.tensorboard:
            _tensorboard(self.folder, self.progress.log[-1])


def _tensorboard(folder: Path, row: Mapping[str, float]) -> None:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise StreamError("[training] tensorboard: is not installed; expected `pip install tensorboard`") from error
    writer = SummaryWriter(str(folder / "tensorboard"))  # type: ignore[no-untyped-call]
    for key, value in row.items():
        if key != "epoch":
            writer.add_scalar(key, value, int(row["epoch"]))  # type: ignore[no-untyped-call]
    writer.close()  # type: ignore[no-untyped-call]


def _pace(done: float, warmup: float, schedule: str) -> float:
    """Share of the full rate after a share of all steps."""
    if done < warmup:
        return (done + 1e-3) / (warmup + 1e-3)
    if schedule == "constant":
        return 1.0
    return 0.5 * (1.0 + math.cos(math.pi * (done - warmup) / (1.0 - warmup)))


def _events(configuration: Configuration) -> dict[str, list[Event]]:
    """Of the manifest, as `split_events` does; what is learned from, and what chooses the epoch, must be there."""
    told = configuration.data
    if told.manifest is None:
        return {}
    events = read_manifest(Path(configuration.where) / told.manifest)
    found = split_events(events, validation=told.validation, test=told.test, seed=configuration.seed)
    for name in ("train", "validation"):
        if not found[name]:
            raise StreamError(
                f"[data]: {len(events)} events leave none for {name}; expected one or more: give splits, or more events"
            )
    return found


def _cut(
    events: Mapping[str, Sequence[Event]], configuration: Configuration, cache: Path, tell: Tell
) -> tuple[HeldWindows, tuple[str, ...]]:
    """Windows of every split, and what of them could not be aligned."""
    count, done = sum(map(len, events.values())), 0
    found: dict[str, list[Window]] = {}
    left_out: list[str] = []
    for name, part in events.items():
        found[name] = []
        for event in part:
            tell(0.0, f"aligning {event.name} ({done + 1} of {count})")
            cut, refused = windows_of(event, configuration, cache)
            labelled = [window for window in cut if window.label is not None]
            if cut and not labelled:
                raise ReadError(f"{event.where}: no label; expected label, or labels that hold the middle of a window")
            found[name] += labelled
            left_out += refused
            done += 1
    for name in ("train", "validation"):
        if not found[name]:
            raise StreamError(
                f"[data]: no window of {name} could be cut: {'; '.join(left_out) or 'nothing is labelled'}"
            )
    return HeldWindows(found, configuration.training.batch), tuple(left_out)


def windows_of(event: Event, configuration: Configuration, cache: Path | None) -> tuple[list[Window], list[str]]:
    """The labelled windows of an event, and a line for each role that is not aligned, or for the whole event.

    Where it is learned from shards, they are cut, transformed and encoded as these were; cache is not used then.
    """
    roles = configuration.roles
    if set(roles).isdisjoint(event.files):
        raise ReadError(f"{event.where}: files {', '.join(event.files)}; expected some of {', '.join(roles)}")
    if configuration.recipe is not None:
        return windows_as_stored(event, configuration.recipe, configuration.stored)
    alignment = align_event(event, cache, spacing=configuration.data.spacing)
    refused = [f"{event.name}: {name} is {why}" for name, why in alignment.left_out.items()]
    streams = _there(configuration, alignment.clocks)
    told = configuration.window
    try:
        cut = windows(
            alignment,
            duration=told.duration,
            hop=told.hop,
            streams=streams,
            start=event.start,
            end=event.end,
            timeline=told.timeline,
            size=told.size,
            label=event.label_of,
            name=event.name,
        )
        return list(cut), refused
    except NoWindowError as error:
        return [], [*refused, f"{event.name}: {error}"]


def _there(configuration: Configuration, roles: Mapping[str, Any]) -> dict[str, list[str]]:
    """Streams that an event has files for; a modality whose role it lacks is absent."""
    found = {}
    for name, choices in configuration.streams().items():
        if there := [choice for choice in choices if choice.rpartition("/")[0] in roles]:
            found[name] = there
    return found


def _targets(configuration: Configuration, source: Source) -> Targets:
    try:
        return Targets.of(configuration.head.kind, source.labels)
    except StreamError as error:
        raise StreamError(f"[head] {configuration.head.kind}: {error}") from error


def _fit_inputs(network: FusionNet, source: Source) -> None:
    """Encoders that standardise what comes in learn its mean and scale from the training data."""
    for name, encoder in network.encoders.items():
        if hasattr(encoder, "fit") and (some := source.some(name)):
            encoder.fit(to_timed(collate(some))[name])  # type: ignore[operator]


def _without_places(text: str) -> dict[str, Any]:
    """A configuration's entries, but for where its data lie, which may have been moved, and who decodes them."""
    found = dict(_flat(json.loads(text)))
    return {key: value for key, value in found.items() if key not in ("data.manifest", "data.shards", "data.workers")}


def _difference(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> str:
    """The first entry in which two configurations differ, in words."""
    key = next(key for key in sorted({*theirs, *ours}) if theirs.get(key) != ours.get(key))
    return f"its {key} is {theirs.get(key)!r}, and {ours.get(key)!r} now"


def _flat(document: Any, prefix: str = "") -> list[tuple[str, Any]]:
    if not isinstance(document, dict):
        return [(prefix, document)]
    return [pair for key, value in document.items() for pair in _flat(value, f"{prefix}.{key}".lstrip("."))]
