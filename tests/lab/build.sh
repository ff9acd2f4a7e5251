#!/usr/bin/env bash
# Builds the lab's victims, real Mach-O images, into tests/lab/bin/ARCH/BUILD/{main,libwork.dylib,libsys.dylib}. They are
# committed, so this is needed only after a change to tests/lab/victims. `build.sh cxx` and the like
# build a part. Needs clang, ld64.lld, llvm-objcopy, llvm-otool
# (Debian: clang-19 lld-19 llvm-19; set LLVM to another suffix, LLVM= for none), and rustc's two Apple targets. No SDK, nothing
# of Apple's.
set -euo pipefail
cd "$(dirname "$0")"
suffix=${LLVM--19}
clang=clang$suffix lld=ld64.lld$suffix objcopy=llvm-objcopy$suffix otool=llvm-otool$suffix

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Without an option -ffreestanding drops every unwind table for Darwin. On arm64 the default is tables that hold at calls only
# (clang, Darwin.cpp, getDefaultUnwindTableLevel): with those for epilogues LLVM can't encode a function compactly, and all of
# it is left to DWARF.
tables() {
    case $1 in
        arm64) echo -funwind-tables ;;
        *) echo -fasynchronous-unwind-tables ;;
    esac
}

# build ARCH NAME OBJECT-FILTER FLAG...
build() {
    local arch=$1 name=$2 filter=$3
    shift 3
    local out=bin/$arch/$name obj=$work/$arch-$name
    mkdir -p "$out" "$obj"
    local flags=(-target "$arch-apple-macosx13.0" -ffreestanding -fno-stack-protector "$(tables "$arch")" -Wall -Wextra
        -Wno-unused-command-line-argument -Wno-infinite-recursion -fno-builtin "$@")
    local link=(-arch "$arch" -platform_version macos 13.0 13.0 -fixup_chains -demangle)
    local source
    for source in libsys libwork main; do
        $clang "${flags[@]}" -c "victims/$source.c" -o "$obj/$source.o"
    done
    $clang "${flags[@]}" -Xclang -fstack-clash-protection -DWORK_PROBES=work_probes_inline -c victims/libprobe.c \
        -o "$obj/libprobe-inline.o"
    # No option of clang's names the function to call; the attribute does, and arm64 has none.
    $clang "${flags[@]}" -DWORK_PROBES=work_probes_called -S -emit-llvm victims/libprobe.c -o "$obj/libprobe.ll"
    [ "$arch" = arm64 ] || sed -i 's/^attributes #[0-9]* = { /&"probe-stack"="___chkstk_darwin" /' "$obj/libprobe.ll"
    $clang "${flags[@]}" -Wno-override-module -c "$obj/libprobe.ll" -o "$obj/libprobe-called.o"
    local object
    for object in "$obj"/*.o; do $filter "$object"; done
    $lld "${link[@]}" -dylib -install_name @rpath/libsys.dylib "$obj/libsys.o" -o "$out/libsys.dylib"
    $lld "${link[@]}" -dylib -install_name @rpath/libwork.dylib "$obj"/lib{work,probe-inline,probe-called}.o \
        "$out/libsys.dylib" -o "$out/libwork.dylib"
    $lld "${link[@]}" -execute -e _main "$obj/main.o" "$out/libwork.dylib" "$out/libsys.dylib" -o "$out/main"
    local image
    for image in main libwork.dylib libsys.dylib; do
        $otool -l "$out/$image" | grep __unwind_info >/dev/null || { echo "$out/$image has no __unwind_info" >&2; exit 1; }
    done
}

# build_rust ARCH NAME RUSTC-FLAG...: victims/rust.rs, with the libsys.dylib of the build O2.
build_small() {
    local arch
    for arch in x86_64 arm64; do
        build_small $arch signal libsystem_platform.dylib -fixup_chains platform
        build_small $arch lazy libsys.dylib -no_fixup_chains binder
        $otool -l bin/$arch/lazy/main | grep __stub_helper >/dev/null || { echo "no __stub_helper" >&2; exit 1; }
    done
}
rust() {
    local arch=$1 name=$2
    shift 2
    local out=bin/$arch/$name obj=$work/$arch-$name target=${arch/arm64/aarch64}-apple-darwin
    mkdir -p "$out" "$obj"
    rustc --edition 2024 --target "$target" --crate-type staticlib -C panic=abort -C force-unwind-tables=yes \
        -C strip=debuginfo -C linker=true "$@" victims/rust.rs -o "$obj/librust.a"
    cp "bin/$arch/O2/libsys.dylib" "$out/libsys.dylib"
    $lld -arch "$arch" -platform_version macos 13.0 13.0 -fixup_chains -dead_strip -execute -e _main -u _main "$obj/librust.a" \
        "$out/libsys.dylib" -o "$out/main"
    $otool -l "$out/main" | grep __unwind_info >/dev/null || { echo "$out/main has no __unwind_info" >&2; exit 1; }
}

# build_cxx ARCH NAME OBJECT-FILTER FLAG...: victims/cxx.cpp, with a libsys.dylib that has what C++ needs at run time as well.
build_cxx() {
    local arch=$1 name=$2 filter=$3
    shift 3
    local out=bin/$arch/$name obj=$work/$arch-$name
    mkdir -p "$out" "$obj"
    local flags=(-target "$arch-apple-macosx13.0" -ffreestanding -fno-stack-protector "$(tables "$arch")" -Wall -Wextra
        -Wno-unused-command-line-argument -fno-builtin -DCXX "$@")
    local link=(-arch "$arch" -platform_version macos 13.0 13.0 -fixup_chains)
    # The search for handlers is no victim: it need not be long.
    $clang "${flags[@]}" -O2 -c victims/libsys.c -o "$obj/libsys.o"
    $clang "${flags[@]}" -O2 -c victims/cxxabi.c -o "$obj/cxxabi.o"
    $clang "${flags[@]}" -std=c++17 -Wno-vla-cxx-extension -fexceptions -fcxx-exceptions -c victims/cxx.cpp -o "$obj/main.o"
    local object
    for object in "$obj"/*.o; do $filter "$object"; done
    $lld "${link[@]}" -dylib -install_name @rpath/libsys.dylib "$obj/libsys.o" "$obj/cxxabi.o" -o "$out/libsys.dylib"
    $lld "${link[@]}" -execute -e _main "$obj/main.o" "$out/libsys.dylib" -o "$out/main"
    $otool -l "$out/main" | grep __gcc_except_tab >/dev/null || { echo "$out/main has no __gcc_except_tab" >&2; exit 1; }
}

# build_small ARCH NAME LIBRARY LINK-FLAG SOURCE: a program of one file, victims/NAME.c, and a library of libsys and SOURCE.
build_small() {
    local arch=$1 name=$2 library=$3 fixups=$4
    shift 4
    local out=bin/$arch/$name obj=$work/$arch-$name source
    mkdir -p "$out" "$obj"
    local flags=(-target "$arch-apple-macosx11.0" -ffreestanding -fno-stack-protector "$(tables "$arch")" -Wall -Wextra
        -fno-builtin -O2)
    local link=(-arch "$arch" -platform_version macos 11.0 13.0 "$fixups")
    for source in "$name" libsys "$@"; do $clang "${flags[@]}" -c "victims/$source.c" -o "$obj/$source.o"; done
    $lld "${link[@]}" -dylib -install_name "@rpath/$library" "$obj/libsys.o" "$obj/$1.o" -o "$out/$library"
    $lld "${link[@]}" -execute -e _main "$obj/$name.o" "$out/$library" -o "$out/main"
}

as_it_is() { :; }
# All functions by DWARF: the linker then refers to __eh_frame for each.
without_compact_unwind() { $objcopy --remove-section __LD,__compact_unwind "$1"; }

c() {
    build x86_64 O0 as_it_is -O0
    build x86_64 O2 as_it_is -O2
    build x86_64 O2-nofp as_it_is -O2 -fomit-frame-pointer
    build x86_64 Os as_it_is -Os
    build x86_64 dwarf without_compact_unwind -O2 -fomit-frame-pointer -femit-dwarf-unwind=always
    build arm64 O0 as_it_is -O0
    build arm64 O2 as_it_is -O2
    build arm64 Os as_it_is -Os
    build arm64 dwarf without_compact_unwind -O2 -fasynchronous-unwind-tables -femit-dwarf-unwind=always
    # Return addresses signed, as in arm64e's ABI.
    build arm64 ptrauth as_it_is -O2 -march=armv8.5-a -Xclang -fptrauth-returns
}
cxx() {
    local arch
    for arch in x86_64 arm64; do
        build_cxx $arch cxx-O0 as_it_is -O0
        build_cxx $arch cxx-O2 as_it_is -O2
        build_cxx $arch cxx-Os as_it_is -Os
        build_cxx $arch cxx-dwarf without_compact_unwind -O2 -fasynchronous-unwind-tables -femit-dwarf-unwind=always
    done
}
small() {
    local arch
    for arch in x86_64 arm64; do
        build_small $arch signal libsystem_platform.dylib -fixup_chains platform
        build_small $arch lazy libsys.dylib -no_fixup_chains binder
        $otool -l bin/$arch/lazy/main | grep __stub_helper >/dev/null || { echo "no __stub_helper" >&2; exit 1; }
    done
}
rust() {
    for arch in x86_64 arm64; do build_rust $arch rust -C opt-level=3; done
}
# The Rust program without optimisation: too large to be committed; the tests use it if it is there.
debug() {
    for arch in x86_64 arm64; do build_rust $arch rust-debug -C opt-level=0; done
}

for part in "${@:-all}"; do
    case $part in
        all)
            c
            cxx
            small
            rust
            ;;
        c | cxx | small | rust | debug) $part ;;
        *) echo "usage: tests/lab/build.sh [c] [cxx] [small] [rust] [debug]" >&2; exit 2 ;;
    esac
done
du -sh bin
