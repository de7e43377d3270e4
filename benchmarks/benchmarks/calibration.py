"""The time of calibration, of logits that the optimum is known for."""

import numpy as np

import fastlogits

try:
    from fastlogits import calibration
except ImportError:  # of an older commit
    calibration = None

TEMPERATURE = 1.7


class Calibration:
    param_names = ("backend", "size")
    params = (("cython", "numba"), ("65536x10", "8192x1000"))
    rounds = 2
    repeat = (3, 10, 0.4)
    sample_time = 0.02
    warmup_time = 0.05

    def setup(self, backend, size):
        if calibration is None:
            raise NotImplementedError("this commit has no calibration")
        rng = np.random.default_rng(0)
        self.logits = 2 * rng.standard_normal([int(n) for n in size.split("x")], np.float32)
        noise = rng.gumbel(size=self.logits.shape).astype(np.float32)
        self.labels = (self.logits / TEMPERATURE + noise).argmax(axis=1)
        self.settings = fastlogits.settings(backend=backend)
        self.settings.__enter__()
        np.testing.assert_allclose(calibration.fit_temperature(self.logits, self.labels).temperature, TEMPERATURE, 0.05)
        assert calibration.expected_calibration_error(self.logits, self.labels, temperature=TEMPERATURE) < 0.02
        calibration.classwise_calibration_error(self.logits, self.labels)

    def teardown(self, *_):
        self.settings.__exit__(None, None, None)

    def time_fit_temperature(self, *_):
        calibration.fit_temperature(self.logits, self.labels)

    def time_expected_calibration_error(self, *_):
        calibration.expected_calibration_error(self.logits, self.labels)

    def time_classwise_calibration_error(self, *_):
        calibration.classwise_calibration_error(self.logits, self.labels)
