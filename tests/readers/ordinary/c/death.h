/* What the programs of this folder share: a table of ways to die, of which the first argument names one. */
#ifndef DEATH_H
#define DEATH_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NOINLINE __attribute__((noinline))
/* Keeps a call from becoming a jump, and its result from being known. */
#define AFTER_CALL(result) __asm__ volatile("" : "+r"(result) : : "memory")

/* Writes to address 0. Inlined, so that the function that does it is the one that dies. The compiler must not know: it takes
   what can't happen for what need not be there. */
static inline __attribute__((always_inline)) int die(void) {
    volatile int *nowhere = NULL;
    __asm__("" : "+r"(nowhere));
    *nowhere = 1;
    return 1;
}

struct death {
    const char *name;
    void (*run)(void);
};

static inline int dispatch(const struct death *deaths, size_t count, int argc, char **argv) {
    for (size_t i = 0; argc > 1 && i < count; i++)
        if (strcmp(deaths[i].name, argv[1]) == 0) {
            deaths[i].run();
            return 3; /* it lives */
        }
    fprintf(stderr, "usage: %s DEATH\n", argv[0]);
    return 2;
}

#define DISPATCH(deaths, argc, argv) dispatch(deaths, sizeof(deaths) / sizeof(*(deaths)), argc, argv)

#endif
