"""How files are cut into blocks."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

from fastlogits.cli.plan import HELD, PAGE, plan
from fastlogits.cli.regions import lengths, regions, runs, steps

SHAPES = [(), (7,), (5, 6), (3, 4, 5), (1, 9, 1, 4), (0, 3), (3, 0)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("limit", [1, 8, 50, 10**9])
def test_regions_cover_everything_once(shape, limit):
    seen = np.zeros(shape, int)
    step = steps(shape, 4, limit)
    for region in regions(shape, step):
        seen[region] += 1
        assert math.prod(lengths(region)) * 4 <= max(limit, 4)
    assert (seen == 1).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_runs_are_the_bytes_of_a_region(shape):
    whole = np.arange(math.prod(shape), dtype=np.uint16).reshape(shape)
    memory = whole.tobytes()
    for limit in (2, 8, 30, 1000):
        for region in regions(shape, steps(shape, 2, limit)):
            starts, length = runs(shape, region, 2)
            assert b"".join(memory[start : start + length] for start in starts) == whole[region].tobytes()


def test_runs_are_as_long_as_can_be():
    assert runs((4, 5, 6), (slice(1, 3), slice(0, 5), slice(0, 6)), 2) == ([60], 120)
    assert runs((4, 5, 6), (slice(1, 3), slice(2, 4), slice(0, 6)), 2) == ([84, 144], 24)


def test_pieces_of_whole_chunks():
    """Of one at least: parts of it would decode it again and again."""
    assert steps((100, 100), 1, 3500, chunks=(10, 10)) == (30, 100)
    assert steps((100, 100), 1, 500, chunks=(10, 10)) == (10, 50)
    assert steps((100, 100), 1, 70, chunks=(10, 50)) == (10, 50)
    assert steps((100, 95), 1, 1, order=[0], chunks=(30, 200)) == (30, 95)
    assert steps((0, 5), 4, 1, chunks=(1, 2)) == (0, 5)


def source(shape, **more):
    """What a plan asks of an array in a file."""
    return SimpleNamespace(shape=shape, **{"chunks": None, "ordered": False, "fortran": False} | more)


def planned(shape, axis, memory, threads=2, *, copied=False, **more):
    found = plan(source(shape, **more), axis, 4, memory, threads, copied=copied)
    assert math.prod(found.step) * 4 * HELD * found.workers <= max(memory, 4 * HELD)
    assert found.count == len(list(found.blocks()))
    return found


def test_rows_fit_into_the_cache():
    found = planned((10**6, 1000), 1, 512 << 20)
    assert found.step == (262, 1000)
    assert found.workers == 3


def test_long_rows_are_taken_whole_while_they_fit():
    found = planned((100, 10**7), 1, 512 << 20)
    assert found.step == (1, 10**7)
    assert found.whole_rows
    assert found.workers == 3


def test_longer_rows_have_fewer_workers():
    found = planned((100, 3 * 10**7), 1, 512 << 20)
    assert found.whole_rows
    assert found.workers == 1


def test_rows_that_do_not_fit_come_in_pieces():
    found = planned((3, 10**9), 1, 512 << 20)
    assert found.step == (1, (512 << 20) // 16)
    assert not found.whole_rows
    assert found.count == 3


def test_columns_are_as_wide_as_the_memory_allows():
    found = planned((1000, 10**7), 0, 512 << 20)
    assert found.whole_rows
    assert found.step[1] * 4 > 2 * PAGE


def test_narrow_columns_come_in_pieces_of_classes():
    """Rather than to read every page again for every block."""
    found = planned((10**6, 5000), 0, 64 << 20)
    assert not found.whole_rows
    assert found.step[1] == 5000


def test_middle_axis():
    found = planned((50, 1000, 20), 1, 512 << 20)
    assert found.step == (13, 1000, 20)


def test_the_memory_decides_the_order():
    """In Fortran order the first axis runs fastest."""
    found = planned((1000, 10**6), 0, 512 << 20, fortran=True)
    assert found.step == (1000, 262)
    first, second, *_ = found.blocks()
    assert first == (slice(0, 1000), slice(0, 262))
    assert second == (slice(0, 1000), slice(262, 524))


def test_what_is_decoded_in_order_is_cut_along_rows_alone():
    found = planned((10**6, 5000), 0, 64 << 20, ordered=True)
    assert found.step[1] == 5000
    assert not found.whole_rows


def test_a_chunk_is_the_least():
    """By one worker, where it is larger than the memory."""
    found = plan(source((1000, 10**7), chunks=(1000, 10**4)), 1, 4, 16 << 20, 2)
    assert (found.step, found.workers) == ((1000, 10**4), 1)


def test_chunks_are_cut_where_rows_must_be_whole():
    found = plan(source((1000, 10**5), chunks=(1000, 10**3)), 1, 4, 16 << 20, 2, in_pieces=False)
    assert found.whole_rows
    assert math.prod(found.step) * 4 * HELD * found.workers <= 16 << 20


@pytest.mark.parametrize("classes", [0, 1, 3])
def test_rows_of_few_classes_are_limited_too(classes):
    """By what their results take."""
    assert planned((20_000_000, classes), 1, 48 << 20).step[0] <= 1 << 16


@pytest.mark.parametrize("shape", [(1_000_000, 40), (20_000_000, 2), (40_000, 1000), (5, 400_000, 3), (300_000, 4, 5)])
@pytest.mark.parametrize("axis", [0, 1])
def test_transposed_results_are_written_by_the_page(shape, axis):
    found = planned(shape, axis, 512 << 20, fortran=True, copied=True)
    region = next(iter(regions(shape, found.step)))
    assert runs(shape, region, 4)[1] >= min(PAGE, shape[-1] * 4)
