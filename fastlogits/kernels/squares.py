"""Squares of numbers between rows and lanes for the interpreter; backends/_numba_squares.py has the same for Numba.

A square has 16 bytes of a row on each side; it is moved for as many rows as lanes have numbers.
"""

from fastlogits.kernels import machine


def side(x):
    """How many numbers the side of a square has."""
    return 16 // x.itemsize


def to_lanes(x, at, stride, lanes, to, step):
    """lanes[to + c step + j] = x[at + j stride + c] for the classes c of a square and the rows j of a vector"""
    for j in range(machine.width(x)):
        for c in range(side(x)):
            lanes[to + c * step + j] = x[at + j * stride + c]


def to_rows(lanes, at, step, x, to, stride):
    """x[to + j stride + c] = lanes[at + c step + j]"""
    for j in range(machine.width(x)):
        for c in range(side(x)):
            x[to + j * stride + c] = lanes[at + c * step + j]
