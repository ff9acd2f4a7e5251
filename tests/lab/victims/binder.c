// A part of libsys.dylib in the lazy build: what dyld does when a stub is called for the first time. The loader leaves, in
// the word that each image has for dyld (__dyld_private), where its table of pointers is that are to be bound.
#include "sys.h"

// Ends with an offset of all ones.
struct lazy {
    unsigned long offset;
    void **pointer;
    void *target;
};

void *lazy_bind(struct lazy **cache, unsigned long offset) {
    struct lazy *lazy = *cache;
    while (lazy->offset != offset) {
        if (lazy->offset == ~0ul) sys_abort("dyld: lazy symbol binding failed");
        lazy++;
    }
    *lazy->pointer = lazy->target;
    return lazy->target;
}

// The helper has pushed the address of that word and the offset in the image's lazy binding information; arguments are kept.
#if defined(__x86_64__)
__asm__(".text\n"
        ".p2align 4\n"
        ".globl dyld_stub_binder\n"
        "dyld_stub_binder:\n"
        "    .cfi_startproc\n"
        "    .cfi_def_cfa_offset 24\n"
        "    pushq %rbp\n"
        "    .cfi_def_cfa_offset 32\n"
        "    .cfi_offset rbp, -32\n"
        "    movq %rsp, %rbp\n"
        "    .cfi_def_cfa_register rbp\n"
        "    subq $192, %rsp\n"
        "    movq %rdi, 0(%rsp)\n"
        "    movq %rsi, 8(%rsp)\n"
        "    movq %rdx, 16(%rsp)\n"
        "    movq %rcx, 24(%rsp)\n"
        "    movq %r8, 32(%rsp)\n"
        "    movq %r9, 40(%rsp)\n"
        "    movq %rax, 48(%rsp)\n"
        "    movdqa %xmm0, 64(%rsp)\n"
        "    movdqa %xmm1, 80(%rsp)\n"
        "    movq 8(%rbp), %rdi\n"
        "    movq 16(%rbp), %rsi\n"
        "    callq _lazy_bind\n"
        "    movq %rax, %r11\n"
        "    movdqa 80(%rsp), %xmm1\n"
        "    movdqa 64(%rsp), %xmm0\n"
        "    movq 48(%rsp), %rax\n"
        "    movq 40(%rsp), %r9\n"
        "    movq 32(%rsp), %r8\n"
        "    movq 24(%rsp), %rcx\n"
        "    movq 16(%rsp), %rdx\n"
        "    movq 8(%rsp), %rsi\n"
        "    movq 0(%rsp), %rdi\n"
        "    addq $192, %rsp\n"
        "    popq %rbp\n"
        "    .cfi_def_cfa rsp, 24\n"
        "    .cfi_restore rbp\n"
        "    addq $16, %rsp\n"
        "    .cfi_def_cfa_offset 8\n"
        "    jmpq *%r11\n"
        "    .cfi_endproc\n");
#else
__asm__(".text\n"
        ".p2align 2\n"
        ".globl dyld_stub_binder\n"
        "dyld_stub_binder:\n"
        "    .cfi_startproc\n"
        "    .cfi_def_cfa_offset 16\n"
        "    stp x29, x30, [sp, #-16]!\n"
        "    .cfi_def_cfa_offset 32\n"
        "    .cfi_offset w30, -24\n"
        "    .cfi_offset w29, -32\n"
        "    mov x29, sp\n"
        "    .cfi_def_cfa w29, 32\n"
        "    sub sp, sp, #128\n"
        "    stp x0, x1, [sp]\n"
        "    stp x2, x3, [sp, #16]\n"
        "    stp x4, x5, [sp, #32]\n"
        "    stp x6, x7, [sp, #48]\n"
        "    str x8, [sp, #64]\n"
        "    stp d0, d1, [sp, #80]\n"
        "    ldp x1, x0, [x29, #16]\n"
        "    bl _lazy_bind\n"
        "    mov x16, x0\n"
        "    ldp d0, d1, [sp, #80]\n"
        "    ldr x8, [sp, #64]\n"
        "    ldp x6, x7, [sp, #48]\n"
        "    ldp x4, x5, [sp, #32]\n"
        "    ldp x2, x3, [sp, #16]\n"
        "    ldp x0, x1, [sp]\n"
        "    mov sp, x29\n"
        "    ldp x29, x30, [sp], #16\n"
        "    .cfi_def_cfa wsp, 16\n"
        "    .cfi_restore w30\n"
        "    .cfi_restore w29\n"
        "    add sp, sp, #16\n"
        "    .cfi_def_cfa_offset 0\n"
        "    br x16\n"
        "    .cfi_endproc\n");
#endif

// ---- To be called

struct big {
    long values[6];
};

NOINLINE static long half(long a) { return a / 2 + 1; }
long lazy_twice(long a) { return half(a) * 4; }
long lazy_sum(long a, long b, long c, long d, long e, long f) { return lazy_twice(a + b + c) + half(d - e) + f; }
double lazy_scale(double a, double b) { return a * b + (double)half((long)a); }
struct big lazy_big(long a) { return (struct big){{a, a + 1, half(a), 4, 5, 6}}; }
