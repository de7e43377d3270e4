cimport cython
from libc cimport math
from fastlogits.kernels cimport primitives, softmax
from fastlogits.kernels.primitives cimport real

@cython.locals(spans=Py_ssize_t)
cdef Py_ssize_t room_of(Py_ssize_t classes) noexcept nogil

cdef Py_ssize_t size_of(Py_ssize_t room) noexcept nogil

@cython.locals(room=Py_ssize_t)
cdef double* section(double* scratch, Py_ssize_t index) noexcept nogil

@cython.locals(j=Py_ssize_t, logits="real*", z="real*", divisor=real)
cdef real* scaled(real* x, Py_ssize_t at, Py_ssize_t size, double temperature, real* work, int storage) noexcept nogil

@cython.locals(span=Py_ssize_t, start=Py_ssize_t, size=Py_ssize_t, peaks="double*", peak=double, z="real*")
cdef double find_peaks(real* x, Py_ssize_t at, Py_ssize_t classes, double temperature, double* scratch, real* work,
                       int storage) noexcept nogil

@cython.locals(j=Py_ssize_t, z="real*")
cdef void widen(real* x, Py_ssize_t at, Py_ssize_t size, double temperature, double* wide, real* work,
                int storage) noexcept nogil

@cython.locals(block=Py_ssize_t, start=Py_ssize_t, size=Py_ssize_t, wide="double*", total=double)
cdef double row_mass(real* x, Py_ssize_t at, Py_ssize_t classes, double temperature, double peak, double* scratch,
                     real* work, int storage) noexcept nogil

@cython.locals(span=Py_ssize_t, start=Py_ssize_t, size=Py_ssize_t, j=Py_ssize_t, n=Py_ssize_t, more=Py_ssize_t,
               room=Py_ssize_t, peaks="double*", survivors="double*", ids="double*", z="real*")
cdef Py_ssize_t gather(real* x, Py_ssize_t at, Py_ssize_t classes, double temperature, double bound, double* scratch,
                       real* work, int storage) noexcept nogil

cdef double distance(double key, double high, double unit, double rate) noexcept nogil

@cython.locals(place=double)
cdef Py_ssize_t bucket(double key, double high, double unit, double rate, Py_ssize_t last) noexcept nogil

cdef double unit_of(double span) noexcept nogil

@cython.locals(narrowed="double*", narrowed_mass="double*", histogram="double*", found="double*", before=double,
               high=double, low=double, unit=double, rate=double, gap=double, last=Py_ssize_t,
               b=Py_ssize_t, i=Py_ssize_t, chosen=Py_ssize_t, size=Py_ssize_t)
cdef double select(double* key, double* mass, Py_ssize_t n, double total, double rest, double* scratch) noexcept nogil

@cython.locals(ones="double*", i=Py_ssize_t)
cdef double nth(double* key, Py_ssize_t n, Py_ssize_t count, double* scratch) noexcept nogil

@cython.locals(i=Py_ssize_t, count=Py_ssize_t)
cdef Py_ssize_t count_at(double* key, Py_ssize_t n, double threshold) noexcept nogil

@cython.locals(above=Py_ssize_t, i=Py_ssize_t, kept=Py_ssize_t, place=Py_ssize_t, at_threshold=Py_ssize_t,
               survivors="double*", mass="double*", ids="double*")
cdef Py_ssize_t keep(double* key, Py_ssize_t n, double threshold, Py_ssize_t first, Py_ssize_t last, int ties,
                     Py_ssize_t min_keep, double* scratch) noexcept nogil

@cython.locals(survivors="double*", mass="double*", found="double*", rest=double, threshold=double,
               at_threshold=Py_ssize_t, stay=Py_ssize_t, first=Py_ssize_t)
cdef Py_ssize_t keep_top_p(Py_ssize_t n, double top_p, double total, Py_ssize_t min_keep, double* scratch) noexcept nogil

@cython.locals(survivors="double*", mass="double*", lowest=double, i=Py_ssize_t)
cdef Py_ssize_t keep_probable(Py_ssize_t n, double cutoff, double total, int ties, Py_ssize_t min_keep,
                              double* scratch) noexcept nogil

@cython.locals(survivors="double*", mass="double*", terms="double*", i=Py_ssize_t)
cdef double mean(Py_ssize_t n, double peak, double total, double* scratch) noexcept nogil

@cython.locals(survivors="double*", mass="double*", key="double*", center=double, gap=double, threshold=double,
               i=Py_ssize_t)
cdef Py_ssize_t keep_typical(Py_ssize_t n, double typical_p, double peak, double total, Py_ssize_t min_keep,
                             double* scratch) noexcept nogil

@cython.locals(entropy=double)
cdef double eta_cutoff(Py_ssize_t n, double eta, double peak, double total, double* scratch) noexcept nogil

@cython.locals(top_k=Py_ssize_t, count=Py_ssize_t, spans=Py_ssize_t, bound=double, least=double, peaks="double*")
cdef double first_bound(double* rules, Py_ssize_t at, Py_ssize_t classes, double peak, double total,
                        double* scratch) noexcept nogil

@cython.locals(min_keep=Py_ssize_t, top_k=Py_ssize_t, top_p=double, min_p=double, typical_p=double, epsilon=double,
               eta=double, temperature=double, survivors="double*", mass="double*", peak=double, by_share=bint,
               whole=bint, total=double, bound=double, n=Py_ssize_t, left=double)
cdef Py_ssize_t filter_row(real* x, Py_ssize_t at, double* rules, Py_ssize_t rules_at, Py_ssize_t classes,
                           double* scratch, real* work, int storage) noexcept nogil

@cython.locals(by_rank=bint, by_mass=bint, by_entropy=bint)
cdef bint unfiltered(double* rules, Py_ssize_t at, Py_ssize_t classes) noexcept nogil

@cython.locals(values="real*", j=Py_ssize_t, block=Py_ssize_t, start=Py_ssize_t)
cdef void fill(real* y, Py_ssize_t at, Py_ssize_t n, double value, real* work, int storage) noexcept nogil

@cython.locals(block=Py_ssize_t, start=Py_ssize_t, size=Py_ssize_t, z="real*")
cdef void divide_row(real* x, Py_ssize_t at, real* y, Py_ssize_t y_at, Py_ssize_t classes, double temperature,
                     double* scratch, real* work, int storage) noexcept nogil

@cython.locals(survivors="double*", ids="double*", value="real*", row=Py_ssize_t, at=Py_ssize_t, y_at=Py_ssize_t,
               rules_at=Py_ssize_t, temperature=double, n=Py_ssize_t, i=Py_ssize_t)
cdef Py_ssize_t filter_rows(real* x, Py_ssize_t x_stride, real* y, Py_ssize_t y_stride, double* rules,
                      Py_ssize_t rules_stride, Py_ssize_t classes, double* scratch, real* work, int storage,
                      Py_ssize_t start, Py_ssize_t stop) noexcept nogil
