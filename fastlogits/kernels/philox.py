"""Philox4x32-10, a random function of a key and a counter (Salmon, Moraes, Dror, Shaw 2011, Parallel random numbers:
as easy as 1, 2, 3; it passes TestU01's BigCrush).

Words have 32 bits and stand in 64: no step leaves the non-negative numbers, on which C, Numba and Python agree.
"""

WORD = 0xFFFFFFFF
MULTIPLIER_0, MULTIPLIER_1 = 0xD2511F53, 0xCD9E8D57
WEYL_0, WEYL_1 = 0x9E3779B9, 0xBB67AE85


def product_high(a, b):
    """The upper word of a b."""
    return (a * (b >> 16) + (a * (b & 0xFFFF) >> 16)) >> 16


def product_low(a, b):
    """The lower word of a b."""
    return (a * (b & 0xFFFF) + ((a * (b >> 16) & 0xFFFF) << 16)) & WORD


def uniform(key_0, key_1, row):
    """A multiple of 2^-53 in [0, 1), from the first two words of the block with counter `row`."""
    word_0 = row & WORD
    word_1 = row >> 32
    word_2 = 0
    word_3 = 0
    for _ in range(10):
        next_0 = product_high(MULTIPLIER_1, word_2) ^ word_1 ^ key_0
        next_2 = product_high(MULTIPLIER_0, word_0) ^ word_3 ^ key_1
        word_1 = product_low(MULTIPLIER_1, word_2)
        word_3 = product_low(MULTIPLIER_0, word_0)
        word_0 = next_0
        word_2 = next_2
        key_0 = (key_0 + WEYL_0) & WORD
        key_1 = (key_1 + WEYL_1) & WORD
    return ((word_0 >> 5) * 67108864.0 + (word_1 >> 6)) / 9007199254740992.0
