"""Ctrl-C at moments that suit."""

import contextlib
import signal


def heard():
    """The command is ending: more of them would only disturb the cleaning up, and what is said about it."""
    _handle(signal.SIG_IGN)


@contextlib.contextmanager
def restored():
    """Afterwards it is heard as before."""
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        _handle(before)


@contextlib.contextmanager
def held_back():
    """It is held back until the end, or until what this yields is called.

    For work of libraries with threads of their own: those go on while the main thread is already cleaning up. And for
    locks written in Python, as those of concurrent.futures: an exception between their taking and their `with` leaves
    them locked, and a thread that wants one waits for ever.
    """
    caught, before = [], signal.getsignal(signal.SIGINT)

    def let_through():
        if caught:
            before(*caught.pop())

    def hold(*signalled):
        caught.append(signalled)

    if callable(before):
        _handle(hold)
    try:
        yield let_through
    finally:
        if signal.getsignal(signal.SIGINT) is hold:  # and not of `heard`
            _handle(before)
    let_through()


def _handle(handler):
    # Only the main thread is interrupted, and only it may ask. None stands for a handler that is not Python's.
    if handler is not None:
        with contextlib.suppress(ValueError):
            signal.signal(signal.SIGINT, handler)
