// libsystem_platform.dylib of the signal build: libsys and Darwin's way into signal handlers. The kernel's part, to put the
// interrupted registers on the stack (struct ucontext64, <sys/_types/_ucontext64.h>) and to go on at a trampoline, is done by
// whoever runs the victim instruction by instruction.
#include "sys.h"

// What the handler is: the tracer tells the trampoline.
void (*volatile platform_handler)(int, void *, void *);

// Three trampolines that differ in their tables: none; the context through the register that holds it, from the first
// instruction on, where it is not there yet; exact, and marked as a signal's frame.
#if defined(__x86_64__)
#define TRAMPOLINE(name, start, at_entry, at_body, end) \
    ".p2align 4\n"                                      \
    ".globl " name "\n" name ":\n" start at_entry       \
    "    pushq %rbp\n"                                  \
    "    movq %rsp, %rbp\n"                             \
    "    pushq %r9\n"                                   \
    "    pushq $0\n"                                    \
    "    movq %r8, %rbx\n" at_body                      \
    "    movq %rdi, %rax\n"                             \
    "    movl %edx, %edi\n"                             \
    "    movq %rcx, %rsi\n"                             \
    "    movq %r8, %rdx\n"                              \
    "    callq *%rax\n"                                 \
    "    movq %rbx, %rdi\n"                             \
    "    movl $0x1e, %esi\n"                            \
    "    movq -8(%rbp), %rdx\n"                         \
    "    callq ___sigreturn\n"                          \
    "    ud2\n" end
// DW_CFA_def_cfa_expression and DW_CFA_expression: DW_OP_breg 48 (uc_mcontext64), DW_OP_deref, DW_OP_plus_uconst offset in
// it; for the CFA, the stack pointer, DW_OP_deref again.
#define NEAR(base, register, offset) ".cfi_escape 0x10, " register ", 0x05, " base ", 0x30, 0x06, 0x23, " offset "\n"
#define FAR(base, register, offset) ".cfi_escape 0x10, " register ", 0x06, " base ", 0x30, 0x06, 0x23, " offset ", 0x01\n"
#define CONTEXT(base)                                                                                           \
    ".cfi_escape 0x0f, 0x06, " base ", 0x30, 0x06, 0x23, 0x48, 0x06\n" NEAR(base, "0", "16") NEAR(base, "3", "24") \
        NEAR(base, "2", "32") NEAR(base, "1", "40") NEAR(base, "5", "48") NEAR(base, "4", "56")                    \
            NEAR(base, "6", "64") NEAR(base, "7", "72") NEAR(base, "8", "80") NEAR(base, "9", "88")                \
                NEAR(base, "10", "96") NEAR(base, "11", "104") NEAR(base, "12", "112") NEAR(base, "13", "120")     \
                    FAR(base, "14", "0x80") FAR(base, "15", "0x88") FAR(base, "16", "0x90")
#define ARGUMENT "0x78"
#define KEPT "0x73"
#define MARKED ".cfi_startproc\n.cfi_signal_frame\n"
#define RETURN                 \
    ".globl ___sigreturn\n"    \
    "___sigreturn:\n"          \
    "    movl $0x20000b8, %eax\n" \
    "    movq %rcx, %r10\n"    \
    "    syscall\n"            \
    "    retq\n"
#else
#define TRAMPOLINE(name, start, at_entry, at_body, end) \
    ".p2align 2\n"                                      \
    ".globl " name "\n" name ":\n" start at_entry       \
    "    stp x29, x30, [sp, #-16]!\n"                   \
    "    mov x29, sp\n"                                 \
    "    mov x20, x5\n"                                 \
    "    mov x19, x4\n" at_body                         \
    "    mov x8, x0\n"                                  \
    "    mov x0, x2\n"                                  \
    "    mov x1, x3\n"                                  \
    "    mov x2, x4\n"                                  \
    "    blr x8\n"                                      \
    "    mov x0, x19\n"                                 \
    "    mov x1, #0x1e\n"                               \
    "    mov x2, x20\n"                                 \
    "    bl ___sigreturn\n"                             \
    "    brk #1\n" end
#define NEAR(base, register, offset) ".cfi_escape 0x10, " register ", 0x05, " base ", 0x30, 0x06, 0x23, " offset "\n"
#define FAR(base, register, offset) ".cfi_escape 0x10, " register ", 0x06, " base ", 0x30, 0x06, 0x23, " offset "\n"
// The pc has a column of its own, since lr is to be restored as well.
#define CONTEXT(base)                                                                                                      \
    ".cfi_escape 0x0f, 0x07, " base ", 0x30, 0x06, 0x23, 0x88, 0x02, 0x06\n" NEAR(base, "0", "16") NEAR(base, "1", "24")     \
        NEAR(base, "2", "32") NEAR(base, "3", "40") NEAR(base, "4", "48") NEAR(base, "5", "56") NEAR(base, "6", "64")       \
            NEAR(base, "7", "72") NEAR(base, "8", "80") NEAR(base, "9", "88") NEAR(base, "10", "96")                        \
                NEAR(base, "11", "104") NEAR(base, "12", "112") NEAR(base, "13", "120") FAR(base, "14", "0x80, 0x01")       \
                    FAR(base, "15", "0x88, 0x01") FAR(base, "16", "0x90, 0x01") FAR(base, "17", "0x98, 0x01")               \
                        FAR(base, "18", "0xa0, 0x01") FAR(base, "19", "0xa8, 0x01") FAR(base, "20", "0xb0, 0x01")           \
                            FAR(base, "21", "0xb8, 0x01") FAR(base, "22", "0xc0, 0x01") FAR(base, "23", "0xc8, 0x01")       \
                                FAR(base, "24", "0xd0, 0x01") FAR(base, "25", "0xd8, 0x01") FAR(base, "26", "0xe0, 0x01")   \
                                    FAR(base, "27", "0xe8, 0x01") FAR(base, "28", "0xf0, 0x01")                             \
                                        FAR(base, "29", "0xf8, 0x01") FAR(base, "30", "0x80, 0x02")                         \
                                            FAR(base, "32", "0x90, 0x02")
#define ARGUMENT "0x74"
#define KEPT "0x83"
#define MARKED ".cfi_startproc\n.cfi_signal_frame\n.cfi_return_column 32\n"
#define RETURN                 \
    ".globl ___sigreturn\n"    \
    "___sigreturn:\n"          \
    "    mov x8, #184\n"       \
    "    svc #0\n"             \
    "    ret\n"
#endif

#if defined(__x86_64__)
#define UNMARKED ".cfi_startproc\n"
#else
#define UNMARKED ".cfi_startproc\n.cfi_return_column 32\n"
#endif
#define END ".cfi_endproc\n"

__asm__(".text\n" TRAMPOLINE("__sigtramp", "", "", "", "")
            TRAMPOLINE("__sigtramp_described", UNMARKED, CONTEXT(KEPT), "", END)
                TRAMPOLINE("__sigtramp_exact", MARKED, CONTEXT(ARGUMENT), CONTEXT(KEPT), END) RETURN);
