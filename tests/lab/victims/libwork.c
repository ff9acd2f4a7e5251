// See work.h. Whatever a function computes is used, so that nothing is left out; each call is followed by work unless a tail
// call is meant.
#include "sys.h"
#include "work.h"

static volatile long sink;
static long table[8] = {3, 1, 4, 1, 5, 9, 2, 6};

// ---- Calls

NOINLINE static long leaf(long a, long b) { return (a * 7) ^ (b + a); }

NOINLINE static long leaf_red_zone(long a) {
    volatile long local[6];
    for (int i = 0; i < 6; i++) local[i] = a + i;
    return local[1] + local[4];
}

NOINLINE static long inner(long a) { return leaf(a, 3) + 1; }
NOINLINE static long middle(long a) { return inner(a + 1) * 3 + leaf_red_zone(a); }
NOINLINE static long outer(long a) { return middle(a * 2) - middle(a); }

NOINLINE static long fibonacci(long n) { return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2); }

NOINLINE static long odd(long n);
NOINLINE static long even(long n) { return n == 0 ? 1 : odd(n - 1) + 1; }
NOINLINE static long odd(long n) { return n == 0 ? 0 : even(n - 1) + 2; }

NOINLINE static long last(long a, long b) { return leaf(a, b) + 5; }
NOINLINE static long tail(long a) {
    long b = inner(a);
    __attribute__((musttail)) return inner(b);
}
NOINLINE static long tail_from_frame(long a, long b) {
    volatile long local[10];
    for (int i = 0; i < 3; i++) local[i] = inner(a + i);
    a += local[0] + local[2];
    __attribute__((musttail)) return last(a, b);
}
NOINLINE static long tail_either(long a, long b) {
    if (a & 1) __attribute__((musttail)) return last(a, b);
    sink = inner(b);
    __attribute__((musttail)) return last(b, a);
}

NOINLINE static int descending(const long *a, const long *b) { return (*b > *a) - (*b < *a); }
NOINLINE static void sort(long *values, int count, int (*compare)(const long *, const long *)) {
    for (int i = 1; i < count; i++) {
        for (int j = i; j > 0 && compare(&values[j - 1], &values[j]) > 0; j--) {
            long other = values[j];
            values[j] = values[j - 1];
            values[j - 1] = other;
        }
    }
}

NOINLINE static long many(long a, long b, long c, long d, long e, long f, long g, long h, long i, long j) {
    return leaf(a, b) + c * d - e + f * g - h + leaf(i, j);
}
NOINLINE static long pushes_arguments(long a) { return many(a, 1, 2, 3, 4, 5, a + 6, a + 7, a + 8, 9) + inner(a); }

NOINLINE static struct wide returns_wide(long a) {
    struct wide wide;
    for (int i = 0; i < 12; i++) wide.values[i] = a * i;
    wide.values[3] = inner(a);
    return wide;
}
NOINLINE static long takes_wide(struct wide wide, long a) { return wide.values[a & 7] + leaf(wide.values[2], a); }

NOINLINE static long sum(int count, ...) {
    __builtin_va_list list;
    __builtin_va_start(list, count);
    long total = 0;
    for (int i = 0; i < count; i++) total += inner(__builtin_va_arg(list, long));
    __builtin_va_end(list);
    return total;
}
NOINLINE static double average(int count, ...) {
    __builtin_va_list list;
    __builtin_va_start(list, count);
    double total = 0;
    for (int i = 0; i < count; i++) total += __builtin_va_arg(list, double);
    __builtin_va_end(list);
    return total / (double)leaf(count, 0);
}

long work_calls(long n) {
    long values[5] = {n, 3, n + 2, 1, 9};
    sort(values, 5, descending);
    long total = outer(n) + fibonacci(4) + even(9) + tail(n) + tail_from_frame(n, 2) + tail_either(n, 1);
    total += tail_either(n + 1, 2) + pushes_arguments(n) + takes_wide(returns_wide(n), n) + values[0];
    total += sum(3, n, 2l, 3l) + (long)average(2, 1.5, (double)n) + asm_leaf(n, 4) + asm_saves(inner, n);
    return total;
}

// ---- Frames that are made on a part of the paths only

NOINLINE static long shrink(long *value, long limit) {
    if (!value) return -1;
    if (*value < limit) return *value * 3 + limit;
    long a = inner(*value), b = inner(limit), c = inner(a + b);
    return a * b + c - leaf(c, *value);
}

NOINLINE static long shrink_loop(const long *values, int count) {
    long total = 0;
    for (int i = 0; i < count; i++) {
        if (values[i] > 8) {
            long saved = total * 3;
            total = inner(values[i]) + inner(total) + saved;
        }
        total += values[i];
    }
    return total;
}

NOINLINE static long shrink_two(long a, long b) {
    if (a > 100) {
        long one = inner(a), two = inner(b);
        return one * two + a;
    }
    if (b > 100) {
        volatile long local[20];
        local[3] = inner(b);
        local[4] = inner(a);
        return local[3] - local[4] + b;
    }
    return a - b;
}

NOINLINE static long shrink_tail(long a, long b) {
    if (a == 0) return b;
    if (a > 50) {
        long c = inner(a);
        sink = inner(b) + c;
        __attribute__((musttail)) return last(c, b);
    }
    __attribute__((musttail)) return last(b, a);
}

// A frame only on the path to a function that never returns: the call is the last instruction.
_Noreturn NOINLINE static void fatal(const char *message) { sys_abort(message); }
NOINLINE static long checked(long a, long b) {
    if (b == 0) fatal("checked: b is 0");
    return a / b;
}

long work_shapes(long n) {
    long small = 4, large = 400 + n;
    long total = shrink(0, 1) + shrink(&small, 10) + shrink(&large, 10) + shrink_loop(table, 8);
    total += shrink_two(1, 2) + shrink_two(101, n) + shrink_two(n, 102) + shrink_tail(0, n) + shrink_tail(60, n);
    return total + shrink_tail(n + 1, 3) + checked(n, 3);
}

// ---- Frames of every size and alignment

NOINLINE static void touch(char *bytes, size_t length) {
    for (size_t i = 0; i < length; i += 1024) bytes[i] = (char)i;
}

NOINLINE static long large_frame(long a) {
    char bytes[3000];
    touch(bytes, sizeof bytes);
    return bytes[1024] + inner(a);
}

NOINLINE static long large_frame_leaf(long a) {
    volatile char bytes[2600];
    bytes[a & 1023] = 7;
    bytes[2100] = 1;
    return bytes[(a * 3) & 1023] + a;
}

NOINLINE static long aligned(long a) {
    _Alignas(64) char bytes[200];
    touch(bytes, sizeof bytes);
    return ((unsigned long)bytes & 63) + inner(a) + bytes[0];
}

NOINLINE static long aligned_large(long a) {
    _Alignas(256) char bytes[2500];
    touch(bytes, sizeof bytes);
    return bytes[2048] + inner(a);
}

NOINLINE static long dynamic(long a) {
    char bytes[a * 8 + 24];
    touch(bytes, sizeof bytes);
    return bytes[0] + inner(a);
}

NOINLINE static long dynamic_aligned(long a) {
    _Alignas(64) char fixed[70];
    char bytes[a * 8 + 24];
    touch(bytes, sizeof bytes);
    touch(fixed, sizeof fixed);
    return bytes[0] + inner(a) + fixed[0];
}

NOINLINE static long dynamic_in_loop(long a) {
    long total = 0;
    for (long i = 1; i < 4; i++) {
        char bytes[i * 16];
        touch(bytes, sizeof bytes);
        total += bytes[0] + inner(a + i);
    }
    return total;
}

NOINLINE static long saves_all(long a, long b, long c, long d) {
    long e = inner(a), f = inner(b), g = inner(c), h = inner(d), i = inner(a + d), j = inner(b + c);
    long k = inner(e), l = inner(f + a);
    return (a ^ e) + (b ^ f) + (c ^ g) + (d ^ h) + (i ^ j) + k * l + inner(a + b + c + d + e + f + g + h + i + j);
}

NOINLINE static double floats(double a, double b, long n) {
    double c = a * b;
    long d = inner(n);
    double e = c + (double)d;
    return e * a - (double)inner(d) + b;
}

long work_frames(long n) {
    long total = large_frame(n) + large_frame_leaf(n) + aligned(n) + aligned_large(n) + dynamic(n) + dynamic_aligned(n);
    return total + dynamic_in_loop(n) + saves_all(n, 2, 3, 4) + (long)floats(1.5, (double)n, n);
}

// ---- Flow

NOINLINE static long dense_switch(long n, long a) {
    long b = inner(a);
    switch (n) {
        case 0: return inner(b) + 1;
        case 1: b += inner(a + 3) * 2; break;
        case 2: sink = b; break;
        case 3: return leaf(a, b);
        case 4: b ^= last(a, 4); break;
        case 5: b -= outer(a); break;
        case 6: b *= inner(b) - 2; break;
        default: return -1;
    }
    return b + last(b, n);
}

NOINLINE static long interpreter(const unsigned char *code, long a) {
    static void *const labels[] = {&&stop, &&add, &&call, &&twice};
    goto *labels[*code];
add:
    a += 3;
    goto *labels[*++code];
call:
    a = inner(a);
    goto *labels[*++code];
twice:
    a = leaf(a, a) + inner(a);
    goto *labels[*++code];
stop:
    return a;
}

NOINLINE static long loops(long a) {
    long total = 0;
    for (int i = 0; i < 3; i++) {
        for (int j = 0; j < i; j++) {
            if ((i + j) & 1) continue;
            total += inner(a + j);
        }
        if (total > 10000) break;
    }
    do {
        total -= leaf(total, a);
    } while (total > 500);
    return total;
}

// Changes the stack pointer by hand, as code that saves flags does.
NOINLINE static long by_hand(long a) {
    long flags = inner(a);
#if defined(__x86_64__)
    long old;
    __asm__ volatile("leaq -128(%%rsp), %%rsp\n\tpushq %1\n\tpushfq\n\tpopq %1\n\tpopq %0\n\tleaq 128(%%rsp), %%rsp"
                     : "=&r"(old), "+r"(flags)
                     :
                     : "memory", "cc");
    flags = (flags & 1) + old;
#else
    long old;
    __asm__ volatile("str %1, [sp, #-16]!\n\tmrs %1, nzcv\n\tldr %0, [sp], #16" : "=&r"(old), "+r"(flags) : : "memory");
    flags = (flags & 1) + old;
#endif
    return flags + inner(flags);
}

NOINLINE static long unlikely(long a) {
    if (__builtin_expect(a < 0, 0)) {
        sink = inner(a);
        fatal("unlikely: a is negative");
    }
    long b = last(a, 1);
    if (__builtin_expect(b == 77777, 0)) fatal("unlikely: b is 77777");
    return b * 2;
}

long work_flow(long n) {
    long total = 0;
    for (long i = 0; i < 8; i++) total += dense_switch(i, n);
    static const unsigned char code[] = {1, 2, 3, 1, 2, 0};
    return total + interpreter(code, n) + loops(n) + by_hand(n) + unlikely(n);
}

// ---- Ways to die

NOINLINE static long store(long *address, long value) {
    *address = value;
    return value + 1;
}
NOINLINE static long die_writing(long *address) { return store(address, 7) + leaf(1, 2); }

NOINLINE static long through(long (*function)(long)) { return function(3) + 1; }

NOINLINE static long endless(long a) {
    volatile long local[16];
    local[a & 15] = a;
    return endless(a + 1) + local[3];
}

NOINLINE static long divide(long a, long b) { return a / b + inner(a); }

static const long constant = 5;

void work_die(const char *kind) {
    volatile long zero = 0;
    switch (kind[0]) {
        case 'n': sink = die_writing((long *)zero); break;
        case 'r': sink = die_writing((long *)&constant); break;
        case 'g': sink = die_writing((long *)0x4141414141414141l); break;
        case 'c': sink = through((long (*)(long))zero); break;
        case 'w': sink = through((long (*)(long))(0x5000 + zero)); break;
        case 'd': sink = through((long (*)(long))table); break;
        case 'a': sink = checked(1, zero); break;
        case 'i': __builtin_trap();
        case 's': sink = endless(zero); break;
        case 'z': sink = divide(5, zero); break;
        case 'b': __builtin_debugtrap(); break;
    }
    sink = leaf(sink, 1);
}
