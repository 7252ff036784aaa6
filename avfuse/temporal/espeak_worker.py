"""Speaks pieces of text through libespeak-ng, in a process of its own: run as a script, never imported.

stdin: JSON {"library", "voice", "rate", "pieces": [text, ...]}. stdout: for every piece a line of JSON {"rate",
"samples", "events": [[kind, position, sample, phone], ...]} and then that many 16-bit samples. Kinds are those of
espeak-ng's speak_lib.h: 1 a word, 7 a phone; positions count characters from 1.
"""

from __future__ import annotations

import ctypes
import json
import sys

_WORD, _PHONE = 1, 7
_SYNCHRONOUS, _PHONE_EVENTS, _UTF8, _SPEED = 2, 1, 1, 1


class _Event(ctypes.Structure):
    _fields_ = (
        ("kind", ctypes.c_int),
        ("message", ctypes.c_uint),
        ("position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("milliseconds", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("name", ctypes.c_char * 8),
    )


class _Voice(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("languages", ctypes.c_char_p),
        ("identifier", ctypes.c_char_p),
        ("gender", ctypes.c_ubyte),
        ("age", ctypes.c_ubyte),
        ("variant", ctypes.c_ubyte),
        ("unused", ctypes.c_ubyte),
        ("score", ctypes.c_int),
        ("spare", ctypes.c_void_p),
    )


_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


def main() -> int:
    asked = json.loads(sys.stdin.buffer.read())
    try:
        library = ctypes.CDLL(asked["library"])
    except OSError as error:
        print(f"its library cannot be loaded ({error})", file=sys.stderr)
        return 2
    rate = library.espeak_Initialize(_SYNCHRONOUS, 0, None, _PHONE_EVENTS)
    if rate <= 0:
        print("it does not start: its data is missing", file=sys.stderr)
        return 2
    voice = asked["voice"].encode()
    if library.espeak_SetVoiceByName(voice):
        language = _Voice(languages=voice)
        if "+" in asked["voice"] or library.espeak_SetVoiceByProperties(ctypes.byref(language)):
            print(f"it has no voice {asked['voice']!r}", file=sys.stderr)
            return 3
    library.espeak_SetParameter(_SPEED, asked["rate"], 0)
    sound, events = bytearray(), []

    def heard(samples, count, found):  # type: ignore[no-untyped-def]
        if samples and count > 0:
            sound.extend(ctypes.string_at(samples, 2 * count))
        i = 0
        while found[i].kind:
            event = found[i]
            if event.kind in (_WORD, _PHONE):
                name = event.name.decode("utf-8", "replace") if event.kind == _PHONE else ""
                events.append([event.kind, event.position, event.sample, name])
            i += 1
        return 0

    callback = _CALLBACK(heard)
    library.espeak_SetSynthCallback(callback)
    for piece in asked["pieces"]:
        sound.clear()
        events.clear()
        text = piece.encode("utf-8") + b"\0"
        if library.espeak_Synth(text, len(text), 0, 1, 0, _UTF8, None, None):
            print(f"it cannot speak {piece[:40]!r}", file=sys.stderr)
            return 2
        library.espeak_Synchronize()
        head = {"rate": rate, "samples": len(sound) // 2, "events": events}
        sys.stdout.buffer.write(json.dumps(head).encode() + b"\n" + bytes(sound))
        sys.stdout.buffer.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
