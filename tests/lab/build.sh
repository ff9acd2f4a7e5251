#!/usr/bin/env bash
# Builds the lab's victims, real Mach-O images, into tests/lab/bin/ARCH/BUILD/{main,libwork.dylib,libsys.dylib}. They are
# committed, so this is needed only after a change to tests/lab/victims. Needs clang, ld64.lld, llvm-objcopy, llvm-otool
# (Debian: clang-19 lld-19 llvm-19; set LLVM to another suffix, LLVM= for none), and rustc's two Apple targets. No SDK, nothing
# of Apple's.
set -euo pipefail
cd "$(dirname "$0")"
suffix=${LLVM--19}
clang=clang$suffix lld=ld64.lld$suffix objcopy=llvm-objcopy$suffix otool=llvm-otool$suffix

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# build ARCH NAME OBJECT-FILTER FLAG...
build() {
    local arch=$1 name=$2 filter=$3
    shift 3
    local out=bin/$arch/$name obj=$work/$arch-$name
    mkdir -p "$out" "$obj"
    # Without -fasynchronous-unwind-tables -ffreestanding drops every unwind table for Darwin.
    local flags=(-target "$arch-apple-macosx13.0" -ffreestanding -fno-stack-protector -fasynchronous-unwind-tables -Wall
        -Wextra -Wno-unused-command-line-argument -Wno-infinite-recursion -fno-builtin "$@")
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
build_rust() {
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

as_it_is() { :; }
# All functions by DWARF: the linker then refers to __eh_frame for each.
without_compact_unwind() { $objcopy --remove-section __LD,__compact_unwind "$1"; }

build x86_64 O0 as_it_is -O0
build x86_64 O2 as_it_is -O2
build x86_64 O2-nofp as_it_is -O2 -fomit-frame-pointer
build x86_64 Os as_it_is -Os
build x86_64 dwarf without_compact_unwind -O2 -fomit-frame-pointer -femit-dwarf-unwind=always
build arm64 O0 as_it_is -O0
build arm64 O2 as_it_is -O2
build arm64 Os as_it_is -Os
build arm64 dwarf without_compact_unwind -O2 -femit-dwarf-unwind=always
# Return addresses signed, as in arm64e's ABI.
build arm64 ptrauth as_it_is -O2 -march=armv8.5-a -Xclang -fptrauth-returns
# `build.sh debug` builds the Rust program without optimisation as well: too large to be committed; the tests use it if it is
# there.
for arch in x86_64 arm64; do
    build_rust $arch rust -C opt-level=3
    [ "${1:-}" != debug ] || build_rust $arch rust-debug -C opt-level=0
done
du -sh bin
