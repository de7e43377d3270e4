from fastlogits.kernels.machine cimport lanes

cdef inline lanes exp_lanes(lanes d, lanes rate, lanes floor) noexcept nogil
cdef inline lanes exp2_near(lanes f) noexcept nogil
cdef inline double floor_of(double scale) noexcept nogil
cdef inline lanes flush_lanes(lanes v) noexcept nogil
cdef inline lanes tanh_lanes(lanes u) noexcept nogil
cdef inline lanes sech2_lanes(lanes u) noexcept nogil
cdef inline double log1p(double x) noexcept nogil
cdef inline lanes log1p_lanes(lanes x) noexcept nogil
cdef inline double exp(double d) noexcept nogil
cdef inline double finite_peak(double peak) noexcept nogil
cdef inline double flush(double value) noexcept nogil
cdef inline double weigh(double weight, double value) noexcept nogil
cdef inline bint beats(double x, double best) noexcept nogil
cdef inline double rounded_away(double a, double b) noexcept nogil
