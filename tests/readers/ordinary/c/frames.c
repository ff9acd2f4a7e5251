/* Frames of unusual shape. */
#include "death.h"

#include <alloca.h>
#include <setjmp.h>
#include <stdint.h>

static volatile int zero, two = 2;
static int fail(int n) { return zero == n ? die() : n; }

static NOINLINE void use(void *memory, size_t size) { memset(memory, 1, size); }

static NOINLINE void variable_array(void) {
    char array[1000 * two];
    use(array, sizeof array);
    int n = fail(0);
    AFTER_CALL(n);
    use(array, n);
}

static NOINLINE void with_alloca(void) {
    for (int i = 0; i < two; i++)
        use(alloca(64 * (i + 1)), 64);
    int n = fail(0);
    AFTER_CALL(n);
}

static NOINLINE void over_aligned(void) {
    _Alignas(256) char block[512];
    use(block, sizeof block);
    int n = fail((int)((uintptr_t)block % 256));
    AFTER_CALL(n);
    use(block, n);
}

static NOINLINE void over_aligned_and_variable(void) {
    _Alignas(128) char block[128];
    char *more = alloca(100 * two);
    use(block, sizeof block);
    use(more, 100);
    int n = fail(0);
    AFTER_CALL(n);
    use(block, n);
}

static NOINLINE void large_frame(void) {
    char block[200 * 1024];
    use(block, sizeof block);
    int n = fail(0);
    AFTER_CALL(n);
    use(block, n);
}

/* The error path is moved out of the function: its own part, its own tables. */
static NOINLINE __attribute__((cold, noreturn)) void report_and_die(int n) {
    fprintf(stderr, "%d\n", n);
    die();
    __builtin_unreachable();
}
static NOINLINE int cold_part(int n) {
    int sum = 0;
    for (int i = 0; i < n; i++)
        sum += i * two;
    if (__builtin_expect(sum == 2, 0))
        report_and_die(sum + n);
    return sum;
}
static NOINLINE void in_cold_part(void) {
    int n = cold_part(two);
    AFTER_CALL(n);
}

/* A call that does not return stands at the function's end: its return address is in the next function. */
static NOINLINE __attribute__((noreturn)) void never_returns(void) { report_and_die(1); }
static NOINLINE void call_at_end(void) {
    if (two == 2)
        never_returns();
}

static NOINLINE int tail_target(int n) { return fail(n - 5) + 1; }
static NOINLINE int tail_caller(int n) { return tail_target(n + 3); }
static NOINLINE void tail_call(void) {
    int n = tail_caller(two);
    AFTER_CALL(n);
}

/* Registers are saved on the one path that needs them only. */
static NOINLINE int shrink_wrapped(int *values, int n) {
    if (n == 0)
        return 0;
    int a = values[0], b = values[1], c = fail(n - 7), d = values[2];
    AFTER_CALL(c);
    use(values, 4);
    return a * b + c * d + values[0];
}
static NOINLINE void in_shrink_wrapped(void) {
    int values[] = {1, 2, 3};
    int n = shrink_wrapped(values, two + 5);
    AFTER_CALL(n);
}

static jmp_buf environment;
static NOINLINE void jump_back(int n) {
    char pad[300];
    use(pad, sizeof pad);
    longjmp(environment, n + pad[0]);
}
static NOINLINE void after_longjmp(void) {
    if (setjmp(environment) == 0)
        jump_back(two);
    int n = fail(0);
    AFTER_CALL(n);
}

static NOINLINE int odd(int n);
static NOINLINE int even(int n) {
    int r = n == 0 ? fail(0) : odd(n - 1);
    AFTER_CALL(r);
    return r + 1;
}
static NOINLINE int odd(int n) {
    char pad[40];
    use(pad, sizeof pad);
    int r = even(n - 1);
    AFTER_CALL(r);
    return r + pad[1];
}
static NOINLINE void deep_mutual_recursion(void) {
    int n = even(1000 * two);
    AFTER_CALL(n);
}

static NOINLINE int endless(int n) {
    volatile char pad[4000];
    pad[n % 4000] = 1;
    int r = endless(n + 1);
    AFTER_CALL(r);
    return r + pad[5];
}
static NOINLINE void stack_overflow(void) {
    int n = endless(two);
    AFTER_CALL(n);
}

static NOINLINE void switch_table(void) {
    static const int cases[] = {4, 1, 3, 0};
    int n = 0;
    for (int i = 0; i < 4; i++)
        switch (cases[i]) {
        case 0: n += fail(0); break;
        case 1: n += two; break;
        case 2: use(&n, 1); break;
        case 3: n *= 3; break;
        case 4: n ^= 7; break;
        default: abort();
        }
    AFTER_CALL(n);
}

/* Written by hand, with and without saying so. */
__asm__(".text\n"
        ".type by_hand_with_tables, @function\n"
        "by_hand_with_tables:\n .cfi_startproc\n push %rbx\n .cfi_adjust_cfa_offset 8\n .cfi_offset %rbx, -16\n"
        " sub $32, %rsp\n .cfi_adjust_cfa_offset 32\n xor %ebx, %ebx\n mov %ebx, (%rbx)\n add $32, %rsp\n pop %rbx\n ret\n"
        " .cfi_endproc\n .size by_hand_with_tables, . - by_hand_with_tables\n"
        ".type by_hand_without_tables, @function\n"
        "by_hand_without_tables:\n push %rbx\n sub $32, %rsp\n xor %ebx, %ebx\n mov %ebx, (%rbx)\n add $32, %rsp\n"
        " pop %rbx\n ret\n .size by_hand_without_tables, . - by_hand_without_tables\n"
        ".type by_hand_calls, @function\n"
        "by_hand_calls:\n push %rbp\n mov %rsp, %rbp\n push %rbx\n sub $40, %rsp\n call by_hand_with_tables\n"
        " add $40, %rsp\n pop %rbx\n pop %rbp\n ret\n .size by_hand_calls, . - by_hand_calls\n");
extern int by_hand_with_tables(void), by_hand_without_tables(void), by_hand_calls(void);
static NOINLINE void assembly_with_tables(void) {
    int n = by_hand_with_tables();
    AFTER_CALL(n);
}
static NOINLINE void assembly_without_tables(void) {
    int n = by_hand_without_tables();
    AFTER_CALL(n);
}
static NOINLINE void assembly_caller_without_tables(void) {
    int n = by_hand_calls();
    AFTER_CALL(n);
}

int main(int argc, char **argv) {
    static const struct death deaths[] = {
        {"variable-array", variable_array},
        {"alloca", with_alloca},
        {"over-aligned", over_aligned},
        {"over-aligned-and-variable", over_aligned_and_variable},
        {"large-frame", large_frame},
        {"cold-part", in_cold_part},
        {"call-at-end", call_at_end},
        {"tail-call", tail_call},
        {"shrink-wrapped", in_shrink_wrapped},
        {"after-longjmp", after_longjmp},
        {"deep-mutual-recursion", deep_mutual_recursion},
        {"stack-overflow", stack_overflow},
        {"switch-table", switch_table},
        {"assembly-with-tables", assembly_with_tables},
        {"assembly-without-tables", assembly_without_tables},
        {"assembly-caller-without-tables", assembly_caller_without_tables},
    };
    return DISPATCH(deaths, argc, argv);
}
