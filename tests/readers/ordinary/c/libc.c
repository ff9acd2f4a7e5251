/* Deaths inside of the C library, below it, and by its own decision. */
#include "death.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <link.h>
#include <pthread.h>
#include <search.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static volatile int zero, two = 2;

static int compare(const void *a, const void *b) { return *(const int *)a == 3 ? die() : *(const int *)a - *(const int *)b; }
static void sort(void) {
    int values[] = {5, 1, 3, 2};
    qsort(values, 4, sizeof(int), compare);
}
static void search(void) {
    int values[] = {1, 2, 3}, key = 3;
    puts(bsearch(&key, values, 3, sizeof(int), compare) ? "found" : "none");
}
static void visit(const void *node, VISIT visit, int level) {
    (void)node, (void)visit;
    if (level == 1)
        die();
}
static int by_number(const void *a, const void *b) { return *(const int *)a - *(const int *)b; }
static void walk_tree(void) {
    static int values[] = {2, 1, 3};
    void *root = NULL;
    for (int i = 0; i < 3; i++)
        tsearch(&values[i], &root, by_number);
    twalk(root, visit);
}
static ssize_t cookie_write(void *cookie, const char *data, size_t size) {
    (void)cookie, (void)data;
    return die() + (ssize_t)size;
}
static void stream(void) {
    FILE *file = fopencookie(NULL, "w", (cookie_io_functions_t){.write = cookie_write});
    fprintf(file, "%d bytes", two);
    fflush(file);
}
static int image(struct dl_phdr_info *info, size_t size, void *data) {
    (void)info, (void)size, (void)data;
    return die();
}
static void images(void) { dl_iterate_phdr(image, NULL); }
static int file(const char *path, const struct stat *status, int flag) {
    (void)path, (void)status, (void)flag;
    return die();
}
static void file_tree(void) { ftw("/proc/self/task", file, 4); }
static void once_routine(void) { die(); }
static void once(void) {
    static pthread_once_t control = PTHREAD_ONCE_INIT;
    pthread_once(&control, once_routine);
}
static void at_exit_handler(void) { die(); }
static void at_exit(void) {
    atexit(at_exit_handler);
    exit(two);
}
static void key_destructor(void *value) { *(volatile int *)value = die(); }
static void *sets_key(void *argument) {
    pthread_key_t key;
    pthread_key_create(&key, key_destructor);
    pthread_setspecific(key, &key);
    return argument;
}
static void thread_exit(void) {
    pthread_t thread;
    pthread_create(&thread, NULL, sets_key, NULL);
    pthread_join(thread, NULL);
}
static void cleanup(void *argument) {
    (void)argument;
    die();
}
static volatile int waits;
static void *is_cancelled(void *argument) {
    pthread_cleanup_push(cleanup, argument);
    waits = 1;
    pause();
    pthread_cleanup_pop(0);
    return NULL;
}
static void cancellation(void) {
    pthread_t thread;
    pthread_create(&thread, NULL, is_cancelled, NULL);
    while (!waits)
        usleep(1000);
    pthread_cancel(thread);
    pthread_join(thread, NULL);
}

static void bad_copy(void) { memcpy((void *)(long)(zero + 8), "abcdefghijklmnop", 16 * two); }
static void bad_length(void) { printf("%zu\n", strlen((char *)(long)zero)); }
static void bad_format(void) { printf("%s and %s\n", "one", (char *)(long)(zero + 1)); }
static void bad_time(void) { clock_gettime(CLOCK_MONOTONIC, (struct timespec *)(long)(zero + 16)); }
static void bad_environment(void) {
    extern char **environ;
    environ = (char **)(long)(zero + 8);
    puts(getenv("HOME"));
}

static void call_abort(void) { abort(); }
static void assertion(void) { assert(two == 3); }
static void raise_segv(void) { raise(SIGSEGV); }
static void kill_self(void) { kill(getpid(), SIGBUS); }
static void quit(void) { raise(SIGQUIT); }
static NOINLINE void smash(char *buffer) { memset(buffer, 'x', 64 * two); }
static NOINLINE void stack_smashing(void) {
    char buffer[16];
    smash(buffer);
}
/* Not in every C library. */
extern __attribute__((weak)) void *__memcpy_chk(void *, const void *, size_t, size_t);
static void fortify(void) { puts(__memcpy_chk(malloc(8), "0123456789abcdef", 8 * two, 8)); }
static void double_free(void) {
    char *volatile memory = malloc(5000), *volatile guard = malloc(10);
    free(memory);
    free(memory);
    free(guard);
}
static void free_no_memory(void) {
    char *volatile inside = (char *)&two;
    free(inside);
}
static void cpu_time(void) {
    struct rlimit limit = {0, 1};
    setrlimit(RLIMIT_CPU, &limit);
    for (;;)
        zero++;
}
static void truncated_file(void) {
    int fd = memfd_create("truncated", 0);
    ftruncate(fd, 4096);
    volatile char *bytes = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
    ftruncate(fd, 0);
    zero = bytes[100];
}
static void jump_to_data(void) {
    static char data[] = {(char)0xc3};
    ((void (*)(void))(void *)data)();
}
static void call_null(void) {
    void (*volatile nothing)(void) = NULL;
    nothing();
}
static void call_wild(void) {
    void (*volatile wild)(void) = (void (*)(void))0x5555deadbeefULL;
    wild();
}
static void divide(void) { two = two / zero; }
static void trap(void) { __builtin_trap(); }
static void breakpoint(void) { __asm__ volatile("int3"); }
static void privileged(void) { __asm__ volatile("hlt"); }

int main(int argc, char **argv) {
    static const struct death deaths[] = {
        {"sort", sort}, {"search", search}, {"walk-tree", walk_tree}, {"stream", stream}, {"images", images},
        {"file-tree", file_tree}, {"once", once}, {"at-exit", at_exit}, {"thread-exit", thread_exit},
        {"cancellation", cancellation}, {"bad-copy", bad_copy}, {"bad-length", bad_length}, {"bad-format", bad_format},
        {"bad-time", bad_time}, {"bad-environment", bad_environment}, {"abort", call_abort}, {"assertion", assertion},
        {"raise", raise_segv}, {"kill", kill_self}, {"quit", quit}, {"stack-smashing", stack_smashing},
        {"fortify", fortify}, {"double-free", double_free}, 
        {"free-no-memory", free_no_memory}, {"cpu-time", cpu_time}, {"truncated-file", truncated_file},
        {"jump-to-data", jump_to_data}, {"call-null", call_null}, {"call-wild", call_wild}, {"divide", divide},
        {"trap", trap}, {"breakpoint", breakpoint}, {"privileged", privileged},
    };
    return DISPATCH(deaths, argc, argv);
}
