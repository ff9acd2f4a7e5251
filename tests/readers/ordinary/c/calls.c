/* Plain calls, through every shape of frame that compilers make for them: built with many compilers and options. */
#include "death.h"

#include <stdarg.h>

struct big {
    long words[12];
};

static volatile int zero;

static inline __attribute__((always_inline)) int innermost(int n) { return n > 2 ? die() : n; }
static inline __attribute__((always_inline)) int inlined(int n) { return innermost(n + 1) + 1; }

/* A leaf: at -O2 it has no frame at all. */
NOINLINE int leaf(int n) { return inlined(n) * 3; }

NOINLINE int registers(int a, int b, int c, int d, int e, int f) {
    int x = leaf(a), y = b;
    for (int i = 0; i < c; i++)
        y += x * i + zero;
    AFTER_CALL(y);
    return x + y + d * e - f;
}

NOINLINE int by_value(struct big big) {
    int n = registers((int)big.words[0] + 9, 2, 3, 4, 5, 6);
    AFTER_CALL(n);
    return n + (int)big.words[11];
}

NOINLINE int variadic(int count, ...) {
    va_list list;
    va_start(list, count);
    int sum = va_arg(list, int) + va_arg(list, int);
    va_end(list);
    struct big big = {{sum, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}};
    int n = by_value(big);
    AFTER_CALL(n);
    return n + count;
}

NOINLINE int through_pointer(int (*function)(int, ...)) {
    char buffer[200];
    snprintf(buffer, sizeof buffer, "%d", zero);
    int n = function(2, buffer[0] - '0', 3);
    AFTER_CALL(n);
    return n + buffer[0];
}

NOINLINE int recursive(int n) {
    if (n == 0)
        return through_pointer(variadic);
    int below = recursive(n - 1);
    AFTER_CALL(below);
    return below + 1;
}

int main(int argc, char **argv) {
    (void)argv;
    int n = recursive(argc + 2);
    AFTER_CALL(n);
    return n;
}
