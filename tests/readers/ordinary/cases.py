"""The crashes that are compared: how each program is built, and how each is run.

A build is (name, commands); they run in a folder of their own, with $src for this one. A case is (build, arguments).
"""

GCC = "gcc -w"
CLANG = "clang-19 -w"

# calls.c through compilers and options.
CALLS = {
    "gcc-O0": f"{GCC} -g -O0 $src/c/calls.c -o program",
    "gcc-O1": f"{GCC} -g -O1 $src/c/calls.c -o program",
    "gcc-O2": f"{GCC} -g -O2 $src/c/calls.c -o program",
    "gcc-O3": f"{GCC} -g -O3 $src/c/calls.c -o program",
    "gcc-Os": f"{GCC} -g -Os $src/c/calls.c -o program",
    "gcc-Og": f"{GCC} -g -Og $src/c/calls.c -o program",
    "gcc-frame-pointers": f"{GCC} -g -O2 -fno-omit-frame-pointer $src/c/calls.c -o program",
    "gcc-no-debug": f"{GCC} -O2 $src/c/calls.c -o program",
    "gcc-stripped": f"{GCC} -O2 -s $src/c/calls.c -o program",
    "gcc-no-pie": f"{GCC} -g -O2 -no-pie -fno-pie $src/c/calls.c -o program",
    "gcc-static": f"{GCC} -g -O2 -static $src/c/calls.c -o program",
    "gcc-static-stripped": f"{GCC} -O2 -static -s $src/c/calls.c -o program",
    "gcc-static-pie": f"{GCC} -g -O2 -static-pie $src/c/calls.c -o program",
    "gcc-lto": f"{GCC} -g -O2 -flto $src/c/calls.c -o program",
    "gcc-dwarf-4": f"{GCC} -g -gdwarf-4 -O2 $src/c/calls.c -o program",
    "gcc-no-tables-frame-pointers": f"{GCC} -g -O2 -fno-asynchronous-unwind-tables -fno-omit-frame-pointer $src/c/calls.c -o program",
    "gcc-debug-frame-only": f"{GCC} -g -O2 -fno-asynchronous-unwind-tables $src/c/calls.c -o program",
    "gcc-no-tables-O0": f"{GCC} -O0 -fno-asynchronous-unwind-tables $src/c/calls.c -o program",
    "gcc-no-tables-at-all": f"{GCC} -O2 -fno-asynchronous-unwind-tables $src/c/calls.c -o program",
    "gcc-protected": f"{GCC} -g -O2 -fstack-protector-all -fcf-protection=full -fstack-clash-protection $src/c/calls.c -o program",
    "gcc-accumulated-arguments": f"{GCC} -g -O2 -maccumulate-outgoing-args -mno-red-zone $src/c/calls.c -o program",
    "gcc-sections": f"{GCC} -g -O2 -ffunction-sections -Wl,--gc-sections $src/c/calls.c -o program",
    "gcc-compressed": f"{GCC} -g -gz=zlib -O2 $src/c/calls.c -o program",
    "gcc-split": f"{GCC} -g -gsplit-dwarf -O2 -c $src/c/calls.c && {GCC} calls.o -o program",
    "gcc-split-dwarf-4": f"{GCC} -g -gdwarf-4 -gsplit-dwarf -O2 -c $src/c/calls.c && {GCC} calls.o -o program",
    "clang-split": f"{CLANG} -g -gsplit-dwarf -O2 -c $src/c/calls.c && {CLANG} calls.o -o program",
    "clang-package": f"{CLANG} -g -gdwarf-4 -gsplit-dwarf -O2 -c $src/c/calls.c && {CLANG} calls.o -o program"
    " && dwp -e program -o program.dwp && rm calls.dwo",
    "gcc-debug-link": f"{GCC} -g -O2 -Wl,--build-id $src/c/calls.c -o program && objcopy --only-keep-debug program program.debug"
    " && objcopy --strip-all --add-gnu-debuglink=program.debug program",
    "gcc-symbols-only": f"{GCC} -g -O2 $src/c/calls.c -o program && objcopy --strip-debug program",
    "clang-O0": f"{CLANG} -g -O0 $src/c/calls.c -o program",
    "clang-O2": f"{CLANG} -g -O2 $src/c/calls.c -o program",
    "clang-O3": f"{CLANG} -g -O3 $src/c/calls.c -o program",
    "clang-Oz": f"{CLANG} -g -Oz $src/c/calls.c -o program",
    "clang-frame-pointers": f"{CLANG} -g -O2 -fno-omit-frame-pointer $src/c/calls.c -o program",
    "clang-static-lld": f"{CLANG} -g -O2 -static -fuse-ld=lld $src/c/calls.c -o program",
    "clang-lto": f"{CLANG} -g -O2 -flto -fuse-ld=lld $src/c/calls.c -o program",
    "clang-stripped": f"{CLANG} -O2 -s $src/c/calls.c -o program",
    "clang-no-tables": f"{CLANG} -O2 -fno-unwind-tables -fno-asynchronous-unwind-tables -fno-omit-frame-pointer $src/c/calls.c -o program",
    "musl": "musl-gcc -w -g -O2 $src/c/calls.c -o program",
    "musl-static": "musl-gcc -w -g -O2 -static $src/c/calls.c -o program",
}

# Programs with a table of deaths, each with its builds.
PROGRAMS = {
    "frames": {
        "gcc": f"{GCC} -g -O2 $src/c/frames.c -o program",
        "gcc-O0": f"{GCC} -g -O0 $src/c/frames.c -o program",
        "clang": f"{CLANG} -g -O2 $src/c/frames.c -o program",
    },
    "libc": {
        "gcc": f"{GCC} -g -O1 -fstack-protector-strong $src/c/libc.c -o program",
        "static": f"{GCC} -g -O1 -static $src/c/libc.c -o program",
        "musl": "musl-gcc -w -g -O1 $src/c/libc.c -o program",
    },
    "signals": {
        "gcc": f"{GCC} -g -O2 $src/c/signals.c -o program",
        "clang": f"{CLANG} -g -O1 $src/c/signals.c -o program",
        "static": f"{GCC} -g -O2 -static $src/c/signals.c -o program",
        "musl": "musl-gcc -w -g -O2 -static $src/c/signals.c -o program",
    },
    "loading": {
        "gcc": f"{GCC} -g -O2 -fPIC -shared -DLIBRARY -Wl,-z,lazy $src/c/loading.c -o libloading.so"
        f" && {GCC} -g -O2 -Wl,-z,lazy $src/c/loading.c -o program",
        "now": f"{GCC} -g -O2 -fPIC -shared -DLIBRARY -Wl,-z,now $src/c/loading.c -o libloading.so"
        f" && {GCC} -g -O2 -Wl,-z,now $src/c/loading.c -o program",
    },
    "waits": {
        "gcc": f"{GCC} -g -O2 $src/c/waits.c -o program",
        "static": f"{GCC} -g -O2 -static $src/c/waits.c -o program",
        "musl": "musl-gcc -w -g -O2 $src/c/waits.c -o program",
    },
    "exceptions": {
        "gcc": "g++ -w -std=c++20 -g -O2 $src/cxx/exceptions.cc -o program",
        "gcc-O0": "g++ -w -std=c++20 -g -O0 $src/cxx/exceptions.cc -o program",
        "static": "g++ -w -std=c++20 -g -O1 -static $src/cxx/exceptions.cc -o program",
    },
    "objects": {
        "gcc": "g++ -w -std=c++20 -g -O2 $src/cxx/objects.cc -o program",
        "clang": "clang++-19 -w -std=c++20 -g -O1 $src/cxx/objects.cc -o program",
        "gcc-O0": "g++ -w -std=c++20 -g -O0 $src/cxx/objects.cc -o program",
    },
    "rust": {
        "debug": "rustc -A warnings --edition 2024 -g -C panic=abort $src/rust/deaths.rs -o program",
        "release": "rustc -A warnings --edition 2024 -g -C panic=abort -C opt-level=3 $src/rust/deaths.rs -o program",
        "release-no-debug": "rustc -A warnings --edition 2024 -C panic=abort -C opt-level=3 $src/rust/deaths.rs -o program",
        "unwinding": "rustc -A warnings --edition 2024 -g -C opt-level=1 $src/rust/deaths.rs -o program",
        "size-lto-v0": "rustc -A warnings --edition 2024 -g -C panic=abort -C opt-level=s -C lto -C symbol-mangling-version=v0"
        " $src/rust/deaths.rs -o program",
    },
    "python": {"python": "cp $src/python/deaths.py ."},
}

# Which deaths of which build; the whole table by default. The others need not be compared twice.
ONLY = {
    "frames gcc-O0": ["variable-array", "alloca", "over-aligned", "over-aligned-and-variable", "deep-mutual-recursion"],
    "libc static": ["sort", "stream", "at-exit", "bad-copy", "abort", "assertion", "double-free", "call-null"],
    "libc musl": ["sort", "at-exit", "bad-copy", "bad-format", "bad-time", "abort", "assertion", "double-free", "thread-exit"],
    "signals clang": ["in-handler", "overflow-into-handler", "nested-on-other-stack", "interrupts-work", "in-coroutine"],
    "signals static": ["in-handler", "interrupts-sleep", "interrupts-clock", "in-coroutine"],
    "signals musl": ["in-handler", "on-other-stack", "interrupts-sleep", "interrupts-work"],
    "loading now": ["constructor", "resolver", "library-callback"],
    "waits static": ["all"],
    "waits musl": ["all"],
    "exceptions gcc-O0": ["uncaught", "through-noexcept", "in-destructor", "bad-regex", "future"],
    "exceptions static": ["uncaught", "through-noexcept", "in-thread", "joinable"],
    "objects gcc-O0": ["virtual-call-on-null", "in-algorithm", "in-coroutine", "in-lambda"],
    # A panic that unwinds ends in an exit, unless it may not go on.
    "rust unwinding": ["panic-in-drop", "panic-below-c", "in-formatting", "in-closure", "stack-overflow"],
    "rust release-no-debug": ["unwrap-none", "slice", "in-trait-object", "in-executor", "waiting-threads"],
    "rust size-lto-v0": ["unwrap-none", "in-trait-object", "in-closure", "in-executor", "panic-below-c"],
}

# What does not die in this build: overflow is checked in debug builds only.
LIVES = ["rust release overflow"]

# Those whose whole stack is compared, beyond the 400 frames that are compared of the others.
DEEP = {"frames gcc deep-mutual-recursion": 5000}

# A choice of each kind, for every change.
SHORT = [
    "calls *", "frames gcc *", "libc gcc sort", "libc gcc thread-exit", "libc gcc bad-time", "libc gcc abort", "libc gcc call-null",
    "libc musl sort", "signals gcc *", "loading gcc *", "waits gcc all", "waits gcc vfork", "waits static all",
    "exceptions gcc uncaught", "exceptions gcc in-thread", "exceptions gcc future", "objects gcc in-algorithm",
    "objects gcc waiting-threads", "objects clang in-coroutine", "rust debug in-executor", "rust release slice",
    "rust release waiting-threads", "rust size-lto-v0 in-closure", "python python waiting-threads", "python python callback",
]
