"""Threads that read, compute and write, where the system allows any."""

import contextlib
from concurrent.futures import Future, ThreadPoolExecutor


class Workers(ThreadPoolExecutor):
    """As many threads as can be started, up to a number; without one, each call is done by who submits it."""

    def _adjust_thread_count(self):
        with contextlib.suppress(RuntimeError):
            super()._adjust_thread_count()

    def submit(self, call, *args):
        future = super().submit(call, *args)
        if self._threads or not future.cancel():
            return future
        done = Future()
        try:
            done.set_result(call(*args))
        except Exception as error:
            done.set_exception(error)
        return done
