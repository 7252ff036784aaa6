"""From raw recordings to decisions: configurations, training that goes on where it was killed, prediction, export."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from avfuse.batches import Samples, Window, collate
from avfuse.cli import run
from avfuse.errors import ReadError, StreamError, WriteError
from avfuse.manifests import read_manifest
from avfuse.nn.checkpoints import load_checkpoint, load_weights, save_checkpoint
from avfuse.nn.configuration import build_network, configuration_from_json, load_configuration, with_data
from avfuse.nn.data import batches
from avfuse.nn.exporting import export_onnx, export_program, subsets
from avfuse.nn.prediction import events_of, load_model, predict
from avfuse.nn.shards import windows_as_stored
from avfuse.nn.targets import Targets
from avfuse.nn.timed import to_timed
from avfuse.nn.training import train, windows_of
from avfuse.preparation import PictureForm, Recipe, SoundForm, load_recipe, prepare, read_windows
from avfuse.simulation import takes as takes_to_learn
from avfuse.simulation.labelled import (
    Difficulty,
    Examples,
    drawn_shapes,
    simulate_labelled,
    simulated_gestures,
    spoken_tones,
)
from avfuse.simulation.media import write_media
from avfuse.stream import Recording

SIGNS = ("circle", "cross")
CONFIGURATION = """
seed = 3
dim = 16
[data]
manifest = "takes.jsonl"
spacing = 2.0
[window]
duration = 1.5
[modalities.sound]
stream = "recorder/sound"
encoder = "sound"
layers = 1
bands = 16
[modalities.picture]
stream = "camera/picture"
encoder = "video_convolution"
layers = 1
channels = 4
[fusion]
kind = "gate"
step = 0.25
[head]
kind = "classification"
[training]
epochs = 3
batch = 4
rate = 5e-3
modality_dropout = 0.3
"""

OF_SHARDS = (
    ('manifest = "takes.jsonl"\nspacing = 2.0', 'shards = "shards"'),
    ("[window]\nduration = 1.5\n", ""),
    ('stream = "recorder/sound"\n', ""),
    ('stream = "camera/picture"\n', ""),
)
RECIPE = Recipe(
    duration=1.5,
    hop=0.75,
    spacing=2.0,
    streams={"sound": "recorder/sound", "picture": "camera/picture"},
    picture=PictureForm(size=(16, 24), fit="crop", rate=10.0),
    sound=SoundForm(rate=8000.0, mono=True),
)


def replaced(text: str, *changes: tuple[str, str]) -> str:
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return text


@pytest.fixture(scope="module")
def takes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six takes to learn from in a manifest, and two that are not in it, as two devices wrote them."""
    root = tmp_path_factory.mktemp("takes")
    rng = np.random.default_rng(5)
    sources = [spoken_tones(2, 6, rng), drawn_shapes(2, 6, rng, size=16), simulated_gestures(2, 2, rng)]
    lines = []
    for number in range(8):
        take, label = divmod(number, 2)
        picked = []
        for source in sources:
            mine = np.flatnonzero(source.labels == label).tolist()
            picked.append(Examples([source.values[k] for k in mine], source.labels[mine], source.rate))
        easy = Difficulty(background_db=0.0, grain=10.0)
        event = simulate_labelled(*picked, rng=rng, duration=6.0, difficulty=easy)
        place = root / f"{SIGNS[label]}-{take}"
        place.mkdir()
        for recording, suffix in zip(event.recordings[:2], (".mp4", ".wav"), strict=True):
            write_media(place / f"{recording.name}{suffix}", Recording(recording.name, recording.streams))
        if take < 3:
            files = {"camera": f"{place.name}/camera.mp4", "recorder": f"{place.name}/recorder.wav"}
            split = "validation" if take == 2 else "train"
            lines.append(json.dumps({"event": place.name, "files": files, "label": SIGNS[label], "split": split}))
    (root / "takes.jsonl").write_text("\n".join(lines) + "\n")
    (root / "train.toml").write_text(CONFIGURATION)
    return root


@pytest.fixture(scope="module")
def model(takes: Path) -> Path:
    """A model of three epochs, trained through the command line; its alignments are taken again by other tests."""
    assert run(["train", str(takes / "train.toml"), "-o", str(takes / "model")]) == 0
    return takes / "model"


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(folder / "last.safetensors").part("model")


def edited(takes: Path, tmp_path: Path, *changes: tuple[str, str]) -> Path:
    """The configuration with other lines, elsewhere, with its manifest's path made absolute."""
    text = CONFIGURATION.replace("takes.jsonl", str(takes / "takes.jsonl"))
    (tmp_path / "train.toml").write_text(replaced(text, *changes))
    return tmp_path / "train.toml"


def keep_alignments(takes: Path, folder: Path) -> Path:
    """A folder for a run, with what the first one aligned."""
    (folder / "alignments").mkdir(parents=True)
    for path in (takes / "model" / "alignments").iterdir():
        document = json.loads(path.read_text())
        for clock in document["clocks"].values():
            clock["source"] = str((path.parent / clock["source"]).resolve())
        (folder / "alignments" / path.name).write_text(json.dumps(document))
    return folder


def test_training_and_prediction_from_raw_files_through_the_command_line(
    takes: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = (model / "log.csv").read_text().splitlines()
    assert log[0] == "epoch,train,validation,accuracy"
    assert len(log) == 4
    unseen = [str(p) for sign in SIGNS for p in sorted((takes / f"{sign}-3").iterdir())]
    capsys.readouterr()
    code = run(["predict", str(model), *unseen, "--json"])
    told = json.loads(capsys.readouterr().out)
    assert code == 0
    assert told["format"] == "avfuse.predictions/1"
    assert [event["event"] for event in told["events"]] == ["circle-3", "cross-3"]
    for event in told["events"]:
        assert event["answer"] in SIGNS
        assert 0.5 <= event["confidence"] <= 1.0
        assert event["present"] == ["picture", "sound"]
        assert len(event["windows"]) >= 2
    assert run(["predict", str(model), *unseen]) == 0
    assert "circle-3" in capsys.readouterr().out


def test_a_missing_file_is_a_missing_modality_and_a_stranger_is_told(takes: Path, model: Path, tmp_path: Path) -> None:
    loaded = load_model(model)
    alone = predict(loaded, events_of([str(takes / "circle-3" / "recorder.wav")], loaded.configuration.roles))[0]
    assert alone.decision is not None
    assert alone.decision.present == ("sound",)
    other = takes / "cross-3" / "camera.mp4"
    mixed = events_of(
        [f"recorder={takes / 'circle-3' / 'recorder.wav'}", f"camera={other}"], loaded.configuration.roles
    )
    assert len(mixed) == 2  # one for each folder
    noise = tmp_path / "recorder.wav"
    from avfuse.stream import Stream

    stranger = Stream.from_samples(0.1 * np.random.default_rng(0).standard_normal(6 * 16000), rate=16000)
    write_media(noise, Recording("recorder", (stranger,)))
    (tmp_path / "camera.mp4").write_bytes(other.read_bytes())
    found = predict(loaded, events_of([str(tmp_path / "camera.mp4"), str(noise)], loaded.configuration.roles))[0]
    assert not found.complete
    assert any("is no_match" in line or "is ambiguous" in line for line in found.left_out)


def test_answers_below_the_threshold_are_withheld_and_told_as_doubtful(
    takes: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = load_checkpoint(model / "model.safetensors")
    calibration = {**whole.facts["calibration"], "threshold": 1.5, "risk": 0.05}
    save_checkpoint(tmp_path / "shy.safetensors", whole.tensors, {**whole.facts, "calibration": calibration})
    files = [str(path) for path in sorted((takes / "circle-3").iterdir())]
    capsys.readouterr()
    assert run(["predict", str(tmp_path / "shy.safetensors"), *files, "--json"]) == 3
    (event,) = json.loads(capsys.readouterr().out)["events"]
    assert event["answer"] is None
    assert event["best"] in SIGNS
    assert {window["answer"] for window in event["windows"]} == {None}
    assert run(["predict", str(tmp_path / "shy.safetensors"), *files]) == 3
    assert "withheld (perhaps" in capsys.readouterr().out


def test_same_seed_same_weights_and_another_seed_others(takes: Path, model: Path, tmp_path: Path) -> None:
    train(load_configuration(edited(takes, tmp_path)), keep_alignments(takes, tmp_path / "again"))
    for name, value in weights(model).items():
        torch.testing.assert_close(weights(tmp_path / "again")[name], value, rtol=0, atol=0)
    changed = edited(takes, tmp_path, ("seed = 3", "seed = 4"), ("epochs = 3", "epochs = 1"))
    train(load_configuration(changed), keep_alignments(takes, tmp_path / "other"))
    assert any((weights(tmp_path / "other")[n] - v).abs().max() > 1e-3 for n, v in weights(model).items())


def test_a_killed_run_goes_on_as_if_it_had_not_been(takes: Path, model: Path, tmp_path: Path) -> None:
    folder = keep_alignments(takes, tmp_path / "killed")
    command = [sys.executable, "-m", "avfuse", "train", str(edited(takes, tmp_path)), "-o", str(folder)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (folder / "last.safetensors").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert len(load_checkpoint(folder / "last.safetensors").facts["progress"]["log"]) < 3
    with pytest.raises(StreamError, match="holds a training run already; resume it"):
        train(load_configuration(tmp_path / "train.toml"), folder)
    assert run([*command[3:], "--resume"]) == 0
    assert (folder / "log.csv").read_text() == (model / "log.csv").read_text()
    for name, value in weights(model).items():
        torch.testing.assert_close(weights(folder)[name], value, rtol=0, atol=0)


def test_a_checkpoint_of_another_configuration_is_told_by_its_first_difference(
    takes: Path, model: Path, tmp_path: Path
) -> None:
    folder = keep_alignments(takes, tmp_path / "model")
    (folder / "last.safetensors").write_bytes((model / "last.safetensors").read_bytes())
    other = load_configuration(edited(takes, tmp_path, ("rate = 5e-3", "rate = 1e-3")))
    with pytest.raises(ReadError, match=r"training\.rate is 0\.005, and 0\.001 now"):
        train(other, folder, resume=True)
    loaded = load_model(model)
    wider = build_network(replace(loaded.configuration, dim=24), 2)
    with pytest.raises(ReadError, match="expected"):
        load_weights(wider, load_checkpoint(model / "model.safetensors"))


@pytest.fixture(scope="module")
def shards(takes: Path) -> Path:
    """The takes of the manifest, prepared with everything changed that a recipe can change."""
    prepare(takes / "takes.jsonl", takes / "shards", RECIPE, workers=1)
    return takes / "shards"


@pytest.fixture(scope="module")
def of_shards(takes: Path, shards: Path) -> Path:
    """A model of the same configuration, trained on these through the command line."""
    (takes / "stored.toml").write_text(replaced(CONFIGURATION, *OF_SHARDS))
    assert run(["train", str(takes / "stored.toml"), "-o", str(takes / "stored")]) == 0
    return takes / "stored"


def test_models_of_shards_predict_from_raw_files(takes: Path, of_shards: Path, tmp_path: Path) -> None:
    loaded = load_model(of_shards)
    assert loaded.configuration.window.duration == RECIPE.duration
    assert loaded.configuration.recipe == RECIPE
    roles = loaded.configuration.roles
    assert roles == ["camera", "recorder"]
    files = [str(p) for sign in SIGNS for p in sorted((takes / f"{sign}-3").iterdir())]
    for found in predict(loaded, events_of(files, roles)):
        assert found.complete
        assert found.decision is not None
        assert found.decision.answer in SIGNS
        assert found.decision.present == ("picture", "sound")
        steps = np.diff([window.start for window in found.windows])
        np.testing.assert_allclose(steps, RECIPE.hop, atol=1e-9)
        assert len(steps) >= 2
    alone = predict(loaded, events_of([files[0]], roles))[0]
    assert alone.decision is not None
    assert alone.decision.present == ("picture",)
    assert alone.complete
    from avfuse.stream import Stream

    noise = Stream.from_samples(0.1 * np.random.default_rng(0).standard_normal(6 * 16000), rate=16000)
    write_media(tmp_path / "recorder.wav", Recording("recorder", (noise,)))
    (tmp_path / "camera.mp4").write_bytes(Path(files[0]).read_bytes())
    pair = [str(tmp_path / "camera.mp4"), str(tmp_path / "recorder.wav")]
    found = predict(loaded, events_of(pair, roles))[0]
    assert found.decision is not None
    assert found.decision.present == ("picture",)
    assert not found.complete
    assert any("recorder is no_match" in line or "recorder is ambiguous" in line for line in found.left_out)


def test_raw_recordings_are_cut_as_those_in_the_shards_were(takes: Path, shards: Path) -> None:
    streams = {"hearing": "sound", "seeing": "picture"}
    count = 0
    for event in read_manifest(takes / "takes.jsonl"):
        there = [w for w in read_windows(shards, split=None) if w.event == event.name]
        cut, wrong = windows_as_stored(event, RECIPE, streams)
        assert wrong == []
        assert len(cut) == len(there) >= 4
        for one, other in zip(cut, there, strict=True):
            assert (one.start, one.duration, one.label) == (other.start, other.duration, other.label)
            for name, stream in streams.items():
                mine, theirs = one.samples[name], other.samples[stream]
                for key in ("values", "times", "valid"):
                    np.testing.assert_array_equal(getattr(mine, key), getattr(theirs, key))
                assert (mine.confidence, mine.std, mine.rate) == (theirs.confidence, theirs.std, theirs.rate)
            assert one.samples["hearing"].values.shape == (12000, 1)
            assert one.samples["seeing"].values.shape[1:] == (16, 24, 3)
            count += 1
    assert count >= 24


def test_training_on_shards_that_was_killed_goes_on_to_the_same_weights_whatever_the_workers(
    takes: Path, of_shards: Path, tmp_path: Path
) -> None:
    helped = (*OF_SHARDS, ('"shards"', f'"{takes / "shards"}"\nworkers = 2'))
    (tmp_path / "train.toml").write_text(replaced(CONFIGURATION, *helped))
    folder = tmp_path / "killed"
    command = [sys.executable, "-m", "avfuse", "train", str(tmp_path / "train.toml"), "-o", str(folder)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 240
    while not (folder / "last.safetensors").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert len(load_checkpoint(folder / "last.safetensors").facts["progress"]["log"]) < 3
    (tmp_path / "train.toml").write_text(replaced(CONFIGURATION, *OF_SHARDS, ('"shards"', f'"{takes / "shards"}"')))
    assert run([*command[3:], "--resume"]) == 0
    assert (folder / "log.csv").read_text() == (of_shards / "log.csv").read_text()
    for name, value in weights(of_shards).items():
        torch.testing.assert_close(weights(folder)[name], value, rtol=0, atol=0)


def test_the_example_is_the_same_from_recordings_and_from_shards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(takes_to_learn, "_write_take", lambda *given: {})  # what is recorded does not matter
    for source in ("spoken_tones", "drawn_shapes", "simulated_gestures"):
        monkeypatch.setattr(takes_to_learn, source, lambda *given, **more: None)
    file, _ = takes_to_learn.write_example(tmp_path / "takes", seed=7)
    recipe, raw = load_recipe(file.parent / "recipe.toml"), load_configuration(file)
    (file.parent / "shards").mkdir()
    facts = {"format": "avfuse.shards/1", "recipe": recipe.to_json(), "shards": [], "splits": {}}
    (file.parent / "shards" / "prepare.json").write_text(json.dumps(facts))
    stored = load_configuration(file.parent / "train-shards.toml")
    assert stored.window == raw.window
    assert stored.streams() == raw.streams()
    assert (recipe.spacing, recipe.validation, recipe.seed) == (raw.data.spacing, raw.data.validation, raw.seed)
    for key in ("fusion", "head", "training", "dim", "seed"):
        assert getattr(stored, key) == getattr(raw, key)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ((("[training]", '[data.more]\n[training]'),), r"\[data\]: unknown key 'more'"),
        ((('shards = "shards"', "validation = 0.5"),), r"\[data\] has neither manifest nor shards; expected one"),
        ((('shards = "', 'manifest = "a.csv"\nshards = "'),), r"\[data\] has manifest and shards; expected one"),
        ((('shards = "', 'spacing = 1.0\nshards = "'),), r"\[data\] spacing is 1.0, and shards are aligned .* already"),
        ((('shards = "shards"', 'manifest = "a.csv"\nworkers = 2'),), "workers is 2, and windows of a manifest"),
        ((('shards = "', 'workers = -1\nshards = "'),), r"\[data\] workers is -1; expected processes, 0 or more"),
        ((('shards = "shards"', 'shards = "none"'),), "none: holds no prepare.json; expected a folder that"),
        ((("[modalities.sound]", '[modalities.sound]\nstream = "camera/sound"'),),
         r"\[modalities.sound\]: 'camera/sound' is not in .*shards; its windows have sound, picture"),
        ((("[modalities.sound]", '[modalities.sound]\nstream = ["sound"]'),), "stream is .'sound'.; expected what"),
        ((("[training]", "[window]\nduration = 2.0\n[training]"),), r"\[window\] duration is 2.0, and 1.5 in shards"),
        ((("[training]", "[window]\nsize = [16, 16]\n[training]"),), r"size is .16, 16., and .16, 24. in shards"),
        ((("[training]", "[window]\nhops = 2.0\n[training]"),), r"\[window\]: unknown key 'hops' .do you mean 'hop'"),
    ],
)  # fmt: skip
def test_configurations_that_do_not_fit_the_shards_name_the_key(
    tmp_path: Path, changes: tuple[tuple[str, str], ...], told: str
) -> None:
    (tmp_path / "shards").mkdir()
    facts = {"format": "avfuse.shards/1", "recipe": RECIPE.to_json(), "shards": [], "splits": {}}
    (tmp_path / "shards" / "prepare.json").write_text(json.dumps(facts))
    text = replaced(CONFIGURATION, *OF_SHARDS)
    file = tmp_path / "train.toml"
    file.write_text(replaced(text, ("[training]", "[window]\nhop = 0.75\nsize = [16, 24]\n[training]")))
    assert load_configuration(file).window.duration == 1.5
    file.write_text(replaced(text, *changes))
    with pytest.raises(ReadError, match=told):
        load_configuration(file)
    facts["recipe"]["duration"] = facts["recipe"]["hop"] = None
    (tmp_path / "shards" / "prepare.json").write_text(json.dumps(facts))
    file.write_text(text)
    with pytest.raises(ReadError, match="shards: its samples are whole events; expected windows"):
        load_configuration(file)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("epochs = 3", "epoch = 3", r"\[training\]: unknown key 'epoch' .do you mean 'epochs'"),
        ('kind = "gate"', 'kind = "gates"', r"\[fusion\]: kind 'gates' is not known .do you mean 'gate'"),
        ('encoder = "sound"', 'encoder = "sond"', r"encoder 'sond' is not known .do you mean 'sound'"),
        ("bands = 16", "band = 16", r"\[modalities.sound\]: unknown key 'band' .do you mean 'bands'"),
        ("bands = 16", 'bands = "many"', r"bands is 'many'; expected a whole number"),
        ("[window]", "[windows]", r"the configuration: unknown key 'windows' .do you mean 'window'"),
        ("duration = 1.5", "hop = 1.0", r"\[window\]: duration is missing"),
        ("batch = 4", "batch = 0", r"\[training\] batch is 0; expected 1 or more"),
        ("batch = 4", 'precision = "bf61"', r"precision is 'bf61' .do you mean 'bf16'"),
        ("dim = 16", "dim = 15", "dim is 15; expected a multiple of 8"),
        ('stream = "camera/picture"', 'stream = "camera"', "stream is 'camera'; expected \"role/stream\""),
        ("dim = 16", "dim = ", "cannot be read as TOML"),
    ],
)
def test_configurations_that_do_not_fit_name_the_key_and_the_nearest_right_one(
    tmp_path: Path, old: str, new: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert old in CONFIGURATION
    file = tmp_path / "train.toml"
    file.write_text(CONFIGURATION.replace(old, new))
    with pytest.raises(ReadError, match=told):
        load_configuration(file)
    assert run(["train", str(file)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        (
            lambda rows: [{**rows[0], "files": {"camera": "gone.mp4"}}, *rows[1:]],
            "line 1: camera: .*gone.mp4: no such file",
        ),
        (lambda rows: [rows[0], rows[0]], "line 2: event 'circle-0' is also in .*line 1"),
        (lambda rows: [{**rows[0], "split": "training"}, *rows[1:]], "line 1: split 'training'; expected one of"),
        (
            lambda rows: [{**rows[0], "labels": [{"start": 2, "end": 1, "label": "x"}]}],
            "line 1: labels: from 2.0 to 1.0",
        ),
        (lambda rows: [{**rows[0], "files": {}}], "line 1: files is {}; expected role -> path"),
    ],
)
def test_manifests_that_do_not_fit_name_the_line(takes: Path, edit: Callable, told: str) -> None:
    rows = [json.loads(line) for line in (takes / "takes.jsonl").read_text().splitlines()]
    file = takes / "edited.jsonl"
    file.write_text("\n".join(json.dumps(row) for row in edit(rows)))
    with pytest.raises(ReadError, match=told):
        read_manifest(file)


def test_only_the_part_of_an_event_that_its_manifest_names_is_cut(takes: Path, model: Path) -> None:
    rows = [json.loads(line) for line in (takes / "takes.jsonl").read_text().splitlines()]
    file = takes / "part.jsonl"
    file.write_text(json.dumps({**rows[0], "start": 1.75, "end": 5.0}))
    (event,) = read_manifest(file)
    cut, _ = windows_of(event, load_configuration(takes / "train.toml"), model / "alignments")
    assert [(w.start, w.duration) for w in cut] == [(1.75, 1.5), (3.25, 1.5)]


def test_what_is_learned_from_and_what_chooses_the_epoch_must_be_there(takes: Path, tmp_path: Path) -> None:
    row = json.loads((takes / "takes.jsonl").read_text().splitlines()[0])
    file = takes / "one.jsonl"
    file.write_text(json.dumps({key: value for key, value in row.items() if key != "split"}))
    alone = edited(takes, tmp_path, ("takes.jsonl", "one.jsonl"))
    with pytest.raises(StreamError, match=r"\[data\]: 1 events leave none for validation; expected one or more"):
        train(load_configuration(alone), tmp_path / "model")


def test_tables_say_the_same_as_json_lines(takes: Path) -> None:
    rows = [json.loads(line) for line in (takes / "takes.jsonl").read_text().splitlines()]
    lines = ["event,label,split,camera,recorder"]
    lines += [",".join([r["event"], r["label"], r["split"], *r["files"].values()]) for r in rows]
    (takes / "takes.csv").write_text("\n".join(lines) + "\n")
    tables, json_lines = read_manifest(takes / "takes.csv"), read_manifest(takes / "takes.jsonl")
    assert [replace(e, where="") for e in tables] == [replace(e, where="") for e in json_lines]


def test_labels_that_do_not_fit_the_head_are_told() -> None:
    with pytest.raises(StreamError, match="the only class is 'a'"):
        Targets.of("classification", ["a", "a"])
    with pytest.raises(StreamError, match="'loud' does not fit a regression"):
        Targets.of("regression", [1.0, "loud"])
    with pytest.raises(StreamError, match="'a' does not fit multi_label"):
        Targets.of("multi_label", ["a"])
    with pytest.raises(StreamError, match="label 'c' is not among those of the training data: a, b"):
        Targets.of("classification", ["a", "b"]).tensor(["c"])
    numbers = Targets.of("regression", [[1.0, 5.0], [3.0, 5.0]])
    torch.testing.assert_close(numbers.tensor([[3.0, 5.0]]), torch.tensor([[1.0, 0.0]]))
    assert Targets.of("multi_label", [["b"], [], ["a", "b"]]).tensor([["a"]]).tolist() == [[1.0, 0.0]]


def test_a_loss_that_is_not_a_number_stops_with_one_line(takes: Path, model: Path, tmp_path: Path) -> None:
    wild = edited(takes, tmp_path, ("rate = 5e-3", "rate = 1e30"), ("epochs = 3", "epochs = 9"))
    with pytest.raises(StreamError, match=r"the loss of epoch \d+, step \d+ is (nan|inf) on events .*try a lower rate"):
        train(load_configuration(wild), keep_alignments(takes, tmp_path / "wild"))


def test_loading_runs_nothing_that_is_in_a_file(tmp_path: Path) -> None:
    class Harm:
        def __reduce__(self) -> tuple:
            return os.mkdir, (str(tmp_path / "harmed"),)

    file = tmp_path / "model.safetensors"
    file.write_bytes(pickle.dumps(Harm()))
    with pytest.raises(ReadError, match="cannot be read as safetensors"):
        load_model(file)
    torch.save({"a": Harm()}, file)
    with pytest.raises(ReadError, match="cannot be read as safetensors"):
        load_model(file)
    assert not (tmp_path / "harmed").exists()


def test_checkpoints_cut_short_or_of_other_makers_are_told(model: Path, tmp_path: Path) -> None:
    whole = (model / "model.safetensors").read_bytes()
    (tmp_path / "short.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ReadError, match="cannot be read as safetensors"):
        load_model(tmp_path / "short.safetensors")
    with pytest.raises(ReadError, match="no such file; expected a model as"):
        load_model(tmp_path)
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ReadError, match=r"format is None; expected 'avfuse\.checkpoint/1'"):
        load_model(tmp_path / "other.safetensors")
    with pytest.raises(WriteError, match="does not exist"):
        save_checkpoint(tmp_path / "no" / "m.safetensors", {"a": torch.zeros(1)}, {})


def test_batches_share_out_all_windows_in_an_order_that_a_seed_fixes() -> None:
    made = [
        Window(str(k), 0.0, 1.0, {"imu": Samples(np.full((2, 1), float(k)), np.arange(2.0), np.ones(2, bool))}, k)
        for k in range(11)
    ]
    orders = [[label for b in batches(made, 4, seed=1, epoch=e) for label in b.labels] for e in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[0]) == list(range(11))
    shares = [[label for b in batches(made, 4, seed=1, rank=r, ranks=3) for label in b.labels] for r in range(3)]
    assert {len(share) for share in shares} == {4}
    assert set().union(*shares) == set(range(11))
    assert [label for b in batches(made, 4) for label in b.labels] == list(range(11))


@pytest.fixture(scope="module")
def example() -> list[Window]:
    rng = np.random.default_rng(0)
    made = []
    for k in range(3):
        n = 8000
        sound = Samples(
            rng.standard_normal((n, 1)).astype(np.float32), np.arange(n) / 8000, np.ones(n, bool), rate=8000.0
        )
        imu = Samples(
            rng.standard_normal((40 + k, 3)), np.sort(rng.uniform(0, 1, 40 + k)), np.ones(40 + k, bool), 0.9, 0.01
        )
        frames = rng.integers(0, 255, (12, 16, 16, 3)).astype(np.uint8)
        film = Samples(frames, np.arange(12) / 12, np.ones(12, bool), 1.0, 0.002)
        made.append(Window("e", 0.0, 1.0, {"imu": imu, "picture": film, "sound": sound}))
    return made


EXPORTED = {
    "gate": "step = 0.25",
    "low_rank": "",
    "cross_attention": "layers = 1",
    "bottleneck": "layers = 1",
    "perceiver": "layers = 1\nlatents = 4",
    "late": "",
}


@pytest.mark.parametrize("kind", EXPORTED)
def test_exported_networks_say_the_same_for_every_subset(kind: str, example: list[Window], tmp_path: Path) -> None:
    text = CONFIGURATION.replace('kind = "gate"\nstep = 0.25', f'kind = "{kind}"\n{EXPORTED[kind]}')
    text = text.replace(
        "[fusion]", '[modalities.imu]\nstream = "watch/imu"\nencoder = "sensor_convolution"\nlayers = 1\n[fusion]'
    )
    (tmp_path / "train.toml").write_text(text)
    widths = {"imu": 3, "picture": 3, "sound": 1}
    configuration = with_data(load_configuration(tmp_path / "train.toml"), widths, ("a", "b"))
    assert configuration_from_json(configuration.to_json()).of_network == configuration.of_network
    torch.manual_seed(0)
    network = build_network(configuration, 2).eval()
    batch = to_timed(collate(example))
    program = export_program(network, batch)  # raises where a subset differs
    assert len(subsets(batch)) == 7
    assert len(list(program.parameters())) == len(list(network.parameters()))
    file = export_onnx(network, batch, tmp_path / "net.onnx")  # so does this
    assert file.stat().st_size > 1000
