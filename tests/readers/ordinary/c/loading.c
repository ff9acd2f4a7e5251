/* Deaths on the way into and out of main, and in libraries: the dynamic linker's frames lie on these stacks. */
#include "death.h"

#include <dlfcn.h>
#include <unistd.h>

static volatile int two = 2;
static const char *wanted = "";

#ifndef LIBRARY

static __attribute__((constructor)) void early(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "constructor") == 0)
        die();
    wanted = argc > 1 ? argv[1] : "";
}
static __attribute__((destructor)) void late(void) {
    if (strcmp(wanted, "destructor") == 0)
        die();
}

static int (*from_library(const char *argument))(int) {
    /* "./": a path that a core file's reader can follow. */
    void *library = dlopen("./libloading.so", RTLD_NOW);
    if (!library) {
        fprintf(stderr, "%s: %s\n", argument, dlerror());
        exit(2);
    }
    return (int (*)(int))dlsym(library, "in_library");
}
static int calls_back(int n) { return n > 1 ? die() : n; }
static void library(void) { from_library("library")(two); }
static void library_constructor(void) {
    setenv("DIE_IN_CONSTRUCTOR", "1", 1);
    from_library("library-constructor");
}
static void library_callback(void) {
    void *library = dlopen("./libloading.so", RTLD_NOW);
    int (*call)(int (*)(int)) = (int (*)(int (*)(int)))dlsym(library, "call_back");
    int n = call(calls_back);
    AFTER_CALL(n);
}
static void deleted_library(void) {
    int (*function)(int) = from_library("deleted-library");
    unlink("./libloading.so");
    int n = function(two);
    AFTER_CALL(n);
}
static void nothing(void) {}
/* The library calls a function whose implementation is chosen when it is first called: lazy binding. */
static void resolver(void) {
    setenv("DIE_IN_RESOLVER", "1", 1);
    void *library = dlopen("./libloading.so", RTLD_LAZY);
    if (library)
        two = ((int (*)(int))dlsym(library, "in_library"))(two);
}
static void destructor(void) { exit(two); }

int main(int argc, char **argv) {
    static const struct death deaths[] = {
        {"constructor", nothing}, {"destructor", destructor}, {"resolver", resolver}, {"library", library},
        {"library-constructor", library_constructor}, {"library-callback", library_callback},
        {"deleted-library", deleted_library},
    };
    return DISPATCH(deaths, argc, argv);
}

#else

static NOINLINE int deeper(int n) {
    char pad[100];
    memset(pad, n, sizeof pad);
    int r = pad[1] == 2 ? die() : pad[7];
    AFTER_CALL(r);
    return r + pad[3];
}
static int implementation(void) { return two; }
static int (*choose(void))(void) {
    if (getenv("DIE_IN_RESOLVER"))
        die();
    return implementation;
}
int chosen(void) __attribute__((ifunc("choose")));

int in_library(int n) {
    int r = deeper(chosen() + n - 2);
    AFTER_CALL(r);
    return r;
}
int call_back(int (*function)(int)) {
    int r = function(two);
    AFTER_CALL(r);
    return r;
}
static __attribute__((constructor)) void loaded(void) {
    if (getenv("DIE_IN_CONSTRUCTOR"))
        deeper(two);
    (void)wanted;
}

#endif
