// What C++ exceptions need at run time, in the place of libc++abi and libunwind: finds handlers and cleanups by the victim's own
// tables (__unwind_info, __eh_frame, __gcc_except_tab), and enters their landing pads. One thread at a time.
#include "sys.h"

typedef unsigned long u64;
typedef unsigned int u32;
typedef unsigned char u8;

// The registers that landing pads have a claim to, in the order in which cxxabi's assembly below has them.
#if defined(__x86_64__)
enum { RBX, RBP, R12, R13, R14, R15, SP, PC, FIRST, SECOND, REGISTERS, FP = RBP, RETURN_ADDRESS = 16 };
// DWARF numbers.
static const signed char slots[32] = {[3] = RBX + 1, [6] = RBP + 1, [12] = R12 + 1, [13] = R13 + 1, [14] = R14 + 1,
                                      [15] = R15 + 1, [7] = SP + 1, [16] = PC + 1};
#else
enum { X19, FP = 10, SP, PC, FIRST, SECOND, REGISTERS, RETURN_ADDRESS = 30 };
static const signed char slots[32] = {[19] = 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, [30] = PC + 1, [31] = SP + 1};
#endif

struct context {
    u64 registers[REGISTERS];
};

struct type {
    void *const *vtable;
    const char *name;
    const struct type *base;
};

// In front of each thrown object.
struct exception {
    const struct type *type;
    void (*destructor)(void *);
    struct exception *caught_before;
    long handlers;
};

_Noreturn void cxx_install(struct context *context);

#if defined(__x86_64__)
// The three ways into the unwinder hand it the registers of whoever called them.
#define ENTRY(name, function)                        \
    ".globl " name "\n" name ":\n"                   \
    "    .cfi_startproc\n"                           \
    "    pushq %rbp\n"                               \
    "    .cfi_def_cfa_offset 16\n"                   \
    "    .cfi_offset rbp, -16\n"                     \
    "    movq %rsp, %rbp\n"                          \
    "    .cfi_def_cfa_register rbp\n"                \
    "    subq $80, %rsp\n"                           \
    "    movq %rbx, (%rsp)\n"                        \
    "    movq (%rbp), %rax\n"                        \
    "    movq %rax, 8(%rsp)\n"                       \
    "    movq %r12, 16(%rsp)\n"                      \
    "    movq %r13, 24(%rsp)\n"                      \
    "    movq %r14, 32(%rsp)\n"                      \
    "    movq %r15, 40(%rsp)\n"                      \
    "    leaq 16(%rbp), %rax\n"                      \
    "    movq %rax, 48(%rsp)\n"                      \
    "    movq 8(%rbp), %rax\n"                       \
    "    movq %rax, 56(%rsp)\n"                      \
    "    movq %rsp, %rcx\n"                          \
    "    callq " function "\n"                       \
    "    ud2\n"                                      \
    "    .cfi_endproc\n"
// Goes to a landing pad: takes the stack that it is to find, and returns there. From the moment at which the stack pointer has
// moved, what was below is gone, and the landing pad is the caller; its registers wait in others that a call need not preserve.
__asm__(".text\n"
        ".p2align 4\n" ENTRY("___cxa_throw", "_cxx_throw") ENTRY("__Unwind_Resume", "_cxx_resume")
            ENTRY("___cxa_rethrow", "_cxx_rethrow")
        ".globl _cxx_install\n"
        "_cxx_install:\n"
        "    .cfi_startproc\n"
        "    movq (%rdi), %rsi\n"
        "    movq 8(%rdi), %r8\n"
        "    movq 16(%rdi), %r9\n"
        "    movq 24(%rdi), %r10\n"
        "    movq 32(%rdi), %r11\n"
        "    movq 40(%rdi), %rcx\n"
        "    movq 48(%rdi), %rdx\n"
        "    movq 56(%rdi), %rax\n"
        "    movq %rdx, %rsp\n"
        "    .cfi_def_cfa_offset 0\n"
        "    .cfi_register rip, rax\n"
        "    .cfi_register rbx, rsi\n"
        "    .cfi_register rbp, r8\n"
        "    .cfi_register r12, r9\n"
        "    .cfi_register r13, r10\n"
        "    .cfi_register r14, r11\n"
        "    .cfi_register r15, rcx\n"
        "    pushq %rax\n"
        "    .cfi_def_cfa_offset 8\n"
        "    .cfi_offset rip, -8\n"
        "    movq %rsi, %rbx\n"
        "    .cfi_same_value rbx\n"
        "    movq %r8, %rbp\n"
        "    .cfi_same_value rbp\n"
        "    movq %r9, %r12\n"
        "    .cfi_same_value r12\n"
        "    movq %r10, %r13\n"
        "    .cfi_same_value r13\n"
        "    movq %r11, %r14\n"
        "    .cfi_same_value r14\n"
        "    movq %rcx, %r15\n"
        "    .cfi_same_value r15\n"
        "    movq 64(%rdi), %rax\n"
        "    movq 72(%rdi), %rdx\n"
        "    retq\n"
        "    .cfi_endproc\n");
#else
#define ENTRY(name, function)                        \
    ".globl " name "\n" name ":\n"                   \
    "    .cfi_startproc\n"                           \
    "    stp x29, x30, [sp, #-16]!\n"                \
    "    .cfi_def_cfa_offset 16\n"                   \
    "    .cfi_offset w30, -8\n"                      \
    "    .cfi_offset w29, -16\n"                     \
    "    mov x29, sp\n"                              \
    "    .cfi_def_cfa w29, 16\n"                     \
    "    sub sp, sp, #128\n"                         \
    "    stp x19, x20, [sp]\n"                       \
    "    stp x21, x22, [sp, #16]\n"                  \
    "    stp x23, x24, [sp, #32]\n"                  \
    "    stp x25, x26, [sp, #48]\n"                  \
    "    stp x27, x28, [sp, #64]\n"                  \
    "    ldr x9, [x29]\n"                            \
    "    add x10, x29, #16\n"                        \
    "    stp x9, x10, [sp, #80]\n"                   \
    "    str x30, [sp, #96]\n"                       \
    "    mov x3, sp\n"                               \
    "    bl " function "\n"                          \
    "    brk #1\n"                                   \
    "    .cfi_endproc\n"
__asm__(".text\n"
        ".p2align 2\n" ENTRY("___cxa_throw", "_cxx_throw") ENTRY("__Unwind_Resume", "_cxx_resume")
            ENTRY("___cxa_rethrow", "_cxx_rethrow")
        ".globl _cxx_install\n"
        "_cxx_install:\n"
        "    .cfi_startproc\n"
        "    ldp x2, x3, [x0]\n"
        "    ldp x4, x5, [x0, #16]\n"
        "    ldp x6, x7, [x0, #32]\n"
        "    ldp x8, x9, [x0, #48]\n"
        "    ldp x10, x11, [x0, #64]\n"
        "    ldp x12, x13, [x0, #80]\n"
        "    ldr x14, [x0, #96]\n"
        "    mov sp, x13\n"
        "    .cfi_register w19, w2\n"
        "    .cfi_register w20, w3\n"
        "    .cfi_register w21, w4\n"
        "    .cfi_register w22, w5\n"
        "    .cfi_register w23, w6\n"
        "    .cfi_register w24, w7\n"
        "    .cfi_register w25, w8\n"
        "    .cfi_register w26, w9\n"
        "    .cfi_register w27, w10\n"
        "    .cfi_register w28, w11\n"
        "    .cfi_register w29, w12\n"
        "    .cfi_register w30, w14\n"
        "    mov x30, x14\n"
        "    .cfi_same_value w30\n"
        "    mov x19, x2\n"
        "    .cfi_same_value w19\n"
        "    mov x20, x3\n"
        "    .cfi_same_value w20\n"
        "    mov x21, x4\n"
        "    .cfi_same_value w21\n"
        "    mov x22, x5\n"
        "    .cfi_same_value w22\n"
        "    mov x23, x6\n"
        "    .cfi_same_value w23\n"
        "    mov x24, x7\n"
        "    .cfi_same_value w24\n"
        "    mov x25, x8\n"
        "    .cfi_same_value w25\n"
        "    mov x26, x9\n"
        "    .cfi_same_value w26\n"
        "    mov x27, x10\n"
        "    .cfi_same_value w27\n"
        "    mov x28, x11\n"
        "    .cfi_same_value w28\n"
        "    mov x29, x12\n"
        "    .cfi_same_value w29\n"
        "    ldp x0, x1, [x0, #104]\n"
        "    ret\n"
        "    .cfi_endproc\n");
#endif

// ---- Images and their tables

struct image {
    const u8 *base, *unwind_info, *eh_frame;
};
static struct image images[4];
static int image_count;

void cxx_register(const void *base, const void *unwind_info, const void *eh_frame) {
    images[image_count++] = (struct image){base, unwind_info, eh_frame};
}

struct function {
    const u8 *start, *lsda;
    u32 encoding;
    const u8 *eh_frame;
};

static u32 word(const u8 *at) { return *(const u32 *)at; }
static u32 half(const u8 *at) { return *(const unsigned short *)at; }

static u64 uleb(const u8 **at) {
    u64 value = 0;
    for (int shift = 0;; shift += 7) {
        u8 byte = *(*at)++;
        value |= (u64)(byte & 0x7f) << shift;
        if (!(byte & 0x80)) return value;
    }
}

static long sleb(const u8 **at) {
    u64 value = 0;
    for (int shift = 0;;) {
        u8 byte = *(*at)++;
        value |= (u64)(byte & 0x7f) << shift;
        shift += 7;
        if (!(byte & 0x80)) return (long)(value << (64 - shift)) >> (64 - shift);
    }
}

// <mach-o/compact_unwind_encoding.h>
static int look_up(u64 pc, struct function *found) {
    for (int i = 0; i < image_count; i++) {
        const u8 *base = images[i].base, *table = images[i].unwind_info;
        const u8 *index = table + word(table + 20);
        u64 offset = pc - (u64)base;
        u32 pages = word(table + 24), page = 0;
        if (offset < word(index) || offset >= word(index + (pages - 1) * 12)) continue;
        while (word(index + (page + 1) * 12) <= offset) page++;
        const u8 *rows = table + word(index + page * 12 + 4);
        u32 row = 0, count = half(rows + 6), start;
        const u8 *entries = rows + half(rows + 4);
        if (word(rows) == 2) {
            while (row + 1 < count && word(entries + (row + 1) * 8) <= offset) row++;
            start = word(entries + row * 8);
            found->encoding = word(entries + row * 8 + 4);
        } else {
            u32 first = word(index + page * 12), common = word(table + 8);
            while (row + 1 < count && first + (word(entries + (row + 1) * 4) & 0xffffff) <= offset) row++;
            start = first + (word(entries + row * 4) & 0xffffff);
            u32 which = word(entries + row * 4) >> 24;
            found->encoding =
                which < common ? word(table + word(table + 4) + which * 4) : word(rows + half(rows + 8) + (which - common) * 4);
        }
        found->start = base + start;
        found->eh_frame = images[i].eh_frame;
        found->lsda = 0;
        const u8 *lsda = table + word(index + page * 12 + 8), *end = table + word(index + (page + 1) * 12 + 8);
        for (; lsda < end; lsda += 8) {
            if (word(lsda) == start) found->lsda = base + word(lsda + 4);
        }
        return 1;
    }
    return 0;
}

// What was found before: most of a search goes over frames that an earlier one has been at.
static int find(u64 pc, struct function *found) {
    static struct {
        u64 pc;
        struct function function;
    } known[256];
    u64 slot = pc * 0x9e3779b97f4a7c15 >> 56;
    if (known[slot].pc != pc) {
        if (!look_up(pc, &known[slot].function)) return 0;
        known[slot].pc = pc;
    }
    *found = known[slot].function;
    return 1;
}

// ---- Steps

struct rules {
    u64 code_alignment;
    int outermost;
    u64 cfa_register;
    long cfa_offset;
    long saved[32];
};

static void run_cfi(const u8 *at, const u8 *end, u64 location, u64 pc, struct rules *rules, const struct rules *initial) {
    struct rules kept[2];
    int depth = 0;
    while (at < end && location <= pc) {
        u8 code = *at++;
        switch (code & 0xc0) {
            case 0x40: location += (code & 0x3f) * rules->code_alignment; continue;
            case 0x80: rules->saved[code & 31] = (long)uleb(&at) * -8; continue;
            case 0xc0: rules->saved[code & 31] = initial ? initial->saved[code & 31] : 0; continue;
        }
        switch (code) {
            case 0x00: break;
            case 0x02: location += *at++ * rules->code_alignment; break;
            case 0x03: location += half(at) * rules->code_alignment, at += 2; break;
            case 0x04: location += word(at) * rules->code_alignment, at += 4; break;
            case 0x0a: kept[depth++] = *rules; break;
            case 0x0b: *rules = kept[--depth]; break;
            case 0x07: rules->outermost |= uleb(&at) == RETURN_ADDRESS; break;
            case 0x08: rules->saved[uleb(&at) & 31] = 0; break;
            case 0x0c: rules->cfa_register = uleb(&at), rules->cfa_offset = (long)uleb(&at); break;
            case 0x0d: rules->cfa_register = uleb(&at); break;
            case 0x0e: rules->cfa_offset = (long)uleb(&at); break;
            case 0x2e: uleb(&at); break;
            default: sys_abort("cxxabi: an unknown DW_CFA");
        }
    }
}

// An entry of __eh_frame as clang writes it: data alignment -8, "zR" or "zPLR", pointers relative to their place.
static void step_by_cfi(struct context *context, struct function *function) {
    const u8 *fde = function->eh_frame + (function->encoding & 0xffffff), *fde_end = fde + 4 + word(fde);
    const u8 *cie = fde + 4 - word(fde + 4), *cie_end = cie + 4 + word(cie), *at = cie + 9;
    int has_lsda = at[1] == 'P';
    at += strlen((const char *)at) + 1;
    struct rules rules = {.code_alignment = uleb(&at)}, initial;
    sleb(&at), uleb(&at);
    u64 length = uleb(&at);
    at += length;
    run_cfi(at, cie_end, 0, 0, &rules, 0);
    initial = rules;
    at = fde + 8;
    u64 start = (u64)at + *(const u64 *)at;
    at += 16;
    length = uleb(&at);
    if (has_lsda) function->lsda = at + *(const u64 *)at;
    run_cfi(at + length, fde_end, start, context->registers[PC] - 1, &rules, &initial);
    u64 cfa = context->registers[slots[rules.cfa_register] - 1] + (u64)rules.cfa_offset;
    for (int i = 0; i < 32; i++) {
        if (rules.saved[i] && slots[i]) context->registers[slots[i] - 1] = *(u64 *)(cfa + (u64)rules.saved[i]);
    }
    context->registers[SP] = cfa;
    // Nothing lies there.
    if (rules.outermost) context->registers[PC] = 0;
}

static void step_by_frame_pointer(struct context *context, u32 encoding) {
    const u64 *frame = (const u64 *)context->registers[FP];
#if defined(__x86_64__)
    static const u8 order[] = {0, RBX, R12, R13, R14, R15, RBP};
    const u64 *saved = frame - (encoding >> 16 & 0xff);
    for (int i = 0; i < 5; i++) {
        u32 which = encoding >> (3 * i) & 7;
        if (which) context->registers[order[which]] = saved[i];
    }
#else
    const u64 *saved = frame;
    for (int pair = 0; pair < 5; pair++) {
        if (!(encoding >> pair & 1)) continue;
        context->registers[2 * pair] = *--saved;
        context->registers[2 * pair + 1] = *--saved;
    }
#endif
    context->registers[SP] = (u64)(frame + 2);
    context->registers[PC] = frame[1];
    context->registers[FP] = frame[0];
}

// ---- The personality (Itanium C++ ABI: Exception Handling, 2; LSDA as in GCC's unwind-pe.h)

static int catches(const struct type *type, const struct type *thrown) {
    extern void *const si_class_type_info[] __asm__("__ZTVN10__cxxabiv120__si_class_type_infoE");
    for (;;) {
        if (type == 0 || type == thrown) return 1;
        if (thrown->vtable != si_class_type_info + 2) return 0;
        thrown = thrown->base;
    }
}

enum verdict { NOTHING, CLEANUP, HANDLER, TERMINATE };

static enum verdict judge(const struct function *function, u64 pc, const struct exception *exception, struct context *out) {
    const u8 *at = function->lsda, *types = 0;
    if (*at++ != 0xff) sys_abort("cxxabi: landing pads that start elsewhere");
    if (*at++ != 0xff) {
        u64 offset = uleb(&at);
        types = at + offset;
    }
    u8 encoding = *at++;
    u64 length = uleb(&at), offset = pc - 1 - (u64)function->start;
    if (encoding != 1) sys_abort("cxxabi: call sites in an unknown encoding");
    const u8 *actions = at + length;
    while (at < actions) {
        u64 start = uleb(&at), size = uleb(&at), pad = uleb(&at), action = uleb(&at);
        if (offset < start || offset - start >= size) continue;
        if (!pad) return NOTHING;
        out->registers[PC] = (u64)function->start + pad;
        out->registers[FIRST] = (u64)exception;
        out->registers[SECOND] = 0;
        for (const u8 *entry = action ? actions + action - 1 : 0; entry;) {
            long filter = sleb(&entry);
            const u8 *next_at = entry;
            long next = sleb(&entry);
            if (filter > 0) {
                const u8 *place = types - 4 * filter;
                int distance = (int)word(place);
                const struct type *type = distance ? *(const struct type **)(place + distance) : 0;
                if (catches(type, exception->type)) {
                    out->registers[SECOND] = (u64)filter;
                    return HANDLER;
                }
            }
            entry = next ? next_at + next : 0;
        }
        return CLEANUP;
    }
    return TERMINATE;
}

_Noreturn void cxx_terminate(void) __asm__("__ZSt9terminatev");
_Noreturn void cxx_terminate(void) { sys_abort("terminating"); }

// Looks for whoever is to go on after `exception`, from `from` outwards. Returns only if nobody is.
static enum verdict search(struct exception *exception, const struct context *from, int for_handler) {
    struct context context = *from;
    struct function function;
    while (find(context.registers[PC] - 1, &function)) {
        struct context here = context;
        u32 mode = function.encoding >> 24 & 0xf;
#if defined(__x86_64__)
        int dwarf = mode == 4, by_frame_pointer = mode == 1;
#else
        int dwarf = mode == 3, by_frame_pointer = mode == 4;
#endif
        if (dwarf) {
            step_by_cfi(&context, &function);
        } else if (by_frame_pointer) {
            step_by_frame_pointer(&context, function.encoding);
        } else {
            break;
        }
        enum verdict verdict = function.lsda ? judge(&function, here.registers[PC], exception, &here) : NOTHING;
        if (verdict == TERMINATE || (verdict == HANDLER && for_handler)) return verdict;
        if (verdict != NOTHING && !for_handler) cxx_install(&here);
    }
    return NOTHING;
}

_Noreturn static void go_on(struct exception *exception, const struct context *context) {
    if (search(exception, context, 1) == HANDLER) search(exception, context, 0);
    cxx_terminate();
}

// ---- What compiled code calls

static struct exception *caught;
static char pool[1 << 13] __attribute__((aligned(16)));
static size_t used;

void *__cxa_allocate_exception(size_t size) {
    struct exception *exception = (struct exception *)(pool + used);
    used += sizeof *exception + ((size + 15) & ~15ul);
    return exception + 1;
}
void __cxa_free_exception(void *object) { (void)object; }

_Noreturn void cxx_throw(void *object, struct type *type, void (*destructor)(void *), struct context *context) {
    struct exception *exception = (struct exception *)object - 1;
    *exception = (struct exception){.type = type, .destructor = destructor};
    go_on(exception, context);
}
_Noreturn void cxx_resume(struct exception *exception, long a, long b, struct context *context) {
    (void)a, (void)b;
    search(exception, context, 0);
    cxx_terminate();
}
_Noreturn void cxx_rethrow(long a, long b, long c, struct context *context) {
    (void)a, (void)b, (void)c;
    // Its handler's `__cxa_end_catch` is still to come, and must not destroy it.
    caught->handlers = -caught->handlers;
    go_on(caught, context);
}

void *__cxa_begin_catch(struct exception *exception) {
    if (exception->handlers <= 0) {
        exception->handlers = -exception->handlers;
        if (caught != exception) exception->caught_before = caught;
        caught = exception;
    }
    exception->handlers++;
    return exception + 1;
}
void __cxa_end_catch(void) {
    struct exception *exception = caught;
    if (exception->handlers < 0) {
        if (++exception->handlers == 0) caught = exception->caught_before;
    } else if (--exception->handlers == 0) {
        caught = exception->caught_before;
        if (exception->destructor) exception->destructor(exception + 1);
    }
}

void cxx_personality(void) __asm__("___gxx_personality_v0");
void cxx_personality(void) { sys_abort("the personality is built in"); }
void cxx_pure_virtual(void) __asm__("___cxa_pure_virtual");
void cxx_pure_virtual(void) { sys_abort("a pure virtual function was called"); }
void cxx_delete(void *object) __asm__("__ZdlPvm");
void cxx_delete(void *object) { (void)object; }

void *const cxx_class_type_info[4] __asm__("__ZTVN10__cxxabiv117__class_type_infoE") = {0};
void *const cxx_si_class_type_info[4] __asm__("__ZTVN10__cxxabiv120__si_class_type_infoE") = {0};
const struct type cxx_int __asm__("__ZTIi") = {cxx_class_type_info + 2, "i", 0};
const struct type cxx_long __asm__("__ZTIl") = {cxx_class_type_info + 2, "l", 0};

// A C function with a frame of its own between a throw and its handler, in another image.
NOINLINE long cxx_through(long (*function)(long), long a) {
    volatile long local[4] = {a, a + 1, a + 2, a + 3};
    long value = function(local[1]);
    return value + local[2];
}

extern const u8 own_header __asm__("___dso_handle");
extern const u8 own_unwind_info __asm__("section$start$__TEXT$__unwind_info");
extern const u8 own_eh_frame __asm__("section$start$__TEXT$__eh_frame");
void cxx_start(void) { cxx_register(&own_header, &own_unwind_info, &own_eh_frame); }
