"""Timing several things against each other on a machine that is never quite quiet.

Each round takes one sample of every contender, in turn, so that whatever slows the machine for a while slows
all of them. A sample is the mean over as many calls as fill SAMPLE seconds, after a call that is not timed.
"""

import contextvars
import statistics
import time
import timeit
from collections.abc import Callable
from dataclasses import dataclass, field

SAMPLE = 0.005
# OpenMP's threads spin for some milliseconds after a region; the next contender has threads of its own.
PAUSE = 0.01
NOISY = 0.10


@dataclass
class Contender:
    """Something to time: `call` takes nothing; `reset`, not timed, restores what calls overwrite.

    A sample begins with restored data; of several calls, the later ones find what the earlier ones left.
    """

    call: Callable
    reset: Callable = lambda: None
    context: contextvars.Context = field(default_factory=contextvars.copy_context)
    samples: list = field(default_factory=list)
    timer: Callable = time.perf_counter

    def calibrate(self):
        """How many calls make a sample."""
        self.reset()
        self.calls = 1
        while (seconds := self._time(self.calls)) < SAMPLE / 4:
            self.calls *= 4
        self.calls = max(1, round(self.calls * SAMPLE / seconds))

    def sample(self):
        self.reset()
        self._time(1)
        self.reset()
        self.samples.append(self._time(self.calls) / self.calls)

    def singly(self, seconds):
        """The time of each of the calls that fill so many seconds, one at least, after a call that is not timed."""
        return self.context.run(self._singly, seconds)

    def _singly(self, seconds):
        found, call, reset, timer = [], self.call, self.reset, self.timer
        reset()
        call()
        end = time.perf_counter() + seconds
        while not found or time.perf_counter() < end:
            reset()
            begin = timer()
            call()
            found.append(timer() - begin)
        return found

    def _time(self, calls):
        return self.context.run(timeit.timeit, self.call, number=calls, timer=self.timer)

    @property
    def seconds(self):
        return statistics.median(self.samples)

    @property
    def best(self):
        """What the samples were like that nothing else slowed down."""
        return min(self.samples)

    @property
    def spread(self):
        """Distance between the quartiles of the samples, as a share of their median."""
        low, _, high = statistics.quantiles(self.samples, n=4, method="inclusive")
        return (high - low) / self.seconds


def take_turns(singly, budget, rounds=8):
    """Figures of single calls by name, from what times calls for as many seconds as it is told; `budget` for each."""
    samples = {name: [] for name in singly}
    for _ in range(rounds):
        for name, times in singly.items():
            time.sleep(PAUSE)
            samples[name] += times(budget / rounds)
    return {name: of_single_calls(found) for name, found in samples.items()}


def of_single_calls(samples):
    """Their median, and the 99th percentile: what one call in a hundred takes, or longer."""
    rare = sorted(samples)[len(samples) * 99 // 100]
    return {"seconds": statistics.median(samples), "rare": rare, "samples": len(samples)}


def race(contenders, rivals=(), budget=2.0, rounds=(5, 15), hopeless=2.0):
    """Sample the contenders (by name) in turn for `budget` seconds, within limits on the number of rounds.

    After three rounds, `rivals` that are `hopeless` times slower than the fastest of them are left out: they
    need not be known well.
    """
    for contender in contenders.values():
        contender.calibrate()
    rivals = [name for name in rivals if name in contenders]
    racing = dict(contenders)
    start, taken = time.perf_counter(), 0
    while taken < rounds[0] or (taken < rounds[1] and time.perf_counter() - start < budget):
        for contender in racing.values():
            time.sleep(PAUSE)
            contender.sample()
        taken += 1
        if taken == 3 and rivals:
            best = min(contenders[name].seconds for name in rivals)
            for name in rivals:
                if contenders[name].seconds > hopeless * best:
                    del racing[name]


def fastest(calls):
    """The fastest of a few calls, by the better of two looks at each."""
    if len(calls) == 1:
        return calls[0]
    return min(calls, key=lambda call: min(timeit.repeat(call, number=1, repeat=2)))
