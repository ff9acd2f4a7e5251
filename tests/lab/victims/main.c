// main: `main tour` calls everything, in four threads; `main die KIND` dies in libwork; `main thread-die KIND` in a thread.
#include "sys.h"
#include "work.h"

static int done, ready;
static long results;

NOINLINE static void finish(long value) {
    __atomic_add_fetch(&results, value, __ATOMIC_RELAXED);
    __atomic_add_fetch(&done, 1, __ATOMIC_RELEASE);
    sys_wake(&done);
}

NOINLINE static void caller(void *argument) {
    sys_name("caller");
    finish(work_calls((long)argument) + 1);
}

NOINLINE static void shaper(void *argument) {
    sys_name("shaper");
    finish(work_shapes((long)argument) + work_probes_inline(1) + work_probes_called(1));
}

NOINLINE static void framer(void *argument) {
    sys_name("framer");
    finish(work_frames((long)argument) + 1);
}

NOINLINE static int tour(void) {
    sys_spawn(caller, (void *)5);
    sys_spawn(shaper, (void *)6);
    sys_spawn(framer, (void *)7);
    long value = work_flow(4);
    for (int seen; (seen = __atomic_load_n(&done, __ATOMIC_ACQUIRE)) < 3;) sys_wait(&done, seen);
    return value == 0;
}

NOINLINE static void sleeper(void *argument) {
    sys_name("sleeper");
    __atomic_add_fetch(&ready, 1, __ATOMIC_RELEASE);
    sys_wake(&ready);
    sys_wait(&done, 0);
    finish((long)argument);
}

NOINLINE static void victim(void *argument) {
    sys_name("victim");
    work_die(argument);
    finish(0);
}

NOINLINE static void wait_for(int *word, int value) {
    for (int seen; (seen = __atomic_load_n(word, __ATOMIC_ACQUIRE)) < value;) sys_wait(word, seen);
}

NOINLINE static int die(char *kind, int in_thread) {
    sys_spawn(sleeper, (void *)1);
    sys_spawn(sleeper, (void *)2);
    wait_for(&ready, 2);
    if (in_thread) {
        sys_spawn(victim, kind);
        wait_for(&done, 3);
    } else {
        work_die(kind);
    }
    return 3;
}

int main(int argc, char **argv) {
    sys_name("main");
    switch (argc > 1 ? argv[1][1] : 'o') {
        case 'o': return tour();
        case 'i': return die(argv[2], 0);
        case 'h': return die(argv[2], 1);
    }
    return 2;
}
