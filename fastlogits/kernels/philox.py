"""Philox4x32-10, a random function of a key and a counter (Salmon, Moraes, Dror, Shaw 2011, Parallel random numbers:
as easy as 1, 2, 3; it passes TestU01's BigCrush).

Words have 32 bits and stand in 64. A multiplier less 2^32 keeps its products within 64 bits with a sign: m w is
(m - 2^32) w + 2^32 w.
"""

from fastlogits.kernels.sizes import SIEVE

WORD = 0xFFFFFFFF
MULTIPLIER_0, MULTIPLIER_1 = 0xD2511F53 - 2**32, 0xCD9E8D57 - 2**32
WEYL_0, WEYL_1 = 0x9E3779B9, 0xBB67AE85
ROUNDS = 10


def high_word(product, word):
    return ((product >> 32) + word) & WORD


def low_word(product):
    return product & WORD


def uniform_of(word_0, word_1):
    """A multiple of 2^-53 in [0, 1)"""
    return ((word_0 >> 5) * 67108864.0 + (word_1 >> 6)) / 9007199254740992.0


def uniform(key_0, key_1, row):
    """From the first two words of the block with counter `row`"""
    word_0 = row & WORD
    word_1 = row >> 32
    word_2 = 0
    word_3 = 0
    for _ in range(ROUNDS):
        product_0 = MULTIPLIER_0 * word_0
        product_1 = MULTIPLIER_1 * word_2
        word_0, word_2 = (
            high_word(product_1, word_2) ^ word_1 ^ key_0,
            high_word(product_0, word_0) ^ word_3 ^ key_1,
        )
        word_1 = low_word(product_1)
        word_3 = low_word(product_0)
        key_0 = (key_0 + WEYL_0) & WORD
        key_1 = (key_1 + WEYL_1) & WORD
    return uniform_of(word_0, word_1)


def lane_uniforms(task, row, n, work):
    """total_j = the number of row + j, for n lanes that take each round together"""
    for j in range(n):
        work.words[j] = task.numbers[row + j] & WORD
        work.words[SIEVE + j] = task.numbers[row + j] >> 32
        work.words[2 * SIEVE + j] = 0
        work.words[3 * SIEVE + j] = 0
    key_0 = task.key_0
    key_1 = task.key_1
    for _ in range(ROUNDS):
        for j in range(n):
            word_0 = work.words[j]
            word_2 = work.words[2 * SIEVE + j]
            product_0 = MULTIPLIER_0 * word_0
            product_1 = MULTIPLIER_1 * word_2
            work.words[j] = high_word(product_1, word_2) ^ work.words[SIEVE + j] ^ key_0
            work.words[2 * SIEVE + j] = high_word(product_0, word_0) ^ work.words[3 * SIEVE + j] ^ key_1
            work.words[SIEVE + j] = low_word(product_1)
            work.words[3 * SIEVE + j] = low_word(product_0)
        key_0 = (key_0 + WEYL_0) & WORD
        key_1 = (key_1 + WEYL_1) & WORD
    for j in range(n):
        work.total[j] = uniform_of(work.words[j], work.words[SIEVE + j])
