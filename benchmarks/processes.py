"""Processes of a benchmark: workers that answer lines, and neighbours that compute without end. None outlives its
parent.
"""

import contextlib
import os
import subprocess
import sys

# It looks every few hundredths of a second whether whoever started it is still there.
NEIGHBOUR = """
import os, sys
while os.getppid() == int(sys.argv[1]):
    for _ in range(1_000_000):
        pass
"""


class Failure(Exception):
    """The benchmark cannot say anything."""


class Worker:
    """A process that answers one line for each that it is given."""

    def __init__(self, command, environment):
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.process = subprocess.Popen(command, env=environment, text=True, **pipes)

    def ask(self, *words):
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write("\t".join(map(str, words)) + "\n")
            self.process.stdin.flush()
        return self.answer()

    def answer(self):
        answer = self.process.stdout.readline()
        if not answer:
            raise Failure(f"a worker ended with status {self.process.wait()}")
        return answer.rstrip("\n")

    def close(self):
        self.process.kill()
        self.process.communicate()


@contextlib.contextmanager
def held_to(number):
    """This process, and those that it starts, on so many processors."""
    processors = sorted(os.sched_getaffinity(0))
    if number > len(processors):
        raise Failure(f"{number} threads need as many processors: this process may use {len(processors)}")
    os.sched_setaffinity(0, processors[:number])
    try:
        yield
    finally:
        os.sched_setaffinity(0, processors)


@contextlib.contextmanager
def workers(*arguments):
    """A worker for each (command, environment)."""
    with contextlib.ExitStack() as running:
        yield [running.enter_context(contextlib.closing(Worker(*each))) for each in arguments]


@contextlib.contextmanager
def neighbours(number):
    """Processes that compute without end."""
    running = []
    try:
        for _ in range(number):
            running.append(subprocess.Popen([sys.executable, "-I", "-S", "-c", NEIGHBOUR, str(os.getpid())]))
        yield running
    finally:
        for process in running:
            process.kill()
        for process in running:
            process.wait()


def import_milliseconds(module, beyond, runs=5):
    """What importing a module takes where another has been imported: the best of some fresh processes."""
    code = f"import time, {beyond}; t = time.perf_counter(); import {module}; print(time.perf_counter() - t)"
    found = (subprocess.check_output([sys.executable, "-c", code], text=True) for _ in range(runs))
    return min(map(float, found)) * 1000
