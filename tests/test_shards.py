"""Shards read back: the same windows from every format, shared out, shuffled, and damage told."""

from __future__ import annotations

import io
import json
import sys
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import avfuse
from avfuse.batches import Window
from avfuse.errors import ReadError, StreamError
from avfuse.manifests import Event
from avfuse.preparation import Prepared, Recipe, SoundForm, cuts, open_shards, prepare, read_windows
from avfuse.simulation import write_media
from avfuse.stream import Recording, Stream

EVENTS, SAMPLES = 8, 3  # and windows of each
STREAMS = {"sound": "clip/sound", "picture": "clip/picture"}


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> list[Event]:
    """Clips of three seconds, each with a note and a grey of its own."""
    folder = tmp_path_factory.mktemp("clips")
    found = []
    for k in range(EVENTS):
        times = np.arange(24000) / 8000.0
        sound = 0.3 * np.sin(2 * np.pi * (200 + 50 * k) * times).astype(np.float32)
        frames = np.full((30, 32, 32, 3), 20 * k + 10, np.uint8)
        frames[:, :, : k + 1] = 255
        streams = (Stream.from_samples(sound, rate=8000.0), Stream("picture", "picture", frames, rate=10.0))
        path = write_media(folder / f"clip-{k}.mp4", Recording("clip", streams))
        found.append(Event(f"clip-{k}", {"clip": str(path)}, label=k, split="validation" if k == 5 else "train"))
    return found


@pytest.fixture(scope="module")
def make(events: list[Event], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Prepared]:
    """The clips prepared, by a recipe's values."""
    recipe = Recipe(duration=0.9, streams=STREAMS, shard=4, sound=SoundForm(mono=True))

    def made(**values: object) -> Prepared:
        return prepare(events, tmp_path_factory.mktemp("out") / "shards", replace(recipe, **values), workers=1)  # type: ignore[arg-type]

    return made


@pytest.fixture(scope="module")
def tar(make: Callable[..., Prepared]) -> Prepared:
    return make()


@pytest.fixture(scope="module")
def parquet(make: Callable[..., Prepared]) -> Prepared:
    return make(format="parquet")


@pytest.fixture
def copy(tar: Prepared, tmp_path: Path) -> Path:
    """One that may be damaged."""
    import shutil

    return Path(shutil.copytree(tar, tmp_path / "copy"))


def names(windows: Iterator[Window]) -> list[tuple[str, float]]:
    return [(window.event, round(window.start, 6)) for window in windows]


def rows_of(place: Prepared) -> list[dict[str, object]]:
    return [json.loads(line) for line in Path(place, "manifest.jsonl").read_text().splitlines()]


def test_tar_and_parquet_give_equal_windows(tar: Prepared, parquet: Prepared) -> None:
    assert [s.name.endswith("parquet") for s in parquet.shards] == [True] * len(tar.shards)
    pairs = list(zip(read_windows(tar, split=None), read_windows(parquet, split=None), strict=True))
    assert len(pairs) == EVENTS * SAMPLES
    for a, b in pairs:
        assert (a.event, a.start, a.duration, a.label) == (b.event, b.start, b.duration, b.label)
        assert list(a.samples) == list(b.samples) == ["sound", "picture"]
        for name in a.samples:
            for field in ("values", "times", "valid"):
                np.testing.assert_array_equal(getattr(a.samples[name], field), getattr(b.samples[name], field))


def test_windows_are_what_was_recorded(tar: Prepared) -> None:
    for window in read_windows(tar):
        k = int(window.label)
        sound, picture = window.samples["sound"], window.samples["picture"]
        assert sound.values.shape == (7200, 1)
        # AAC and its filters are no copy, but the note is the same.
        spectrum = np.abs(np.fft.rfft(sound.values[:, 0] * np.hanning(7200)))
        assert np.argmax(spectrum) * 8000 / 7200 == pytest.approx(200 + 50 * k, abs=8000 / 7200)
        assert np.median(picture.values[:, :, k + 8 :]) == pytest.approx(20 * k + 10, abs=4)
        assert (picture.times >= window.start).all()
        assert (picture.times < window.start + window.duration).all()


def test_splits_are_those_of_events(tar: Prepared) -> None:
    train, validation = Counter(e for e, _ in names(read_windows(tar))), names(read_windows(tar, split="validation"))
    assert {e for e, _ in validation} == {"clip-5"}
    assert train == {f"clip-{k}": SAMPLES for k in range(EVENTS) if k != 5}
    with pytest.raises(StreamError, match="no split 'test'; it has train, validation"):
        read_windows(tar, split="test")


def test_a_seed_shuffles_everything_once_and_an_epoch_anew(tar: Prepared) -> None:
    plain = names(read_windows(tar))
    first = names(read_windows(tar, seed=1, buffer=6))
    assert sorted(first) == sorted(plain)
    assert first != plain
    assert first == names(read_windows(tar, seed=1, buffer=6))
    assert first != names(read_windows(tar, seed=1, epoch=1, buffer=6))
    assert first != names(read_windows(tar, seed=2, buffer=6))


@pytest.mark.parametrize("ranks", [1, 2, 4, 5, 21, 22, 50])
@pytest.mark.parametrize("seed", [None, 3])
def test_readers_get_equally_many_and_all_of_it(tar: Prepared, ranks: int, seed: int | None) -> None:
    whole = set(names(read_windows(tar)))
    parts = [names(read_windows(tar, rank=rank, ranks=ranks, seed=seed)) for rank in range(ranks)]
    assert {len(part) for part in parts} == {-(-len(whole) // ranks)}
    told = Counter(name for part in parts for name in part)
    assert set(told) == whole
    if ranks <= len(whole):
        assert sum(told.values()) - len(whole) < ranks


def test_batches_hold_all_windows_in_order(tar: Prepared) -> None:
    batches = list(avfuse.windows(tar, batch=4))
    assert [len(batch) for batch in batches] == [4, 4, 4, 4, 4, 1]
    assert [e for batch in batches for e in batch.events] == [e for e, _ in names(read_windows(tar))]


def test_shards_one_after_the_other_are_all_of_a_split(tar: Prepared) -> None:
    assert names(w for cut in cuts(tar) for w in cut()) == names(read_windows(tar))


def test_rows_tell_what_is_in_the_shards(tar: Prepared) -> None:
    import hashlib

    rows = rows_of(tar)
    for shard in tar.shards:
        data = Path(tar, shard.name).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (shard.bytes, shard.sha256)
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            kept = [m.name.partition(".")[0] for m in archive if m.name.endswith(".json")]
        assert kept == [row["key"] for row in rows if row["shard"] == shard.name]
        assert len(kept) == shard.samples <= 4


def test_webdataset_reads_the_tar_files(tar: Prepared) -> None:
    import soundfile
    import webdataset

    paths = [str(Path(tar, shard.name)) for shard in tar.shards]
    found = list(webdataset.WebDataset(paths, shardshuffle=False, empty_check=False))
    rows = {row["key"]: row for row in rows_of(tar)}
    assert {sample["__key__"] for sample in found} == set(rows)
    for sample in found:
        assert {k for k in sample if not k.startswith("__")} == {"json", "sound.flac", "picture.mp4"}
        assert json.loads(sample["json"])["event"] == rows[sample["__key__"]]["event"]
        values, rate = soundfile.read(io.BytesIO(sample["sound.flac"]))
        assert (len(values), rate) == (7200, 8000)


def test_datasets_reads_the_folder_by_its_card(
    tar: Prepared, parquet: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    import datasets

    # Its reader of tar files asks for torchcodec, even where bytes are passed on as they are.
    monkeypatch.setitem(sys.modules, "torchcodec", ModuleType("torchcodec"))
    encoders = ModuleType("torchcodec.encoders")
    encoders.AudioEncoder = None  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torchcodec.encoders", encoders)

    for place in (tar, parquet):
        cache = str(tmp_path / Path(place).parent.name)
        found = datasets.load_dataset(place.place, cache_dir=cache)
        assert {name: len(split) for name, split in found.items()} == {
            "train": (EVENTS - 1) * SAMPLES, "validation": SAMPLES,
        }  # fmt: skip
    kinds = found["train"].features
    assert isinstance(kinds["sound"], datasets.Audio)
    assert isinstance(kinds["picture"], datasets.Video)
    assert kinds["start"].dtype == "float64"
    undecoded = {"sound": datasets.Audio(decode=False), "picture": datasets.Video(decode=False)}
    first = found["train"].cast(datasets.Features({**kinds, **undecoded}))[0]
    window = next(read_windows(parquet))
    assert (first["event"], first["start"]) == (window.event, window.start)
    assert first["sound"]["bytes"][:4] == b"fLaC"
    assert first["picture"]["bytes"][4:8] == b"ftyp"


def damaged(copy: Path) -> Iterator[tuple[str, bytes]]:
    """Ways in which a shard of tar can be broken; offsets of members are multiples of 512."""
    data = (copy / "train" / "000001.tar").read_bytes()
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        members = archive.getmembers()
    sound = next(m for m in members if m.name.endswith("flac"))
    second = [m for m in members if m.name.endswith("json")][1]
    yield "cut in a member", data[: sound.offset_data + 100]
    yield "cut between samples", data[: second.offset]
    yield "cut between samples, ended well", data[: second.offset] + bytes(1024)
    yield "empty", b""
    yield "zeros", bytes(len(data))
    yield "noise", np.random.default_rng(0).bytes(len(data))
    for name, place in (("a bit of sound", sound.offset_data + 900), ("a header", second.offset + 20),
                        ("facts", members[0].offset_data + 2)):  # fmt: skip
        yield name, data[:place] + bytes([data[place] ^ 16]) + data[place + 1 :]


def test_every_damage_of_a_tar_file_is_told_in_one_line(copy: Path) -> None:
    for what, data in damaged(copy):
        (copy / "train" / "000001.tar").write_bytes(data)
        with pytest.raises(ReadError, match="prepare it again") as told:
            list(read_windows(copy))
        assert "\n" not in str(told.value), what
    (copy / "train" / "000001.tar").unlink()
    with pytest.raises(ReadError, match="no such shard"):
        list(read_windows(copy))


def test_damage_of_a_parquet_file_is_told_in_one_line(parquet: Prepared, tmp_path: Path) -> None:
    import shutil

    copy = Path(shutil.copytree(parquet, tmp_path / "copy"))
    file = copy / "train" / "000001.parquet"
    data = file.read_bytes()
    place = data.index(b"fLaC") + 2000
    for broken in (b"", data[:-100], bytes(len(data)), data[:place] + b"\0\1\2" + data[place + 3 :]):
        file.write_bytes(broken)
        with pytest.raises(ReadError, match="prepare it again") as told:
            list(read_windows(copy))
        assert "\n" not in str(told.value)


def test_what_is_no_finished_folder_is_told(copy: Path, tmp_path: Path) -> None:
    (copy / "prepare.json").unlink()
    with pytest.raises(ReadError, match=r"holds no prepare\.json; expected a folder that `avfuse prepare` made"):
        avfuse.windows(copy)
    (copy / ".parts").mkdir()
    (copy / ".parts" / "job.json").write_text("{}")
    with pytest.raises(ReadError, match="is not finished: run the same `avfuse prepare` again"):
        avfuse.windows(copy)
    for content in ("[]", '{"format": "avfuse.shards/2"}', "{"):
        (copy / "prepare.json").write_text(content)
        with pytest.raises(ReadError):
            avfuse.windows(copy)
    with pytest.raises(ReadError, match="holds no"):
        avfuse.windows(tmp_path / "nowhere")


def test_arguments_that_do_not_fit_are_told_before_anything_is_read(tar: Prepared) -> None:
    with pytest.raises(StreamError, match="batch 0"):
        avfuse.windows(tar, batch=0)
    with pytest.raises(StreamError, match="rank 2 of 2"):
        avfuse.windows(tar, rank=2, ranks=2)
    with pytest.raises(TypeError, match="bach"):
        avfuse.windows(tar, bach=3)  # type: ignore[call-overload]


def test_a_folder_where_everything_was_dropped_says_so(events: list[Event], tmp_path: Path) -> None:
    recipe = Recipe(duration=60.0, streams=STREAMS)
    made = prepare(events[:1], tmp_path / "out", recipe, workers=1)
    assert (made.samples, made.decisions["drop"]) == (0, 1)
    with pytest.raises(StreamError, match="all were dropped"):
        avfuse.windows(made)
    assert open_shards(made).shards == []
