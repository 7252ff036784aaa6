"""Laws of transcripts in files: what is written is read again, what is broken is told, subtitles can be read."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avfuse import cli
from avfuse.errors import ReadError, StreamError, WeakAlignmentError, WriteError
from avfuse.io.emissions import read_emissions, read_spelling
from avfuse.io.transcripts import (
    decoded,
    read_text,
    read_tiers,
    read_transcript,
    subtitles,
    to_srt,
    to_textgrid,
    to_vtt,
    writer_of,
)
from avfuse.transcript import Phone, Transcript, Word
from benchmarks import speech

WORDS = st.lists(
    st.tuples(
        st.text(st.characters(categories=("L", "N", "P"), exclude_characters="\x00"), min_size=1, max_size=12),
        st.floats(0.05, 1.5), st.sampled_from([0.0, 0.0, 0.3, 2.0]),
    ),
    min_size=1, max_size=40,
)  # fmt: skip


def transcript_of(given_words) -> Transcript:
    at, words = 0.25, []
    for text, lasts, pause in given_words:
        words.append(
            Word(text, at, at + lasts, 0.5, (Phone("a", at, at + lasts / 2), Phone('"', at + lasts / 2, at + lasts)))
        )
        at += lasts + pause
    return Transcript("aligned", tuple(words), 0.9, None, ("emissions",), at + 1, "x.wav")


@given(WORDS)
@settings(max_examples=50)
def test_textgrid_and_json_hold_what_was_written(tmp_path_factory, given_words):
    made = transcript_of(given_words)
    folder = tmp_path_factory.mktemp("made")
    for name in ("a.TextGrid", "a.json"):
        back = read_transcript(made.save(folder / name))
        kept = [w for w in made.words if w.text.strip().lower() not in ("sil", "sp", "spn", "_", "#")]
        if name == "a.json":
            assert [w.text for w in back.words] == [w.text for w in made.words]
            assert [w.confidence for w in back.words] == [0.5] * len(made.words)
            kept = list(made.words)
        assert [w.text for w in back.words] == [w.text for w in kept]
        np.testing.assert_allclose([(w.start, w.end) for w in back.words], [(w.start, w.end) for w in kept], atol=1e-6)
        assert [[p.text for p in w.phones] for w in back.words] == [["a", '"']] * len(kept)


@given(WORDS)
@settings(max_examples=50)
def test_subtitles_hold_every_word_once_and_never_overlap(given_words):
    made = transcript_of(given_words)
    found = subtitles(made.words)
    assert " ".join(" ".join(s.lines) for s in found).split() == made.text.split()
    for one, after in pairwise(found):
        assert one.end <= after.start + 1e-9
    for one in found:
        assert one.start <= one.end
        assert len(one.lines) <= 2
        assert all(len(line) <= 42 for line in one.lines)
        assert one.end - one.start <= 7.0 + 1e-9


def test_subtitles_end_with_sentences_and_at_pauses():
    words = [Word(w, k, k + 0.9) for k, w in enumerate(["One.", "Two", "three."])]
    assert [s.lines for s in subtitles(words)] == [("One.",), ("Two three.",)]
    words = [Word("one", 0.0, 0.5), Word("two", 1.3, 1.5)]
    assert [s.lines for s in subtitles(words)] == [("one",), ("two",)]


def test_subtitle_files_have_their_form():
    made = Transcript("aligned", (Word("R&D", 3661.5, 3662.25), Word("<b>", 3662.25, 3662.75)))
    assert to_srt(made) == "1\n01:01:01,500 --> 01:01:02,750\nR&D <b>\n"
    assert to_vtt(made) == "WEBVTT\n\n01:01:01.500 --> 01:01:02.750\nR&amp;D &lt;b&gt;\n"


SHORT = '''File type = "ooTextFile"
Object class = "TextGrid"

0
2
<exists>
1
"IntervalTier"
"words"
0
2
2
0
1
""
1
2
"say ""x"""
'''


def test_the_short_form_and_other_encodings_are_read(tmp_path: Path):
    for encoding in ("utf-8", "utf-16", "utf-8-sig"):
        path = tmp_path / "short.TextGrid"
        path.write_text(SHORT, encoding=encoding)
        assert read_transcript(path).words == (Word('say "x"', 1.0, 2.0),)


def test_praats_own_form_of_a_point_tier_is_passed_over():
    text = SHORT.replace("<exists>\n1\n", '<exists>\n2\n"TextTier"\n"clicks"\n0\n2\n1\n0.5\n"c"\n')
    assert list(read_tiers("x", text)) == ["words"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "nothing in it is a value"),
        ("hello", "nothing in it is a value"),
        ('"ooTextFile" "Pitch" 0 1', "does not begin as one"),
        (SHORT[:60], "ends or is broken"),
        (SHORT[:-12], "ends or is broken"),
        (SHORT.replace('\n1\n2\n"say', '\n1\n0.5\n"say'), "ends at 0.5 s, before it begins"),
        (SHORT.replace('"words"', '"noise"'), "no tier 'word'; its interval tiers: 'noise'"),
        (SHORT[: SHORT.index('"say')] + '""', "holds no words"),
    ],
)
def test_broken_textgrids_are_told_in_a_line(tmp_path: Path, text: str, says: str):
    path = tmp_path / "x.TextGrid"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ReadError, match=says) as told:
        read_transcript(path)
    assert "\n" not in str(told.value)
    assert str(path) in str(told.value)


@pytest.mark.parametrize("text", ["{", "[]", '{"format": "avfuse.alignment/1"}', '{"format": "avfuse.transcript/1"}'])
def test_broken_json_is_told_in_a_line(tmp_path: Path, text: str):
    path = tmp_path / "x.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ReadError) as told:
        read_transcript(path)
    assert "\n" not in str(told.value)


def test_other_names_and_bytes_are_told(tmp_path: Path):
    with pytest.raises(ReadError, match=r"expected a \.TextGrid or \.json"):
        read_transcript(tmp_path / "absent.TextGrid")
    (tmp_path / "x.srt").write_text("1")
    with pytest.raises(ReadError, match="file of words with their times"):
        read_transcript(tmp_path / "x.srt")
    with pytest.raises(ReadError, match="UTF-8"):
        decoded("x", b"\x80abc")
    with pytest.raises(ReadError, match="expected a text file"):
        read_text(tmp_path)
    with pytest.raises(WriteError, match=r"expected \.TextGrid, \.srt"):
        writer_of("x.doc")


def test_a_text_with_a_nul_is_none(tmp_path: Path):
    (tmp_path / "a.txt").write_bytes(b"Bobby\0 ripped the ledger")
    with pytest.raises(ReadError, match="character 6 is NUL"):
        read_text(tmp_path / "a.txt")


def test_a_refusal_becomes_json_and_nothing_else(tmp_path: Path):
    refused = Transcript("no_match", message="does not fit")
    assert json.loads(refused.save(tmp_path / "x.json").read_text())["status"] == "no_match"
    assert read_transcript(tmp_path / "x.json").message == "does not fit"
    for name in ("x.srt", "x.vtt", "x.TextGrid"):
        with pytest.raises(WeakAlignmentError, match="does not fit"):
            refused.save(tmp_path / name)
        assert not (tmp_path / name).exists()


def test_words_out_of_order_are_no_transcript():
    with pytest.raises(StreamError, match="words in order"):
        Transcript("aligned", (Word("a", 0.0, 1.0), Word("b", 0.5, 2.0)))
    with pytest.raises(StreamError, match="end after the start"):
        Word("a", 1.0, 0.5)
    assert 'text = "a"' in to_textgrid(Transcript("aligned", (Word("a", 0.5, 1.0),)))


def saved_emissions(path: Path, **changed) -> Path:
    heard = speech.phone_emissions(speech.bobby_phones(), np.random.default_rng(0), rate=100.0, strength=4.0, noise=1.0)
    held = {"log_probs": heard.scores, "tokens": np.array(heard.tokens), "rate": 100.0, "silence": "sil"} | changed
    np.savez(path, **{key: value for key, value in held.items() if value is not None})
    return path


def test_the_command_writes_every_form(shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    saved_emissions(tmp_path / "e.npz")
    (tmp_path / "said.txt").write_text("Bobby ripped the ledger.")
    (tmp_path / "spelling.txt").write_text(
        ";;; as CMUdict\n" + "\n".join(f"{w.upper()}  {t}" for w, t in speech.SPELLING.items()) + "\nTHE(2)  DH IY0\n"
    )
    outputs = [tmp_path / f"x.{form}" for form in ("TextGrid", "srt", "vtt", "json")]
    asked = [str(shared / "speech" / "bobby.wav"), str(tmp_path / "said.txt"), "--emissions", str(tmp_path / "e.npz")]
    asked += ["--spelling", str(tmp_path / "spelling.txt")]
    assert (
        cli.run(["transcript", *asked, "--json", *(part for out in outputs for part in ("-o", str(out)))]) == cli.DONE
    )
    told = json.loads(capsys.readouterr().out)
    assert told["status"] == "aligned"
    assert [word["text"] for word in told["words"]] == ["Bobby", "ripped", "the", "ledger."]
    truth = read_transcript(shared / "speech" / "bobby_words.TextGrid")
    for out in (outputs[0], outputs[3]):
        found = read_transcript(out)
        np.testing.assert_allclose([w.start for w in found.words], [w.start for w in truth.words], atol=0.03)
    assert re.search(r"00:00:00,0\d\d --> 00:00:01,1\d\d\nBobby ripped the ledger\.", outputs[1].read_text())

    (tmp_path / "said.txt").write_text("the ledger the ripped bobby the ledger")
    outputs[1].unlink()
    assert cli.run(["transcript", *asked, "-o", str(outputs[1])]) == cli.DOUBTFUL
    assert not outputs[1].exists()
    assert "no_match" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["-o", "x.doc"], "expected .TextGrid"),
        (["-o", "{said}.json/x.srt"], "does not exist"),
        (["--reference", "{wav}"], "belong together"),
        (["--emissions", "{said}"], "expected a .npz"),
        (["--spelling", "{said}"], "a spelling without emissions"),
        (["--reference", "{wav}", "--times", "{said}"], "file of words with their times"),
    ],
)
def test_wrong_arguments_are_one_line_and_code_2(shared: Path, tmp_path: Path, capsys, arguments, says):
    wav, said = shared / "speech" / "bobby.wav", tmp_path / "said.txt"
    said.write_text("bobby ripped")
    asked = [a.format(wav=wav, said=said) for a in arguments]
    assert cli.run(["transcript", str(wav), str(said), *asked]) == cli.USAGE
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.count("\n") == 1
    assert says in told.err


def test_the_recording_is_never_written_over(shared: Path, tmp_path: Path, capsys):
    text = tmp_path / "said.json"
    text.write_text("bobby")
    assert cli.run(["transcript", str(shared / "speech" / "bobby.wav"), str(text), "-o", str(text)]) == cli.USAGE
    assert text.read_text() == "bobby"


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"rate": None}, "no rate"),
        ({"tokens": np.array(["a"])}, "and 1 tokens"),
        ({"rate": "fast"}, "fast"),
        ({"silence": "quiet"}, "none of the tokens"),
        ({"log_probs": np.zeros(3)}, r"shape \(3,\)"),
    ],
)
def test_emissions_that_do_not_fit_are_told_with_their_file(shared: Path, tmp_path: Path, changed, says):
    with pytest.raises(ReadError, match=says) as told:
        read_emissions(saved_emissions(tmp_path / "e.npz", **changed))
    assert "e.npz" in str(told.value)


def test_damaged_emissions_and_spellings_are_told(shared: Path, tmp_path: Path):
    whole = saved_emissions(tmp_path / "e.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    np.save(tmp_path / "one.npz.npy", np.zeros(3))
    for name in ("cut.npz", "one.npz.npy", "absent.npz"):
        with pytest.raises(ReadError, match=r"expected a \.npz"):
            read_emissions(tmp_path / name)
    (tmp_path / "s.txt").write_text("WORD\n")
    with pytest.raises(ReadError, match="has no tokens"):
        read_spelling(tmp_path / "s.txt")
    (tmp_path / "s.txt").write_text(";;; nothing\n")
    with pytest.raises(ReadError, match="holds no words"):
        read_spelling(tmp_path / "s.txt")
