"""What type checkers are told: results are of the type of the logits, or NumPy arrays where those are lists."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Protocol

    import numpy as np
    import typing_extensions

    class _Array(Protocol):
        @property
        def shape(self) -> Any: ...

    class OneTemperature(Protocol):
        """What holds a temperature, as `fastlogits.calibration.TemperatureFit`."""

        @property
        def temperature(self) -> float: ...

    class Calibration(Protocol):
        """What makes other logits of logits."""

        def apply(self, logits: Any, axis: int = -1, /) -> Any: ...

    Array = typing_extensions.TypeVar("Array", bound=_Array, default=np.ndarray[Any, Any])
    Lists = Sequence[Any] | float
    Axis = int | tuple[int, ...] | None
    Temperature = float | _Array | list[Any] | tuple[Any, ...] | OneTemperature | Calibration
else:
    Array = TypeVar("Array")

Backend = Literal["auto", "cython", "numba", "numpy"]
Reduction = Literal["mean", "sum", "none"]
TemperatureOrder = Literal["temperature_first", "temperature_last"]
