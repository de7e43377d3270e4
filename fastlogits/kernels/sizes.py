"""How much is done at once, and what scratch memory holds of it."""

BLOCK = 1024  # logits of a row that are handled at once
LANES = 256  # columns side by side
SHORT = 128  # rows of few classes that are transposed together
ROWS = 16  # rows of one block that take each step together
TERMS = 16  # terms that a lane adds before its sum goes to a double
GROUPS = 16  # groups of a block whose maxima are kept

FIELD = 296  # LANES, room for a vector, and an odd number of cache lines
SLOT = 1040
TILE = 4112

DISCARD, KEEP, KEEP_PADDED = 0, 1, 2  # what becomes of exponentials
NONE, PLAIN, WEIGHTED = 0, 1, 2  # the moment that goes with a sum of them

IGNORED, SOFT = -1, -2  # in the place of a label
NOTHING = -1  # in the place of a class that dominates

PIECE = 16  # blocks of a long row that a thread takes at once
BLOCK_FIELDS = 5
PARKED = 16  # numbers of a row that threads share, beside those of its blocks

CANDIDATES = 120  # of the largest of a row, a lane of a vector; two numbers each fit a tile
SPAN = 256  # logits of which the filters keep the largest
BUCKETS = 2048  # of a histogram of survivors, and of a radix sort: a digit has 11 bits
MOST_ROOM = 1 << 20  # survivors of a long row for which there is room to begin with
SURVIVOR_FIELDS = 8
SIEVE = 64  # rows of few classes that are filtered together, at most
SIEVE_RULES, SIEVE_WORDS = 512, 256
SIEVE_FIELD = 72
SIEVE_TILE = 4104
NO_ROOM = -2  # in the place of a number of survivors

# Where the parameters of a row's filters are.
TEMPERATURE, TOP_K, TOP_P, MIN_P, TYPICAL_P, EPSILON, ETA, MIN_KEEP, RULES = 0, 1, 2, 3, 4, 5, 6, 7, 8
