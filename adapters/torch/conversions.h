/* Between types of arrays, as many as calls on tensors need. */
#pragma once
#include <stdint.h>
#include "fastlogits.h"

static float widened(uint16_t bfloat16) {
    union { uint32_t bits; float number; } word = {(uint32_t)bfloat16 << 16};
    return word.number;
}

/* To the nearest, even where that is not one. */
static uint16_t narrowed(float number) {
    union { float number; uint32_t bits; } word = {number};
    return number != number ? 0x7fc0 : (uint16_t)((word.bits + 0x7fff + (word.bits >> 16 & 1)) >> 16);
}

#define CONVERT(from, to, function) for (i = 0; i < n; i++) ((to *)y)[i] = (to)function(((const from *)x)[i])

/* Whether the conversion is among those that are needed. */
static int convert(const void *x, int from, void *y, int to, int64_t n) {
    int64_t i;
    if (from == FL_BFLOAT16 && to == FL_FLOAT32) CONVERT(uint16_t, float, widened);
    else if (from == FL_BFLOAT16 && to == FL_FLOAT64) CONVERT(uint16_t, double, widened);
    else if (from == FL_FLOAT32 && to == FL_FLOAT64) CONVERT(float, double, );
    else if (from == FL_FLOAT64 && to == FL_FLOAT32) CONVERT(double, float, );
    else if (from == FL_FLOAT32 && to == FL_BFLOAT16) CONVERT(float, uint16_t, narrowed);
    else return 0;
    return 1;
}
