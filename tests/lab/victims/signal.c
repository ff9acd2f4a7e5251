// main of the signal build: functions of a few shapes, and a handler; `main tour` is interrupted all over.
#include "sys.h"

extern void (*volatile platform_handler)(int, void *, void *);

static volatile long sink, handled;

NOINLINE static long leaf(long a, long b) { return (a * 7) ^ (b + a); }
NOINLINE static long leaf_red_zone(long a) {
    volatile long local[6];
    for (int i = 0; i < 3; i++) local[i] = a + i;
    return local[1] + local[2];
}
NOINLINE static long inner(long a) { return leaf(a, 3) + 1; }
NOINLINE static long tail(long a) {
    long b = inner(a);
    __attribute__((musttail)) return inner(b);
}
// No frame on the fast path.
NOINLINE static long shrink_wrapped(long a) {
    if (__builtin_expect(a > 2, 1)) return a * 3;
    sink = inner(a);
    return inner(a + 1) + sink;
}
NOINLINE static long large(long a) {
    volatile char bytes[6000];
    bytes[a] = (char)a;
    return bytes[a] + inner(a);
}
NOINLINE static long dynamic(long a) {
    volatile char bytes[a * 16 + 16];
    bytes[a] = (char)a;
    return bytes[a] + inner(a);
}
NOINLINE static long aligned(long a) {
    _Alignas(64) volatile long values[9];
    values[a & 7] = a;
    return values[a & 7] + inner(a);
}
NOINLINE static long saves_all(long a, long b, long c, long d) {
    long e = inner(a), f = inner(b), g = inner(c), h = inner(d), i = inner(a + d), j = inner(b + c);
    return (a ^ e) + (b ^ f) + (c ^ g) + (d ^ h) + (i ^ j);
}
NOINLINE static long recursive(long a) { return a == 0 ? leaf_red_zone(a) : recursive(a - 1) + a; }

NOINLINE static void handler(int signal, void *information, void *context) {
    (void)information, (void)context;
    handled = handled + leaf(signal, 1);
}

NOINLINE static int tour(void) {
    long total = tail(2) + shrink_wrapped(5) + shrink_wrapped(1) + large(3) + dynamic(2) + aligned(4);
    total += saves_all(1, 2, 3, 4) + recursive(3) + asm_leaf(1, 2) + asm_saves(inner, 3);
    return total == 0;
}

int main(int argc, char **argv) {
    (void)argc, (void)argv;
    sys_name("main");
    platform_handler = handler;
    return tour();
}
