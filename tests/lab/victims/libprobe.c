// A part of libwork.dylib that is compiled with stack probes: once with a call of libSystem's ___chkstk_darwin in each large
// frame (Apple's clang on x86-64), once with the probes inlined (rustc). WORK_PROBES names the entry.
#include "sys.h"
#include "work.h"

NOINLINE static long use(volatile char *bytes, long a) {
    bytes[a] = (char)a;
    return bytes[a] + 1;
}

NOINLINE static long one_page(long a) {
    char bytes[5000];
    return use(bytes, a) + bytes[0] * 0;
}

NOINLINE static long some_pages(long a) {
    char bytes[13000];
    return use(bytes, a) + bytes[0] * 0;
}

NOINLINE static long many_pages(long a) {
    char bytes[50000];
    return use(bytes, a) + bytes[0] * 0;
}

NOINLINE static long dynamic_pages(long a) {
    char bytes[a * 4096 + 100];
    return use(bytes, a) + bytes[0] * 0;
}

NOINLINE static long aligned_pages(long a) {
    _Alignas(128) char bytes[9000];
    return use(bytes, a) + bytes[0] * 0;
}

long WORK_PROBES(long n) {
    return one_page(n) + some_pages(n) + many_pages(n) + dynamic_pages(n) + aligned_pages(n);
}
