"""The time of every operation, by backend, dtype and size; a class for each, so that each has a page."""

import fastlogits

from .common import DTYPES, OPERATIONS, Inputs, check


class Operation:
    """Base of the classes below, with the asv settings they share: about a second for each figure."""

    param_names = ("backend", "dtype", "size")
    params = (("cython", "numba"), tuple(DTYPES), ("32x10", "65536x10", "4096x1000", "256x32000"))
    rounds = 2
    repeat = (3, 10, 0.4)
    sample_time = 0.02
    warmup_time = 0.05

    def setup(self, backend, dtype, size):
        operation, inputs = OPERATIONS[self.operation], Inputs(size, dtype)
        # In place, every call but the first works on the gradient of the one before; that takes as long.
        self.arrays, self.call = [getattr(inputs, field).copy() for field in operation.takes], operation.call
        try:
            self.settings = fastlogits.settings(backend=backend)
            self.settings.__enter__()
            result = self.call(fastlogits, *self.arrays)
        except (AttributeError, ImportError) as error:
            raise NotImplementedError("this commit has no such operation or backend") from error
        check(self.operation, result, inputs)

    def teardown(self, *_):
        self.settings.__exit__(None, None, None)

    def run(self, *_):
        self.call(fastlogits, *self.arrays)


def class_of(name):
    title = "".join(word.capitalize() for word in name.split("_"))
    return type(title, (Operation,), {"__module__": __name__, "operation": name, "time_call": Operation.run})


globals().update({cls.__name__: cls for cls in map(class_of, OPERATIONS)})


class Reference(Operation):
    """The NumPy backend: not made for speed, but not to be lost from sight."""

    param_names = ("operation",)
    params = (tuple(OPERATIONS),)

    def setup(self, operation):
        self.operation = operation
        super().setup("numpy", "float32", "128x1000")

    time_call = Operation.run


class Threads(Operation):
    """How loss and gradient in place scale."""

    param_names = ("threads", "size")
    params = ((1, 2, 4), ("4096x1000", "256x32000"))
    operation = "loss_grad_in_place"

    def setup(self, threads, size):
        super().setup("cython", "float32", size)
        self.threads = fastlogits.settings(num_threads=threads)
        self.threads.__enter__()

    def teardown(self, *_):
        self.threads.__exit__(None, None, None)
        super().teardown()

    time_call = Operation.run
