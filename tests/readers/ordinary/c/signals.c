/* Deaths in signal handlers: on the thread's stack and on another one, nested, of system calls and of running code. */
#include "death.h"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

static volatile int zero, two = 2;

static void handle(int signal, void (*handler)(int), int flags) {
    struct sigaction action = {.sa_handler = handler, .sa_flags = flags};
    sigaction(signal, &action, NULL);
}
static void other_stack(void) {
    static char stack[64 * 1024];
    sigaltstack(&(stack_t){.ss_sp = stack, .ss_size = sizeof stack}, NULL);
}
static void dies(int signal) {
    if (signal != zero)
        die();
}
static void aborts(int signal) {
    if (signal != zero)
        abort();
}

static void in_handler(void) {
    handle(SIGUSR1, dies, 0);
    raise(SIGUSR1);
}
static void on_other_stack(void) {
    other_stack();
    handle(SIGUSR1, dies, SA_ONSTACK);
    raise(SIGUSR1);
}
static void abort_in_fault_handler(void) {
    other_stack();
    handle(SIGSEGV, aborts, SA_ONSTACK);
    die();
}
static NOINLINE int endless(int n) {
    volatile char pad[1000];
    pad[n % 1000] = 1;
    int r = endless(n + 1);
    AFTER_CALL(r);
    return r + pad[3];
}
static void overflow_into_handler(void) {
    other_stack();
    handle(SIGSEGV, aborts, SA_ONSTACK);
    endless(two);
}
static void second(int signal) { dies(signal); }
static void first(int signal) {
    handle(SIGUSR2, second, SA_ONSTACK);
    raise(signal == SIGUSR1 ? SIGUSR2 : SIGTERM);
}
static void nested(void) {
    handle(SIGUSR1, first, 0);
    raise(SIGUSR1);
}
static void nested_on_other_stack(void) {
    other_stack();
    handle(SIGUSR1, first, 0);
    raise(SIGUSR1);
}
static void after_alarm(void) {
    handle(SIGALRM, dies, 0);
    setitimer(ITIMER_REAL, &(struct itimerval){.it_value = {.tv_usec = 20000}}, NULL);
}
static void interrupts_sleep(void) {
    after_alarm();
    nanosleep(&(struct timespec){.tv_sec = 60}, NULL);
}
/* Somewhere in a loop that makes and leaves frames. */
static NOINLINE int busy(int n) { return n < 3 ? n : busy(n - 1) * 3 + busy(n - 3); }
static void interrupts_work(void) {
    after_alarm();
    for (;;)
        two = busy(18) & 3;
}
static void interrupts_library(void) {
    static char from[100000], to[100000];
    after_alarm();
    for (;;) {
        memcpy(to, from, sizeof to - two);
        two = strnlen(to, 500) & 3;
    }
}
static void interrupts_clock(void) {
    struct timespec now;
    after_alarm();
    for (;;)
        clock_gettime(CLOCK_MONOTONIC, &now);
}
static void *waits_for_signal(void *argument) {
    for (;;)
        pause();
    return argument;
}
static void in_thread(void) {
    pthread_t thread;
    handle(SIGUSR1, dies, 0);
    pthread_create(&thread, NULL, waits_for_signal, NULL);
    pthread_kill(thread, SIGUSR1);
    pthread_join(thread, NULL);
}
static sigjmp_buf environment;
static void jumps(int signal) { siglongjmp(environment, signal); }
static void after_jump_out(void) {
    handle(SIGSEGV, jumps, SA_NODEFER);
    if (sigsetjmp(environment, 1) == 0)
        die();
    handle(SIGSEGV, SIG_DFL, 0);
    die();
}
static void null_call_handler(int signal, siginfo_t *info, void *context) {
    (void)info, (void)context;
    aborts(signal);
}
static void fault_of_null_call(void) {
    struct sigaction action = {.sa_sigaction = null_call_handler, .sa_flags = SA_SIGINFO};
    void (*volatile nothing)(void) = NULL;
    sigaction(SIGSEGV, &action, NULL);
    nothing();
}

static ucontext_t home, coroutine;
/* Not in every C library. */
extern __attribute__((weak)) int getcontext(ucontext_t *), swapcontext(ucontext_t *, const ucontext_t *);
extern __attribute__((weak)) void makecontext(ucontext_t *, void (*)(void), int, ...);
static NOINLINE int works(int n) {
    int r = n == 0 ? die() : works(n - 1);
    AFTER_CALL(r);
    return r;
}
static void coroutine_body(void) { works(two); }
static void make_coroutine(void *stack, size_t size) {
    getcontext(&coroutine);
    coroutine.uc_stack = (stack_t){.ss_sp = stack, .ss_size = size};
    coroutine.uc_link = &home;
    makecontext(&coroutine, coroutine_body, 0);
    swapcontext(&home, &coroutine);
}
static void in_coroutine(void) { make_coroutine(malloc(64 * 1024), 64 * 1024); }
static void in_mapped_coroutine(void) {
    make_coroutine(mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), 1 << 20);
}
static void *in_thread_body(void *argument) {
    in_coroutine();
    return argument;
}
static void coroutine_in_thread(void) {
    pthread_t thread;
    pthread_create(&thread, NULL, in_thread_body, NULL);
    pthread_join(thread, NULL);
}

/* Code made at run time that calls back: push rbp; mov rbp, rsp; call *rdi; pop rbp; ret. And the same without a frame. */
static void call_made_code(const char *bytes, size_t size) {
    char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memcpy(page, bytes, size);
    mprotect(page, 4096, PROT_READ | PROT_EXEC);
    ((void (*)(int (*)(int)))(void *)page)(works);
}
static void made_code(void) { call_made_code("\x55\x48\x89\xe5\x48\x89\xf8\x31\xff\xff\xd0\x5d\xc3", 13); }
static void made_code_without_frame(void) { call_made_code("\x48\x83\xec\x18\x48\x89\xf8\x31\xff\xff\xd0\x48\x83\xc4\x18\xc3", 16); }

int main(int argc, char **argv) {
    static const struct death deaths[] = {
        {"in-handler", in_handler}, {"on-other-stack", on_other_stack},
        {"abort-in-fault-handler", abort_in_fault_handler}, {"overflow-into-handler", overflow_into_handler},
        {"nested", nested}, {"nested-on-other-stack", nested_on_other_stack}, {"interrupts-sleep", interrupts_sleep},
        {"interrupts-work", interrupts_work}, {"interrupts-library", interrupts_library},
        {"interrupts-clock", interrupts_clock}, {"in-thread", in_thread}, {"after-jump-out", after_jump_out},
        {"fault-of-null-call", fault_of_null_call}, {"in-coroutine", in_coroutine},
        {"in-mapped-coroutine", in_mapped_coroutine}, {"coroutine-in-thread", coroutine_in_thread},
        {"made-code", made_code}, {"made-code-without-frame", made_code_without_frame},
    };
    return DISPATCH(deaths, argc, argv);
}
