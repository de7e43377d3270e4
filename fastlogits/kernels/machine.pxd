# What Cython believes of these types is only good for telling them apart: `real` is a float or a double, `lanes` a
# vector of them, `stored` what an array holds, all as machine.h has it; the operators between them are the C compiler's.
cdef extern from "machine.h" nogil:
    ctypedef float real
    ctypedef double lanes
    ctypedef struct stored

    const Py_ssize_t WIDTH
    const Py_ssize_t SIDE
    const bint DOUBLE
    const bint HALVES
    const bint NARROW
    const bint SQUARES
    const Py_ssize_t DIGITS
    const double MAGIC
    const double LOWEST_EXPONENT
    const double TINY
    const double INF "(double)INFINITY"
    const double NAN "(double)NAN"

    lanes splat(double value)
    lanes fma "fma_lanes"(lanes a, lanes b, lanes c)
    lanes larger(lanes x, lanes m)
    lanes magnitude(lanes v)
    lanes copy_sign(lanes size, lanes sign)
    lanes zero_below(lanes d, lanes floor, lanes value)
    lanes zero_where_equal(lanes a, lanes b, lanes value)
    lanes zero_nan(lanes v)
    lanes where_larger(lanes x, lanes m, lanes a, lanes b)
    lanes where_above(lanes x, lanes m, lanes a, lanes b)
    lanes two_to(lanes shifted)
    lanes exponent(lanes u)
    lanes mantissa(lanes u)
    double double_fma(double a, double b, double c)
    double double_two_to(double shifted)
    double double_exponent(double u)
    double double_mantissa(double u)

    lanes evens(lanes a, lanes b)
    lanes odds(lanes a, lanes b)
    lanes zip_low(lanes a, lanes b)
    lanes zip_high(lanes a, lanes b)

    double add_lanes(lanes v)
    double add_lanes_exactly(lanes v)
    void add_eight(lanes v0, lanes v1, lanes v2, lanes v3, lanes v4, lanes v5, lanes v6, lanes v7, double* sums,
                   Py_ssize_t at)
    real largest(lanes v)
    real lane "lane_of"(lanes v)
    bint any_nan(lanes a, lanes b)
    Py_ssize_t count_above(lanes x, lanes limit)
    Py_ssize_t count_equal(lanes a, lanes b)
    Py_ssize_t first_equal(lanes a, lanes b)
    Py_ssize_t first_nan(lanes x)
    Py_ssize_t first_above(lanes x, lanes limit)
    Py_ssize_t digit "digit_of"(double x, Py_ssize_t place)
    void add_to(double* sums, Py_ssize_t at, lanes v)
    void add_exactly_to(double* sums, double* lost, Py_ssize_t at, lanes v)

    lanes load(void* x, Py_ssize_t at)
    lanes keep_first(lanes v, Py_ssize_t n)
    lanes load_tail(void* x, Py_ssize_t at, Py_ssize_t n, double padding)
    void save(void* y, Py_ssize_t at, lanes v)
    void save_tail(void* y, Py_ssize_t at, Py_ssize_t n, lanes v)
    void save_past(void* y, Py_ssize_t at, lanes v)
    void end_streams()
    void prefetch(void* x, Py_ssize_t at)
    void prefetch_four(void* x, Py_ssize_t at)
    Py_ssize_t until_line(void* y, Py_ssize_t at)
    real number(void* x, Py_ssize_t at)
    void put(void* y, Py_ssize_t at, double value)
    bint is_scratch(void* x)
    real* in_place(void* x)
    double* stretch(double* x, Py_ssize_t at)
    real* stretch_real(real* x, Py_ssize_t at)
    lanes* some_lanes(Py_ssize_t n)
    real cast(double value)
    Py_ssize_t whole(double value)
    void square_to_lanes(void* x, Py_ssize_t at, Py_ssize_t stride, real* to, Py_ssize_t to_at, Py_ssize_t step)
    void square_to_rows(real* x, Py_ssize_t at, Py_ssize_t step, void* to, Py_ssize_t to_at, Py_ssize_t stride)

# An array or scratch memory; a function may take two of either kind.
ctypedef fused place:
    real
    stored

ctypedef fused other_place:
    real
    stored
