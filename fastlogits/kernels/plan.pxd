cdef double scale_of(double logit_scale) noexcept nogil
cdef double prescale_of(double logit_scale) noexcept nogil
cdef int way_of(Py_ssize_t rows, Py_ssize_t classes, Py_ssize_t inner, int threads) noexcept nogil
cdef int gradient_way_of(Py_ssize_t rows, Py_ssize_t classes, Py_ssize_t inner, int threads) noexcept nogil
cdef int stats_way_of(Py_ssize_t rows, Py_ssize_t classes, Py_ssize_t inner, int threads,
                      Py_ssize_t top_k) noexcept nogil
cdef Py_ssize_t tile_lanes(Py_ssize_t classes, bint halves) noexcept nogil
cdef inline Py_ssize_t tiles_in(Py_ssize_t inner, Py_ssize_t lanes) noexcept nogil
cdef Py_ssize_t items_of(int way, Py_ssize_t rows, Py_ssize_t classes, Py_ssize_t inner, bint halves) noexcept nogil
cdef Py_ssize_t logits_of(int way, Py_ssize_t classes, bint halves) noexcept nogil
cdef int keep_of(int way, Py_ssize_t classes, bint in_results) noexcept nogil
cdef bint past_caches(int way, Py_ssize_t nbytes, Py_ssize_t last_cache, bint halves) noexcept nogil
cdef Py_ssize_t parts_of(Py_ssize_t items, Py_ssize_t logits, int threads) noexcept nogil
cdef Py_ssize_t sort_fields(Py_ssize_t classes) noexcept nogil
cdef Py_ssize_t room_of(Py_ssize_t classes) noexcept nogil
cdef Py_ssize_t field_of(Py_ssize_t room) noexcept nogil
cdef Py_ssize_t few_lanes(Py_ssize_t classes) noexcept nogil
cdef Py_ssize_t few_items(Py_ssize_t rows, Py_ssize_t classes, Py_ssize_t inner) noexcept nogil
