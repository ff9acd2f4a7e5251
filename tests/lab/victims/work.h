// libwork.dylib: functions of every shape that compilers give to frames.
#pragma once

struct wide {
    long values[12];
};

long work_calls(long n);
long work_shapes(long n);
long work_frames(long n);
long work_flow(long n);
long work_probes_inline(long n);
long work_probes_called(long n);

/// Dies in the way of `kind`'s first letters; returns only for an unknown one.
void work_die(const char *kind);
