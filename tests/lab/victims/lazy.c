// main of the lazy build: what it calls of libsys is bound when it is first called, through __stubs and __stub_helper.
#include "sys.h"

long lazy_sum(long a, long b, long c, long d, long e, long f);
long lazy_twice(long a);
double lazy_scale(double a, double b);
struct big {
    long values[6];
};
struct big lazy_big(long a);

static volatile long sink;

NOINLINE static long calls(long a) {
    long value = lazy_sum(a, 2, 3, 4, 5, 6) + lazy_twice(a);
    return value + (long)lazy_scale((double)value, 0.5);
}
NOINLINE static long tail_calls(long a) {
    sink = a;
    __attribute__((musttail)) return lazy_twice(a + 1);
}
NOINLINE static long large(long a) {
    struct big big = lazy_big(a);
    return big.values[2] + lazy_sum(a, a, a, a, a, a);
}

NOINLINE static int tour(void) {
    long total = 0;
    // The first time through the binder, the second time not.
    for (long a = 1; a < 3; a++) total += tail_calls(a) + calls(a) + large(a) + asm_leaf(a, 2);
    return total == 0;
}

int main(int argc, char **argv) {
    (void)argc, (void)argv;
    return tour();
}
