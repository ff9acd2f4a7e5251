#!/usr/bin/env bash
# What the client costs the program that links it: bytes added to a stripped release hello world, in Rust and in C, here and
# (with rustup's Apple targets, and ziglang from PyPI) for both Apple targets; then the time of its calls.
# Fails where more than 16 KiB are added.
#
# For Apple targets rustc's own lld links, as it drops what is not used as Apple's linker does; zig gives it libSystem's list of
# symbols. There the sections are added up: see mach_o_size.py.
set -euo pipefail
cd "$(dirname "$0")/../.."

limit=16384
failed=0
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target}
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

report() { # what, bytes without, bytes with
    local added=$(($3 - $2))
    printf '%-28s %9d -> %9d bytes: %6d added\n' "$1" "$2" "$3" "$added"
    [ "$added" -le "$limit" ] || { echo "  more than $limit"; failed=1; }
}

file_size() { stat -c %s "$1" 2>/dev/null || stat -f %z "$1"; }
mach_o_size() { python3 tests/bench/client/mach_o_size.py "$1"; }

rust=(--manifest-path tests/bench/client/Cargo.toml --config 'profile.release.strip="symbols"')
if [ "$(uname)" = Darwin ]; then size=mach_o_size gc=-Wl,-dead_strip; else size=file_size gc=-Wl,--gc-sections; fi

cargo build -q --release "${rust[@]}"
report "Rust, this system" "$($size "$CARGO_TARGET_DIR/release/hello")" "$($size "$CARGO_TARGET_DIR/release/with-client")"

cargo build -q --release -p aftermach-client --lib
if command -v cc >/dev/null; then
    cc -Os "$gc" tests/bench/client/hello.c -o "$out/hello"
    cc -Os "$gc" -I client/include tests/bench/client/with_client.c "$CARGO_TARGET_DIR/release/libaftermach_client.a" \
        -o "$out/with-client"
    strip "$out/hello" "$out/with-client"
    report "C, this system" "$($size "$out/hello")" "$($size "$out/with-client")"
else
    echo "C, this system: not measured, no cc"
fi

stubs=$out/stubs
lld=$(rustc --print sysroot)/lib/rustlib/$(rustc -vV | sed -n 's/^host: //p')/bin/rust-lld
zig_lib=$(python3 -c 'import os, ziglang; print(os.path.dirname(ziglang.__file__))' 2>/dev/null || true)
if [ -n "$zig_lib" ]; then
    mkdir "$stubs"
    for name in System c m objc iconv; do
        # lld doesn't know the newest architectures that zig's list names.
        sed -E 's/,? *arm64e\.x1-[a-z]+//g' "$zig_lib/lib/libc/darwin/libSystem.tbd" >"$stubs/lib$name.tbd"
    done
fi

for arch in arm64 x86_64; do
    target=${arch/arm64/aarch64}-apple-darwin
    if [ ! -x "$lld" ] || [ ! -d "$stubs" ] || ! rustup target list --installed | grep -q "$target"; then
        echo "Rust and C, $target: not measured, needs the target and ziglang"
        continue
    fi
    export MACOSX_DEPLOYMENT_TARGET=11.0
    # rustc warns that it finds no SDK. None is needed.
    RUSTFLAGS="-Clinker=$lld -Clinker-flavor=ld64.lld -Lnative=$stubs" CARGO_TARGET_DIR=$CARGO_TARGET_DIR/apple-size \
        cargo build -q --release "${rust[@]}" --target "$target" --bin hello --bin with-client 2>"$out/log" ||
        { cat "$out/log"; exit 1; }
    built=$CARGO_TARGET_DIR/apple-size/$target/release
    report "Rust, $target" "$(mach_o_size "$built/hello")" "$(mach_o_size "$built/with-client")"
    cargo build -q --release --target "$target" -p aftermach-client --lib 2>"$out/log" || { cat "$out/log"; exit 1; }
    for program in hello with_client; do
        python3 -m ziglang cc -target "${target%-apple-darwin}-macos.11.0" -Os -I client/include \
            -c "tests/bench/client/$program.c" -o "$out/$program.o"
    done
    link=("$lld" -flavor darwin -arch "$arch" -platform_version macos 11.0 11.0 -dead_strip)
    "${link[@]}" "$out/hello.o" "$stubs/libSystem.tbd" -o "$out/hello"
    "${link[@]}" "$out/with_client.o" "$CARGO_TARGET_DIR/$target/release/libaftermach_client.a" "$stubs/libSystem.tbd" \
        -o "$out/with-client"
    report "C, $target" "$(mach_o_size "$out/hello")" "$(mach_o_size "$out/with-client")"
done

"$CARGO_TARGET_DIR/release/calls"
exit $failed
