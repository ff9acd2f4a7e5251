// Code in many shapes, run one instruction at a time. No libc: every function stands here, and the program dies at its end.
#define NOINLINE __attribute__((noinline, noclone))
#define AFTER __asm__ volatile("" ::: "memory")

__asm__(".globl _start\n.type _start, @function\n_start:\n xor %ebp, %ebp\n and $-16, %rsp\n call run\n ud2\n.size _start, . - _start\n");

volatile int sink, zero, one = 1;
void *memset(void *to, int value, unsigned long size) {
    char *at = to;
    while (size--) *at++ = value;
    return to;
}
void *memcpy(void *to, const void *from, unsigned long size) {
    char *at = to;
    const char *source = from;
    while (size--) *at++ = *source++;
    return to;
}

NOINLINE int leaf(int a) { return a * 3 + 1; }
NOINLINE int leaf_red_zone(int a) { volatile int v[8]; for (int i = 0; i < 8; i++) v[i] = a + i; return v[a & 7]; }
NOINLINE int many_saved(int a, int b, int c, int d) {
    int e = leaf(a), f = leaf(b), g = leaf(c), h = leaf(d), i = leaf(a + b), j = leaf(c + d);
    return e * f + g * h + i * j + leaf(e + f + g + h + i + j);
}
NOINLINE int big_frame(int n) { volatile char buffer[9000]; memset((void *)buffer, n, sizeof buffer / 300); return buffer[n & 15] + leaf(n); }
NOINLINE int aligned(int n) {
    char buffer[192] __attribute__((aligned(64)));
    memset(buffer, n, 24);
    __asm__ volatile("" :: "r"(buffer) : "memory");
    return buffer[n & 15] + leaf(n);
}
NOINLINE int variable(int n) {
    char *buffer = __builtin_alloca(n * 16 + 8);
    memset(buffer, n, 8);
    __asm__ volatile("" :: "r"(buffer) : "memory");
    return buffer[0] + leaf(n);
}
NOINLINE int aligned_variable(int n, int m) {
    char fixed[64] __attribute__((aligned(64)));
    char *buffer = __builtin_alloca(n * 8 + 8);
    memset(fixed, n, 8);
    memset(buffer, m, 8);
    __asm__ volatile("" :: "r"(buffer), "r"(fixed) : "memory");
    return buffer[0] + fixed[1] + many_saved(n, m, n, m);
}
// The first path needs no frame; compilers set one up on the second only.
NOINLINE int shrink_wrapped(int n) {
    if (n < 3) return n + sink;
    int a = leaf(n), b = leaf(n + 1);
    sink = a;
    return a * b + leaf_red_zone(b);
}
NOINLINE int cases(int n) {
    switch (n) {
    case 0: return leaf(1);
    case 1: sink = 4; return leaf_red_zone(2) + 1;
    case 2: return shrink_wrapped(5) * 2;
    case 3: return big_frame(3) + leaf(2);
    case 4: sink = 1; break;
    case 5: return leaf(8) ^ leaf(9);
    case 6: return many_saved(1, 2, 3, n);
    case 7: return leaf(n) - 5;
    default: return -leaf(n);
    }
    return leaf(n) + sink;
}
NOINLINE int tail_called(int n) { return leaf(n) + 2; }
NOINLINE int tail(int n) { sink = leaf_red_zone(n); return tail_called(n + 1); }
__attribute__((noreturn)) NOINLINE void never(int n) { sink = n; __builtin_trap(); }
NOINLINE int cold_paths(int *p, int n) {
    if (n == 100) never(1);
    int a = leaf(n);
    if (a == 1000) never(a);
    if (p == 0) never(2);
    return a + *p + leaf(a);
}
NOINLINE int recursive(int n) { if (n == 0) return 1; int a = recursive(n - 1); AFTER; return a * n + leaf(n); }
NOINLINE int sum(int count, ...) {
    __builtin_va_list list;
    __builtin_va_start(list, count);
    int total = 0;
    for (int i = 0; i < count; i++) total += __builtin_va_arg(list, int);
    __builtin_va_end(list);
    return total + leaf(total);
}
NOINLINE int stack_arguments(int a, int b, int c, int d, int e, int f, int g, int h, int i) { return leaf(a + i) + b * h + c + d + e + f + g; }
NOINLINE double floats(double x, int n) { double a = x; for (int i = 0; i < n; i++) a = a * x + leaf(i); return a; }
struct big { int v[20]; };
NOINLINE struct big by_value(struct big b, int n) { b.v[n] = leaf(n); return b; }
NOINLINE int through(int (*f)(int), int n) { int a = f(n); AFTER; return a + f(n + 1); }
NOINLINE int loops(int n) { int t = 0; for (int i = 0; i < n; i++) { if (i % 3 == 0) t += leaf(i); else if (i % 3 == 1) t ^= shrink_wrapped(i); else continue; t++; } return t; }

NOINLINE void round_(int n) {
    sink += many_saved(n, 2, 3, 4) + big_frame(n) + aligned(n) + variable(n + 1) + aligned_variable(n, 3);
    for (int i = 0; i < 9; i++) sink += cases(i) + shrink_wrapped(i);
    int v = n;
    sink += tail(n) + cold_paths(&v, n) + recursive(6) + sum(4, n, 2, 3, 4) + stack_arguments(1, 2, 3, 4, 5, 6, 7, 8, n);
    sink += (int)floats(n, 3) + through(leaf, n) + through(shrink_wrapped, 1) + loops(7);
    struct big b = {{n}};
    sink += by_value(b, 3).v[3];
    AFTER;
}
__attribute__((noreturn)) void run(void) {
    round_(one);
    round_(2 + zero);
    __builtin_trap();
}
