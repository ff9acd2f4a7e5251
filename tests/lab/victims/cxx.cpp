// main of the C++ builds: exceptions of every shape. `main tour` throws and catches all over; `main die KIND` dies of one.
extern "C" {
#include "sys.h"
void cxx_start(void);
void cxx_register(const void *base, const void *unwind_info, const void *eh_frame);
long cxx_through(long (*function)(long), long a);
extern const char own_header __asm__("___dso_handle");
extern const char own_unwind_info __asm__("section$start$__TEXT$__unwind_info");
extern const char own_eh_frame __asm__("section$start$__TEXT$__eh_frame");
}

static volatile long sink;
static long *volatile nowhere;

NOINLINE static long leaf(long a) { return a * 3 + 1; }

struct Failure {
    long value;
    explicit Failure(long value) : value(value) {}
    virtual ~Failure() { sink = sink + value; }
    virtual long weight() const { return leaf(value); }
};
struct Special : Failure {
    long more[5];
    explicit Special(long value) : Failure(value), more{1, 2, 3, value, 5} {}
    ~Special() override { sink = sink + leaf(more[3]); }
    long weight() const override { return more[3] + leaf(more[1]); }
};

// Something to clean up, by a call that can't be left out.
struct Guard {
    long value;
    explicit Guard(long value) : value(value) { sink = sink + 1; }
    NOINLINE ~Guard() { sink = sink + leaf(value); }
};
struct CrashingGuard {
    long value;
    NOINLINE ~CrashingGuard() {
        if (value > 0) *nowhere = value;
    }
};

NOINLINE static long throws(long a) {
    if (a > 3) throw Special(a);
    if (a > 2) throw Failure(a);
    if (a > 1) throw (int)a;
    if (a > 0) throw a;
    return leaf(a);
}

NOINLINE static long cleans(long a) {
    Guard outer(a);
    long value = leaf(a);
    {
        Guard inner(value);
        value += throws(a);
    }
    return value + throws(a - 1);
}

NOINLINE static long passes(long a) { return cleans(a) + leaf(a + 1); }

// Every preserved register in use across the throw.
NOINLINE static long keeps(long a) {
    long b = leaf(a), c = leaf(b), d = leaf(c), e = leaf(d), f = leaf(e), g = leaf(f);
    try {
        b += passes(a);
    } catch (const Special &special) {
        return b + c * special.weight() + d + e + f + g;
    } catch (const Failure &failure) {
        c -= failure.weight();
    }
    return leaf(b) + leaf(c) + d + e + f + g + leaf(g);
}

NOINLINE static long catches(long a) {
    try {
        return passes(a);
    } catch (int value) {
        return value + 100;
    } catch (long value) {
        sink = value;
    } catch (...) {
        Guard guard(a);
        throw;
    }
    return leaf(7);
}

NOINLINE static long rethrown(long a) {
    Guard guard(a);
    try {
        return catches(a);
    } catch (const Failure &failure) {
        return failure.weight();
    }
}

NOINLINE static long nested(long a) {
    try {
        try {
            throws(a);
        } catch (const Failure &failure) {
            Guard guard(failure.value);
            throws(2);
        }
    } catch (int value) {
        return value + leaf(a);
    }
    return 0;
}

NOINLINE static long through_c(long a) {
    try {
        return cxx_through(cleans, a);
    } catch (const Special &) {
        return 1;
    } catch (...) {
        return leaf(a);
    }
}

// A frame whose size is known only when it runs, and one that is aligned further than the stack.
NOINLINE static long dynamic(long a) {
    long values[a + 3];
    for (long i = 0; i < a + 3; i++) values[i] = leaf(i);
    try {
        return cleans(a) + values[1];
    } catch (...) {
        return values[a] + leaf(values[0]);
    }
}
NOINLINE static long aligned(long a) {
    alignas(64) volatile long values[9];
    values[a & 7] = a;
    try {
        return passes(a) + values[1];
    } catch (const Failure &failure) {
        return values[a & 7] + failure.value;
    } catch (...) {
        return values[3] + 2;
    }
}

NOINLINE static long quiet(long a) noexcept { return a > 50 ? throws(a) : catches(0) + leaf(a); }

NOINLINE static long recursive(long a) {
    Guard guard(a);
    if (a == 0) throw Failure(9);
    return recursive(a - 1) + guard.value;
}

NOINLINE static long in_loop(long a) {
    long total = 0;
    for (long i = 0; i < 3; i++) {
        try {
            total += throws(i + a);
        } catch (int value) {
            total += value;
            continue;
        } catch (long value) {
            total -= value;
        } catch (const Special &special) {
            total += special.weight();
        } catch (const Failure &) {
            break;
        }
        total += leaf(i);
    }
    return total;
}

NOINLINE static int tour() {
    long total = catches(0) + catches(1) + catches(2) + keeps(0) + keeps(4) + rethrown(3) + through_c(4);
    total += dynamic(0) + dynamic(2) + aligned(0) + aligned(3) + nested(3);
    try {
        total += recursive(2);
    } catch (const Failure &failure) {
        total += failure.value;
    }
    total += in_loop(0) + in_loop(2) + quiet(3);
    return total == 0;
}

NOINLINE static long crashes_while_unwinding(long a) {
    CrashingGuard guard{a};
    return throws(a) + leaf(a);
}

// Throws with two more frames and cleanups on the way to a handler.
NOINLINE static long dies_in_destructor(long a) {
    Guard guard(a);
    return crashes_while_unwinding(a) + leaf(a);
}
NOINLINE static long dies_in_handler(long a) {
    try {
        return passes(a);
    } catch (const Failure &failure) {
        *nowhere = failure.weight();
        return leaf(2);
    }
}

NOINLINE static int die(const char *kind) {
    switch (kind[0]) {
        case 'd':
            try {
                return (int)dies_in_destructor(4);
            } catch (const Failure &) {
                return 5;
            }
        case 'h': return (int)dies_in_handler(4) + 1;
        // Nobody catches it.
        case 'u': return (int)passes(4) + 1;
        case 'n': return (int)quiet(60) + 1;
    }
    return 4;
}

extern "C" int main(int argc, char **argv) {
    sys_name("main");
    cxx_start();
    cxx_register(&own_header, &own_unwind_info, &own_eh_frame);
    return argc > 1 && argv[1][1] == 'o' ? tour() : argc > 2 ? die(argv[2]) : 2;
}
