"""Results that go past the caches: the bits are those of results in place, which never do."""

from subprocesses import run

from fastlogits._memory import last_cache

CODE = """
    import numpy as np

    import fastlogits._memory

    fastlogits._memory.LAST_CACHE = 1  # before the backends ask: everything is too large for it
    import fastlogits

    try:
        from ml_dtypes import bfloat16
    except ImportError:
        bfloat16 = np.float16

    # Whole lines, parts of lines only, short rows, rows of one block and of several, columns
    SHAPES = [(300, 16), (1, 1), (7, 3), (131, 10), (9, 1000), (40, 2051), (5, 21, 300), (3, 5, 4)]
    rng = np.random.default_rng(0)


    def arrays(shape, dtype, first):
        size = int(np.prod(shape))
        return (rng.standard_normal(size + first)[first:].reshape(shape).astype(dtype) for _ in range(2))


    def at(first, shape, dtype):
        memory = np.full(int(np.prod(shape)) + first + 64, 7, dtype)
        return memory, memory[first : first + int(np.prod(shape))].reshape(shape)


    checked = 0
    for dtype in (np.float32, np.float64, np.float16, bfloat16):
        for shape in SHAPES:
            for first in (0, 1, 13):
                x, y = arrays(shape, dtype, first)
                labels = rng.integers(0, shape[1], shape[:1] + shape[2:])
                for threads in (1, 3):
                    with fastlogits.settings(num_threads=threads):
                        for function, *arguments in (
                            (fastlogits.softmax, x),
                            (fastlogits.log_softmax, x),
                            (fastlogits.softmax_backward, x, y),
                            (fastlogits.log_softmax_backward, x, y),
                        ):
                            memory, out = at(first, shape, dtype)
                            function(*arguments, axis=1, out=out)
                            mine = arguments[0].copy()
                            function(mine, *arguments[1:], axis=1, out=mine)
                            np.testing.assert_array_equal(out, mine, strict=True)
                            assert (memory[:first] == 7).all() and (memory[first + out.size :] == 7).all()
                            checked += 1
                        memory, out = at(first, shape, dtype)
                        options = {"axis": 1, "softcap": 2.0 if dtype is np.float32 else None}
                        mine = x.copy()
                        loss, _ = fastlogits.cross_entropy_with_grad(x, labels, out=out, **options)
                        same, _ = fastlogits.cross_entropy_with_grad(mine, labels, out=mine, **options)
                        assert loss == same
                        np.testing.assert_array_equal(out, mine, strict=True)
                        assert (memory[:first] == 7).all() and (memory[first + out.size :] == 7).all()
    print(checked)
    """


def test_streamed_results(compiled_backend):
    assert int(run(CODE, timeout=280, FASTLOGITS_BACKEND=compiled_backend)) == 4 * 8 * 3 * 2 * 4


def test_a_system_that_does_not_say_its_cache(tmp_path):
    (tmp_path / "size").write_text("1536K\n")
    assert last_cache(tmp_path / "size") == 1536 << 10
    (tmp_path / "size").write_text("unknown\n")
    assert last_cache(tmp_path / "size") == last_cache(tmp_path / "missing") == 0
