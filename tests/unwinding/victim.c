// Dies in the way that its first argument names, at the end of a chain of calls that the tests know:
// main -> outer -> middle -> inner -> (the death).
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define NOINLINE __attribute__((noinline, noclone))
// Something to do after a call, so that it is no tail call.
#define AFTER __asm__ volatile("" ::: "memory")

static const char *way;
static volatile int zero;
static int is(const char *name) { return strcmp(way, name) == 0; }

NOINLINE void die_reading(volatile int *p) { *p = 1; AFTER; }
NOINLINE int recurse(int n) { char pad[32]; memset(pad, n, sizeof pad); int r = recurse(n + 1); AFTER; return r + pad[zero]; }
NOINLINE int ping(int n);
NOINLINE int pong(int n) { int r = ping(n - 1); AFTER; return r + 1; }
NOINLINE int ping(int n) { if (n <= 0) { die_reading(0); } int r = pong(n - 1); AFTER; return r + 1; }

NOINLINE void on_fault(int signal) { (void)signal; die_reading((int *)16); AFTER; }
NOINLINE void on_fault_abort(int signal) { (void)signal; abort(); AFTER; }
NOINLINE void on_second(int signal) { (void)signal; die_reading((int *)32); AFTER; }
NOINLINE void on_first(int signal) { (void)signal; raise(SIGUSR2); AFTER; }

static void handle(int signal, void (*handler)(int), int flags) {
    struct sigaction action = {.sa_handler = handler, .sa_flags = flags};
    sigaction(signal, &action, 0);
}

// An over-aligned local makes the compiler align the stack at run time.
NOINLINE void aligned(void) {
    char buffer[256] __attribute__((aligned(128)));
    memset(buffer, zero, sizeof buffer);
    __asm__ volatile("" :: "r"(buffer) : "memory");
    die_reading(0);
    AFTER;
}

static int compare(const void *a, const void *b) { (void)a; (void)b; die_reading(0); AFTER; return 0; }

NOINLINE void smash(void) {
    // Overwrites its own frame and its callers' with a pattern that is no address, then faults.
    volatile unsigned long *frame = __builtin_frame_address(0);
    for (int i = 0; i < 12; i++) frame[i] = 0x4141414141414141ul;
    die_reading(0);
    AFTER;
}

NOINLINE void inner(void) {
    if (is("null-write")) die_reading(0);
    else if (is("call-null")) { void (*volatile f)(void) = 0; f(); }
    else if (is("call-data")) { static long data[4]; void (*volatile f)(void) = (void (*)(void))data; f(); }
    else if (is("call-noncanonical")) { void (*volatile f)(void) = (void (*)(void))0x4141414141414141; f(); }
    else if (is("wild-jump")) __asm__ volatile("jmp *%0" :: "r"(0x1234567L));
    else if (is("abort")) abort();
    else if (is("overflow")) recurse(0);
    else if (is("ping-pong")) ping(2000);
    else if (is("handler-fault")) { handle(SIGSEGV, on_fault, SA_NODEFER); die_reading(0); }
    else if (is("handler-abort")) { handle(SIGSEGV, on_fault_abort, 0); die_reading(0); }
    else if (is("nested")) { handle(SIGUSR1, on_first, 0); handle(SIGUSR2, on_second, 0); raise(SIGUSR1); }
    else if (is("altstack")) {
        stack_t stack = {.ss_sp = malloc(65536), .ss_size = 65536};
        sigaltstack(&stack, 0);
        handle(SIGSEGV, on_fault_abort, SA_ONSTACK);
        die_reading(0);
    }
    else if (is("altstack-null")) {
        stack_t stack = {.ss_sp = malloc(65536), .ss_size = 65536};
        sigaltstack(&stack, 0);
        handle(SIGSEGV, on_fault_abort, SA_ONSTACK);
        void (*volatile f)(void) = 0; f();
    }
    else if (is("aligned")) aligned();
    else if (is("callback")) { int v[2] = {1, 2}; qsort(v, 2, sizeof *v, compare); }
    else if (is("vdso")) { for (;;) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); } }
    else if (is("smash")) smash();
    else if (is("sp-odd")) __asm__ volatile("add $3, %%rsp; ud2" ::: "memory");
    else if (is("sp-wild")) __asm__ volatile("mov $0x10, %%rsp; ud2" ::: "memory");
    else if (is("fp-loop")) __asm__ volatile("mov %%rsp, %%rbp; push %%rbp; mov %%rsp, %%rbp; mov %%rbp, (%%rbp); jmp *%0" :: "r"(0x1234567L) : "memory");
    AFTER;
}
NOINLINE void middle(void) { inner(); AFTER; }
NOINLINE void outer(void) { middle(); AFTER; }

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int ends[2];
NOINLINE void wait_futex(void) { pthread_mutex_lock(&lock); AFTER; }
NOINLINE void wait_read(void) { char c; if (read(ends[0], &c, 1)) AFTER; }
NOINLINE void wait_sleep(void) { struct timespec t = {1000, 0}; nanosleep(&t, 0); AFTER; }
NOINLINE void wait_spin(void) { while (!zero) AFTER; }
typedef void (*waiter)(void);
NOINLINE void *thread(void *run) { ((waiter)run)(); AFTER; return 0; }

int main(int count, char **arguments) {
    way = count > 1 ? arguments[1] : "null-write";
    if (is("threads")) {
        pthread_t id;
        pthread_mutex_lock(&lock);
        if (pipe(ends)) return 1;
        waiter waiters[] = {wait_futex, wait_read, wait_sleep, wait_spin};
        for (int i = 0; i < 4; i++) pthread_create(&id, 0, thread, (void *)waiters[i]);
        usleep(200000);
        way = "null-write";
    }
    if (is("vdso")) { handle(SIGALRM, on_fault_abort, 0); alarm(1); }
    outer();
    AFTER;
    return 0;
}
