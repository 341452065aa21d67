"""splitmix64: the same random numbers for the same keys, on every machine and in any order.

Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
"""

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.uint64]

GOLDEN = 0x9E3779B97F4A7C15
"""What the state of the generator grows by from one number to the next, modulo 2^64."""


def finalise(words: Words) -> Words:
    """A random number for each state: spreads uint64 over all 64 bits, one to one."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


def mixed(words: Words, seed: int = 0) -> Words:
    """The number that follows each word as a state, `seed` + 1 steps on."""
    return finalise(words + np.uint64((seed + 1) * GOLDEN % 2**64))
