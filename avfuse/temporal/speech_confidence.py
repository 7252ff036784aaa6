"""How probable it is that a text, and each of its words, was put where it is said.

Logistic curves, fitted on texts of known times and on wrong texts, in part or in whole (docs/transcript.md): for speech
on synthetic sentences of four voices and on spoken digits, in rooms and noise; for emissions on simulated ones of all
qualities. Texts of few words, which are compared with their shuffled phones, have curves of their own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]

MANY = 8  # words that have orders enough to be shuffled whole
ACCEPT = 0.8
_HIGHEST = 0.98  # of a text: beyond it less was right than the curves say
_HIGHEST_WORD = {"speech": 0.92, "emissions": 0.96}  # models may err in other ways than the simulated ones

# Of texts: constant, fitness, log(1 + deviations). Of words: constant, near, far, own, shorter, longer,
# log(1 + deviations), log(spread + 5 ms). By what was heard, and whether there are many words.
_TEXTS = {
    ("speech", False): (-1.64, 9.21, 0.0),
    ("speech", True): (-6.57, 4.33, 4.96),
    ("emissions", False): (-2.84, 3.19, 2.13),
    ("emissions", True): (-5.45, 6.60, 2.72),
}
_WORDS = {
    ("speech", False): (-3.98, 1.74, 0.0, 0.0, 0.0, 0.0, 1.33, -0.70),
    ("speech", True): (-1.33, 0.87, 2.17, 1.23, 3.72, -4.01, 0.0, -0.84),
    ("emissions", False): (1.04, 1.56, 0.66, 2.23, 1.40, -1.66, -0.45, 0.0),
    ("emissions", True): (0.05, 1.72, 1.63, 0.88, 1.80, -2.64, 0.17, 0.0),
}
_HALF = 25.0, 0.53  # slope, and the mean of words at which it is as likely as not
_SHORTEST = -4.0  # of a word for which nothing is said
ONE_VOICE = 0.02  # seconds that stand for a spread that one voice cannot tell
# Deviations below which a text is taken for chance, whatever else: shuffled words deviate like a normal variable, and
# the order of phones in any real word is better than chance by about one.
_CHANCE = {False: 2.5, True: 3.0}


def of_text(way: str, words: int, fitness: float, deviations: float) -> float:
    """Probability that at least half of its words are where they are said.

    way: "speech" or "emissions". fitness: share of what was possible that the text gains over shuffled ones.
    deviations: by how many of their standard deviations it is better.
    """
    many = words >= MANY
    if deviations < _CHANCE[many]:
        return 0.0
    constant, of_fitness, of_deviations = _TEXTS[way, many]
    sure = _logistic(constant + of_fitness * fitness + of_deviations * np.log1p(deviations))
    return min(float(sure), _HIGHEST)


def of_half(words: F64) -> float:
    """The most that a text may state, by what its words state: where half of them are doubtful, so is it."""
    return float(_logistic(_HALF[0] * (words.mean() - _HALF[1])))


@dataclass(frozen=True, eq=False)
class Signs:
    """What tells of single words, each `(words,)`.

    near, far, own: fitness as of the text, around each word, farther around it, and of its own frames alone: a word
        that is not said fits worse than what is around it.
    length: logarithm of its length beside that of its reference (or its number of tokens), less the median of all
        words: a word that is not said is crammed in, and one that is said for another takes the other's length.
    spread: standard deviation, in seconds, of what several voices say; `ONE_VOICE` where one does.
    deviations: one number, as of the text.
    """

    near: F64
    far: F64
    own: F64
    length: F64
    spread: F64
    deviations: float


def of_words(way: str, words: int, signs: Signs) -> F64:
    """Probability that both ends are within 0.1 s: `(words,)`."""
    fits = [np.clip(sign, -1, 1) for sign in (signs.near, signs.far, signs.own)]
    length = np.maximum(signs.length, _SHORTEST)
    surely = np.full(len(length), np.log1p(max(signs.deviations, 0.0)))
    every = [*fits, np.minimum(length, 0), np.maximum(length, 0), surely, np.log(signs.spread + 0.005)]
    constant, *weights = _WORDS[way, words >= MANY]
    x = constant + np.sum([w * sign for w, sign in zip(weights, every, strict=True)], axis=0)
    return np.asarray(np.minimum(_logistic(x), _HIGHEST_WORD[way]))


def _logistic(x: F64 | float) -> F64:
    return np.asarray(1 / (1 + np.exp(-np.asarray(x, np.float64))))
