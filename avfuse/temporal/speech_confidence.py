"""How probable it is that a text, and each of its words, was put where it is said.

Logistic curves, fitted on texts of known times and on wrong texts, in part or in whole (docs/transcript.md): for speech
on synthetic sentences of four voices and on spoken digits, in rooms and noise; for emissions on simulated ones of all
qualities. Texts of few words, which are compared with their shuffled phones, have curves of their own.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]

MANY = 8  # words that have orders enough to be shuffled whole
ACCEPT = 0.8
_HIGHEST = 0.98, 0.92  # of a text and of a word: beyond it less was right than the curves say

# Of texts: constant, fitness, log(1 + deviations). Of words: the same, and log(spread + 5 ms). By what was heard, and
# whether there are many words.
_TEXTS = {
    ("speech", False): (-1.64, 9.21, 0.0),
    ("speech", True): (-6.57, 4.33, 4.96),
    ("emissions", False): (-2.84, 3.19, 2.13),
    ("emissions", True): (-5.45, 6.60, 2.72),
}
_WORDS = {
    ("speech", False): (-3.98, 1.74, 1.33, -0.70),
    ("speech", True): (-6.54, 2.73, 3.02, -0.72),
    ("emissions", False): (-2.79, 4.15, 1.14, 0.0),
    ("emissions", True): (-3.77, 3.55, 1.55, 0.0),
}
_ONE_VOICE = 0.02  # seconds that stand for a spread that one voice cannot tell
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
    return min(float(sure), _HIGHEST[0])


def of_words(way: str, words: int, fitness: F64, spread: F64 | None, deviations: float) -> F64:
    """Probability that both ends are within 0.1 s: `(words,)`.

    fitness, deviations: as of the text, for each word and what is around it. spread: `(words,)` standard deviation, in
    seconds, of what several voices say; None where one does.
    """
    constant, of_fitness, of_deviations, of_spread = _WORDS[way, words >= MANY]
    apart = np.full(len(fitness), _ONE_VOICE) if spread is None else spread
    x = constant + of_fitness * np.clip(fitness, -1, 1) + of_deviations * np.log1p(max(deviations, 0.0))
    return np.asarray(np.minimum(_logistic(x + of_spread * np.log(apart + 0.005)), _HIGHEST[1]))


def _logistic(x: F64 | float) -> F64:
    return np.asarray(1 / (1 + np.exp(-np.asarray(x, np.float64))))
