"""Laws of texts on their sound: what is delayed moves, what does not belong is refused, what is wrong is told."""

from __future__ import annotations

import ctypes.util
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avfuse.errors import ReadError, StreamError, WeakAlignmentError
from avfuse.io import read
from avfuse.io.transcripts import read_transcript
from avfuse.stream import Stream
from avfuse.temporal import Emissions, Transcript, Word, estimate_transcript
from avfuse.temporal.reference_speech import _Speech
from avfuse.temporal.transcript import in_order
from benchmarks import speech

needs_espeak = pytest.mark.skipif(ctypes.util.find_library("espeak-ng") is None, reason="espeak-ng is not installed")
SPELLING = {word: tokens.split() for word, tokens in speech.SPELLING.items()}
LETTERS = ("-", "|", *"abcdefghijklmnopqrstuvwxyz'")
TEXT = "the quick brown fox jumps over the lazy dog while seven small birds sing"


def spelled(text: str, rng: np.random.Generator, *, rate: float = 50.0, noise: float = 1.0, start: float = 0.0):
    """Emissions of letters that spike, blanks between them, and the frames of every word's first and last letter."""
    frames, spans = [], []
    for word in text.split():
        frames += [0] * int(rng.integers(2, 6)) + [1]
        first = len(frames)
        for letter in word:
            frames += [LETTERS.index(letter)] + [0] * int(rng.integers(1, 4))
        spans.append((first, max(k for k, token in enumerate(frames) if token > 1) + 1))
    frames += [0] * 5
    logits = noise * rng.standard_normal((len(frames), len(LETTERS)))
    logits[np.arange(len(frames)), frames] += 7
    logits -= np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return Emissions(logits, LETTERS, rate, start, blank="-", separator="|"), start + np.array(spans) / rate


def times_of(found: Transcript) -> np.ndarray:
    return np.array([(word.start, word.end) for word in found.words])


def test_letters_of_a_ctc_model_give_the_words_their_frames():
    heard, truth = spelled(TEXT, np.random.default_rng(1), noise=0.5)
    found = estimate_transcript(None, TEXT, emissions=heard)
    np.testing.assert_allclose(times_of(found), truth, atol=1e-9)
    assert found.text == TEXT
    assert found.confidence is not None
    assert found.confidence > 0.9
    for word in found.words:
        assert "".join(phone.text for phone in word.phones) == word.text
        assert word.phones[0].start == word.start
        assert word.phones[-1].end == word.end


def test_what_starts_later_moves_by_as_much():
    rng = np.random.default_rng(2)
    here, _ = spelled(TEXT, rng)
    there = Emissions(here.scores, here.tokens, here.rate, 3.25, blank="-", separator="|")
    a, b = (estimate_transcript(None, TEXT, emissions=e) for e in (here, there))
    np.testing.assert_allclose(times_of(b), times_of(a) + 3.25, atol=1e-9)
    assert [w.confidence for w in a.words] == pytest.approx([w.confidence for w in b.words], abs=0.02)


def test_case_and_punctuation_are_kept_and_not_said():
    heard, truth = spelled(TEXT, np.random.default_rng(3), noise=0.5)
    written = "“The quick — brown fox” jumps over the LAZY dog, while seven small birds sing!"
    found = estimate_transcript(None, written, emissions=heard)
    assert found.text == written
    np.testing.assert_allclose(times_of(found), truth, atol=1e-9)


def test_another_text_is_refused_and_a_wrong_word_is_doubted():
    heard, _ = spelled(TEXT, np.random.default_rng(4))
    found = estimate_transcript(
        None, "my hovercraft is full of eels and nobody here ever wanted any of them", emissions=heard
    )
    assert found.status == "no_match"
    assert found.all_words == ()
    with pytest.raises(WeakAlignmentError, match="another order"):
        _ = found.words
    words = TEXT.split()
    words[4] = "zigzag"
    partly = estimate_transcript(None, " ".join(words), emissions=heard)
    assert partly.status == "aligned"
    sure = [word.confidence for word in partly.words]
    assert int(np.argmin(sure)) == 4
    assert sure[4] < 0.7


@pytest.mark.parametrize("unsaid", ["at", "or", "his", "zebra"])
def test_a_word_that_is_not_said_is_doubted(unsaid):
    for seed in range(5):
        heard, _ = spelled(TEXT, np.random.default_rng(seed))
        words = TEXT.split()
        words.insert(6, unsaid)
        sure = [word.confidence for word in estimate_transcript(None, " ".join(words), emissions=heard).words]
        assert sure[6] < 0.75
        assert np.mean([p for k, p in enumerate(sure) if k != 6]) > 0.85


def test_text_that_cannot_fit_into_the_time_is_refused():
    heard, _ = spelled("one two", np.random.default_rng(5))
    found = estimate_transcript(None, 30 * TEXT, emissions=heard)
    assert found.status == "no_match"
    assert found.message is not None
    assert "at least" in found.message


def test_words_of_a_hand_labelled_recording(shared: Path):
    said, phones = speech.bobby(), speech.bobby_phones()
    errors = []
    for k in range(5):
        heard = speech.phone_emissions(phones, np.random.default_rng(k), rate=100.0, strength=4.0, noise=2.0)
        found = estimate_transcript(said.sound, said.text, emissions=heard, spelling=SPELLING)
        errors.append(np.abs(times_of(found) - said.times))
        assert (
            estimate_transcript(None, "ledger the bobby ripped", emissions=heard, spelling=SPELLING).status
            == "no_match"
        )
    assert np.median(errors) <= 0.01


@needs_espeak
def test_words_without_a_model(shared: Path):
    said = speech.bobby()
    found = estimate_transcript(said.sound, said.text)
    assert np.median(np.abs(times_of(found) - said.times)) <= 0.06
    louder = Stream.from_samples(
        np.asarray(next(iter(said.sound.blocks(10.0)))[1]) * 0.1, rate=said.sound.rate or 0, start=2.0
    )
    moved = estimate_transcript(louder, said.text)
    np.testing.assert_allclose(times_of(moved), times_of(found) + 2.0, atol=0.011)
    assert all(word.phones for word in found.words)


@needs_espeak
def test_texts_of_other_talkers_are_refused(shared: Path):
    cases = list(speech.grid().values())
    for k, said in enumerate(cases[:2]):
        assert estimate_transcript(said.sound, said.text).status == "aligned"
        assert estimate_transcript(said.sound, cases[k + 1].text).status == "no_match"


@needs_espeak
def test_a_word_that_is_not_said_is_doubted_without_a_model(shared: Path):
    for seed in range(3):
        said = speech.digits(np.random.default_rng(seed), 12)
        words = said.text.split()
        words.insert(5, "banana,")
        sure = [word.confidence for word in estimate_transcript(said.sound, " ".join(words)).words]
        assert sure[5] < 0.75
        assert min(sure) == min(sure[4:7]) < 0.5  # it, or a neighbour that gave its sound to it
        assert np.mean([p for k, p in enumerate(sure) if abs(k - 5) > 2]) > 0.8


@needs_espeak
def test_a_long_recording_is_read_in_sections(shared: Path, monkeypatch: pytest.MonkeyPatch):
    said = speech.digits(np.random.default_rng(3), 30)
    whole = estimate_transcript(said.sound, said.text)
    monkeypatch.setattr("avfuse.temporal.transcript._AT_ONCE", 0)
    monkeypatch.setattr("avfuse.temporal.transcript._WINDOW", 10)
    parts = estimate_transcript(said.sound, said.text)
    errors = [np.median(np.abs(times_of(found) - said.times)) for found in (whole, parts)]
    assert errors[1] <= 1.2 * errors[0]
    # Sections go through several threads, in any order.
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0})
    assert estimate_transcript(said.sound, said.text).all_words == parts.all_words
    assert np.median(np.abs(times_of(whole) - times_of(parts))) <= 0.02


@needs_espeak
def test_speech_of_a_long_text_comes_in_pieces_that_touch():
    words = 10 * TEXT.split()
    speech = _Speech(words, "en-us", 180)
    blocks = list(speech.blocks(10.0, 16000.0))
    at = 0
    for times, values in blocks:
        assert times[0] == pytest.approx(at / 16000, abs=1e-4)
        at += values.shape[1]
    assert max(len(times) for times, _ in blocks) < at / 2
    starts = [phone.start for phone in speech.phones]
    assert starts == sorted(starts)
    assert speech.phones[-1].end <= at / 16000
    assert {phone.word for phone in speech.phones} == set(range(len(words)))


@settings(max_examples=50)
@given(st.integers(5, 40), st.integers(0, 2**31))
def test_words_that_sections_put_out_of_order_go_between_their_neighbours(count, seed):
    rng = np.random.default_rng(seed)
    times = np.sort(rng.uniform(0, count, 2 * count)).reshape(-1, 2)
    np.testing.assert_array_equal(in_order(times), times)
    wild = times.copy()
    wild[rng.integers(2, count - 2)] += rng.choice([-1, 1]) * 3 * count
    placed = in_order(wild)
    assert np.all(np.diff(placed.ravel()) >= 0)
    # One word that is far off moves no other.
    assert np.count_nonzero((placed != times).any(axis=1)) <= 1
    messy = times + rng.normal(0, 0.5, (count, 1))
    assert np.all(np.diff(in_order(messy).ravel()) >= 0)


def test_words_that_overlap_a_little_meet_half_way():
    placed = in_order(np.array([[0.0, 1.02], [1.0, 2.0], [2.0, 3.0]]))
    np.testing.assert_allclose(placed, [[0.0, 1.01], [1.01, 2.0], [2.0, 3.0]])


def test_silence_holds_no_words():
    needs = Stream.from_samples(np.zeros(32000, np.float32), rate=16000)
    example = Stream.from_samples(np.random.default_rng(0).standard_normal(32000).astype(np.float32), rate=16000)
    words = Transcript("aligned", (Word("one", 0.2, 0.9), Word("two", 1.0, 1.8)))
    found = estimate_transcript(needs, "one two", reference=(example, words))
    assert found.status == "degenerate"
    assert found.message is not None
    assert "silent" in found.message


def test_the_recording_itself_is_its_best_reference(shared: Path):
    folder = shared / "speech"
    sound, words = read(folder / "bobby.wav")["sound"], read_transcript(folder / "bobby_words.TextGrid")
    found = estimate_transcript(sound, "Bobby ripped the ledger!", reference=(sound, words))
    truth = np.array([(word.start, word.end) for word in words.words])
    np.testing.assert_allclose(times_of(found), truth, atol=0.011)
    with pytest.raises(StreamError, match="word 2 is 'ripped', that of the text 'tore'"):
        estimate_transcript(sound, "Bobby tore the ledger", reference=(sound, words))
    late = Transcript("aligned", tuple(Word(w.text, w.start + 9, w.end + 9) for w in words.words))
    with pytest.raises(StreamError, match="times of this recording"):
        estimate_transcript(sound, "Bobby ripped the ledger", reference=(sound, late))


def bursts() -> Stream:
    """Noise that comes and goes."""
    noise = np.random.default_rng(0).standard_normal(16000)
    return Stream.from_samples((noise * np.sin(np.arange(16000) / 500)).astype(np.float32), rate=16000)


def test_absence_of_espeak_is_one_clear_sentence(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ctypes.util, "find_library", lambda name: None)
    with pytest.raises(ReadError, match=r"not installed.*apt-get install espeak-ng") as told:
        estimate_transcript(bursts(), "hello")
    assert "\n" not in str(told.value)


@needs_espeak
def test_a_voice_that_is_none_is_told():
    with pytest.raises(StreamError, match="'nobody'"):
        estimate_transcript(bursts(), "hello", voice="nobody")


@pytest.mark.parametrize(
    ("change", "text", "says"),
    [
        ({}, "", "holds no words"),
        ({}, " — !", "holds no words"),
        ({}, "the naïve fox", "'naïve': 'ï'"),
        ({}, "in 1984", "'1984': '1'"),
        ({"spelling": {"fox": ["f", "?"]}}, "fox", r"'fox': '\?'"),
        ({"spelling": {"fox": ["f"]}}, "fox dog", "'dog': has no spelling"),
        ({"spelling": {"fox": ["-"]}}, "fox", "the blank '-' is a token of 'fox'"),
    ],
)
def test_words_without_tokens_are_told_in_a_line(change, text, says):
    heard, _ = spelled("the quick fox", np.random.default_rng(0))
    with pytest.raises(StreamError, match=says) as told:
        estimate_transcript(None, text, emissions=heard, **change)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"scores": np.zeros((4, 2))}, "2 columns and 3 tokens"),
        ({"scores": np.zeros(4)}, r"shape \(4,\)"),
        ({"rate": 0.0}, "rate 0.0; expected a positive"),
        ({"start": np.inf}, "start inf"),
        ({"blank": "?"}, "blank '\\?' is none of the tokens"),
        ({"blank": "a", "silence": "b"}, "both a blank and a silence"),
    ],
)
def test_emissions_that_do_not_fit_are_told(given, says):
    right = {"scores": np.zeros((4, 3)), "tokens": ("a", "b", "c"), "rate": 50.0}
    with pytest.raises(StreamError, match=says):
        Emissions(**(right | given))


def test_arguments_that_exclude_each_other_are_told():
    heard, _ = spelled("the fox", np.random.default_rng(0))
    sound = Stream.from_samples(np.ones(1000, np.float32), rate=16000)
    for arguments in ({"emissions": heard, "reference": (sound, Transcript("aligned"))}, {"spelling": {}}, {}):
        with pytest.raises(StreamError):
            estimate_transcript(None, "the fox", **arguments)
