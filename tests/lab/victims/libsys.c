// libsys.dylib: see sys.h. Builds for macOS, runs on Linux.
#include "sys.h"

#if defined(__x86_64__)
enum { WRITE = 1, MMAP = 9, PAUSE = 34, GETPID = 39, GETTID = 186, FUTEX = 202, EXIT_GROUP = 231, TGKILL = 234, PRCTL = 157 };

static long call(long number, long a, long b, long c, long d, long e, long f) {
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    __asm__ volatile("syscall"
                     : "+a"(number)
                     : "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return number;
}

// Nobody calls the two starts: the return address is undefined, and two zeros stand where a frame record would be, as
// dyld's and libsystem_pthread's starts leave it.
__asm__(".text\n"
        ".p2align 4\n"
        ".globl __start_main\n"
        "__start_main:\n"
        "    .cfi_startproc\n"
        "    .cfi_undefined rip\n"
        "    xorl %ebp, %ebp\n"
        "    pushq $0\n"
        "    pushq $0\n"
        "    callq *%rdx\n"
        "    movl %eax, %edi\n"
        "    callq _sys_exit\n"
        "    ud2\n"
        "    .cfi_endproc\n"
        ".globl __thread_entry\n"
        "__thread_entry:\n"
        "    .cfi_startproc\n"
        "    .cfi_undefined rip\n"
        "    xorl %ebp, %ebp\n"
        "    popq %rdi\n"
        "    popq %rax\n"
        "    pushq $0\n"
        "    pushq $0\n"
        "    callq *%rax\n"
        "    movl $60, %eax\n"
        "    xorl %edi, %edi\n"
        "    syscall\n"
        "    ud2\n"
        "    .cfi_endproc\n"
        // long clone(long flags, void *stack), in C's terms; the new thread goes on at its entry.
        ".private_extern _raw_clone\n"
        ".globl _raw_clone\n"
        "_raw_clone:\n"
        "    .cfi_startproc\n"
        "    movl $56, %eax\n"
        "    xorl %edx, %edx\n"
        "    xorl %r10d, %r10d\n"
        "    xorl %r8d, %r8d\n"
        "    syscall\n"
        "    testq %rax, %rax\n"
        "    je __thread_entry\n"
        "    retq\n"
        "    .cfi_endproc\n"
        ".globl _asm_leaf\n"
        "_asm_leaf:\n"
        "    leaq (%rdi,%rsi,2), %rax\n"
        "    xorq %rdi, %rax\n"
        "    retq\n"
        ".globl _asm_saves\n"
        "_asm_saves:\n"
        "    pushq %rbx\n"
        "    movq %rsi, %rbx\n"
        "    subq $16, %rsp\n"
        "    movq %rsi, (%rsp)\n"
        "    xchgq %rdi, %rsi\n"
        "    leaq 1(%rdi), %rax\n"
        "    addq $16, %rsp\n"
        "    addq %rbx, %rax\n"
        "    popq %rbx\n"
        "    retq\n"
        // libSystem's stack probe: touches each page of the rax bytes below the stack pointer, changes no register.
        ".globl ____chkstk_darwin\n"
        "____chkstk_darwin:\n"
        "    .cfi_startproc\n"
        "    pushq %rcx\n"
        "    .cfi_adjust_cfa_offset 8\n"
        "    pushq %rax\n"
        "    .cfi_adjust_cfa_offset 8\n"
        "    leaq 24(%rsp), %rcx\n"
        "    cmpq $0x1000, %rax\n"
        "    jb 1f\n"
        "0:  subq $0x1000, %rcx\n"
        "    testq %rcx, (%rcx)\n"
        "    subq $0x1000, %rax\n"
        "    cmpq $0x1000, %rax\n"
        "    ja 0b\n"
        "1:  subq %rax, %rcx\n"
        "    testq %rcx, (%rcx)\n"
        "    popq %rax\n"
        "    .cfi_adjust_cfa_offset -8\n"
        "    popq %rcx\n"
        "    .cfi_adjust_cfa_offset -8\n"
        "    retq\n"
        "    .cfi_endproc\n");
#else
enum { WRITE = 64, MMAP = 222, PAUSE = 73, GETPID = 172, GETTID = 178, FUTEX = 98, EXIT_GROUP = 94, TGKILL = 131, PRCTL = 167 };

static long call(long number, long a, long b, long c, long d, long e, long f) {
    register long x8 __asm__("x8") = number;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    register long x4 __asm__("x4") = e;
    register long x5 __asm__("x5") = f;
    __asm__ volatile("svc #0" : "+r"(x0) : "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5), "r"(x8) : "memory");
    return x0;
}

__asm__(".text\n"
        ".p2align 4\n"
        ".globl __start_main\n"
        "__start_main:\n"
        "    .cfi_startproc\n"
        "    .cfi_undefined lr\n"
        "    stp xzr, xzr, [sp, #-16]!\n"
        "    mov x29, sp\n"
        "    blr x2\n"
        "    bl _sys_exit\n"
        "    brk #1\n"
        "    .cfi_endproc\n"
        ".globl __thread_entry\n"
        "__thread_entry:\n"
        "    .cfi_startproc\n"
        "    .cfi_undefined lr\n"
        "    ldp x0, x1, [sp], #16\n"
        "    stp xzr, xzr, [sp, #-16]!\n"
        "    mov x29, sp\n"
        "    blr x1\n"
        "    mov x0, #0\n"
        "    mov x8, #93\n"
        "    svc #0\n"
        "    brk #1\n"
        "    .cfi_endproc\n"
        ".private_extern _raw_clone\n"
        ".globl _raw_clone\n"
        "_raw_clone:\n"
        "    .cfi_startproc\n"
        "    mov x2, #0\n"
        "    mov x3, #0\n"
        "    mov x4, #0\n"
        "    mov x8, #220\n"
        "    svc #0\n"
        "    cbnz x0, 0f\n"
        "    b __thread_entry\n"
        "0:  ret\n"
        "    .cfi_endproc\n"
        ".globl _asm_leaf\n"
        "_asm_leaf:\n"
        "    add x8, x0, x1, lsl #1\n"
        "    eor x0, x8, x0\n"
        "    ret\n"
        ".globl _asm_saves\n"
        "_asm_saves:\n"
        "    stp x20, x19, [sp, #-16]!\n"
        "    sub sp, sp, #16\n"
        "    str x1, [sp]\n"
        "    mov x19, x1\n"
        "    ldr x20, [sp]\n"
        "    add x0, x19, x20\n"
        "    add sp, sp, #16\n"
        "    ldp x20, x19, [sp], #16\n"
        "    ret\n");
#endif

long raw_clone(long flags, void *stack);

// What libraries leave for the crash reporter (Libc, CrashReporterClient.h): version 4.
__attribute__((section("__DATA,__crash_info"), used)) static struct {
    unsigned long version;
    const char *message;
    unsigned long signature, backtrace, message2, thread, dialog_mode;
} crash_info = {.version = 4};

_Noreturn void sys_exit(int status) {
    for (;;) call(EXIT_GROUP, status, 0, 0, 0, 0, 0);
}

long sys_write(int fd, const void *bytes, size_t length) { return call(WRITE, fd, (long)bytes, (long)length, 0, 0, 0); }

int sys_name(const char *name) { return (int)call(PRCTL, 15, (long)name, 0, 0, 0, 0); }

long sys_spawn(void (*function)(void *), void *argument) {
    const long size = 1 << 18, guard = 1 << 14;
    // PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS; then the part above the guard again, to be read and written (MAP_FIXED).
    char *stack = (char *)call(MMAP, 0, size, 0, 0x22, -1, 0);
    call(MMAP, (long)(stack + guard), size - guard, 3, 0x32, -1, 0);
    void **top = (void **)(stack + size);
#if defined(__x86_64__)
    *--top = (void *)function;
    *--top = argument;
#else
    *--top = (void *)function;
    *--top = argument;
#endif
    // CLONE_VM, _FS, _FILES, _SIGHAND, _THREAD, _SYSVSEM.
    return raw_clone(0x50f00, top);
}

void sys_wait(int *word, int value) {
    while (__atomic_load_n(word, __ATOMIC_ACQUIRE) == value) call(FUTEX, (long)word, 0, value, 0, 0, 0);
}

void sys_wake(int *word) { call(FUTEX, (long)word, 1, 1 << 30, 0, 0, 0); }

_Noreturn void sys_pause(void) {
    for (;;) call(PAUSE, 0, 0, 0, 0, 0, 0);
}

_Noreturn void sys_abort(const char *message) {
    crash_info.message = message;
    for (;;) call(TGKILL, call(GETPID, 0, 0, 0, 0, 0, 0), call(GETTID, 0, 0, 0, 0, 0, 0), 6, 0, 0, 0);
}

// Eight bytes at a time: single-stepping through single ones takes long.
void *memset(void *target, int byte, size_t length) {
    unsigned long pattern = 0x0101010101010101ul * (unsigned char)byte;
    char *to = target;
    for (; length >= 8; length -= 8, to += 8) {
        *(volatile unsigned long *)to = pattern;
    }
    for (; length; length--) *(volatile char *)to++ = (char)byte;
    return target;
}

void *memcpy(void *target, const void *source, size_t length) {
    char *to = target;
    const char *from = source;
    for (; length >= 8; length -= 8, to += 8, from += 8) *(volatile unsigned long *)to = *(const unsigned long *)from;
    for (; length; length--) *(volatile char *)to++ = *from++;
    return target;
}

void *memmove(void *target, const void *source, size_t length) {
    if (target <= source || (char *)target >= (char *)source + length) return memcpy(target, source, length);
    char *to = (char *)target + length;
    const char *from = (const char *)source + length;
    for (; length >= 8; length -= 8) *(volatile unsigned long *)(to -= 8) = *(const unsigned long *)(from -= 8);
    for (; length; length--) *(volatile char *)--to = *--from;
    return target;
}

int memcmp(const void *one, const void *other, size_t length) {
    const unsigned char *a = one, *b = other;
    for (; length; length--, a++, b++) {
        if (*a != *b) return *a - *b;
    }
    return 0;
}

size_t strlen(const char *text) {
    size_t length = 0;
    while (((const volatile char *)text)[length]) length++;
    return length;
}

#ifndef CXX
// Rust's core refers to these; programs that abort on panic never call them.
void _Unwind_Resume(void) { sys_abort("_Unwind_Resume was called"); }
int rust_eh_personality(void) { sys_abort("rust_eh_personality was called"); }
#endif

void bzero(void *target, size_t length) { memset(target, 0, length); }
void __bzero(void *target, size_t length) { memset(target, 0, length); }
