"""splitmix64 against its published numbers."""

import numpy as np

from sparkrec.splitmix64 import mixed


def test_first_numbers_of_state_0() -> None:
    found = [int(mixed(np.zeros(1, np.uint64), seed)[0]) for seed in range(3)]
    assert found == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]


def test_one_to_one_on_what_it_is_given() -> None:
    words = np.arange(100_000, dtype=np.uint64)
    assert len(np.unique(mixed(words, seed=7))) == len(words)
    assert words[-1] == 99_999
