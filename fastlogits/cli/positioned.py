"""Reading and writing at a place of a file, from several threads at once, by what the system has for it."""

import os
import threading

if hasattr(os, "preadv"):

    def read_at(file, view, offset):
        return os.preadv(file.fileno(), [view], offset)

    def write_at(file, view, offset):
        return os.pwrite(file.fileno(), view, offset)

else:
    _lock = threading.Lock()  # a file has one position

    def read_at(file, view, offset):
        with _lock:
            file.seek(offset)
            return file.readinto(view)

    def write_at(file, view, offset):
        with _lock:
            file.seek(offset)
            return file.write(view)
