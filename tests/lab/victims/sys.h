// What the lab's victims have in the place of libSystem: Linux system calls in a Mach-O library, and nothing else.
#pragma once

typedef unsigned long size_t;
#define NOINLINE __attribute__((noinline))

_Noreturn void sys_exit(int status);
long sys_write(int fd, const void *bytes, size_t length);
int sys_name(const char *name);
/// Starts a thread that calls `function(argument)`. Returns its id.
long sys_spawn(void (*function)(void *), void *argument);
/// Waits until `*word` is no longer `value`.
void sys_wait(int *word, int value);
void sys_wake(int *word);
_Noreturn void sys_pause(void);
/// Leaves `message` for the crash reporter and dies of SIGABRT.
_Noreturn void sys_abort(const char *message);
size_t strlen(const char *text);
void *memset(void *target, int byte, size_t length);
void *memcpy(void *target, const void *source, size_t length);
/// Hand-written code without unwind information: a leaf, and a function that saves registers.
long asm_leaf(long a, long b);
long asm_saves(long (*function)(long), long a);
