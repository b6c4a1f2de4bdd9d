#!/bin/sh
# One static binary for x86-64 Linux, below target/dist, with its SHA-256, size and start-up time.
# Installs what that needs and is missing:
#   musl-tools                   a C compiler's wrapper for musl (system package)
#   x86_64-unknown-linux-musl    Rust's standard library for it (rustup)
# Without root, or without rustup, it prints the line to type and stops.
set -eu
cd "$(dirname "$0")/.."
target=x86_64-unknown-linux-musl
dist=$PWD/target/dist

stop() {
    echo "dist: $1" >&2
    exit 1
}

if ! command -v musl-gcc >/dev/null; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "dist: installing musl-tools (system package)"
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends musl-tools
    else
        stop "missing, and only root can install it: apt-get install -y --no-install-recommends musl-tools"
    fi
fi
if [ ! -d "$(rustc --print sysroot)/lib/rustlib/$target" ]; then
    command -v rustup >/dev/null || stop "missing: Rust's standard library for $target (with rustup: rustup target add $target)"
    echo "dist: adding Rust's standard library for $target (rustup)"
    rustup target add "$target"
fi

CC_x86_64_unknown_linux_musl=musl-gcc cargo build --release --locked --target "$target"
mkdir -p "$dist"
cp "${CARGO_TARGET_DIR:-target}/$target/release/tillsafe" "$dist/tillsafe"
# A static binary asks for no loader and no library: it runs wherever the kernel does.
if readelf --program-headers --dynamic --wide "$dist/tillsafe" | grep -E 'INTERP|\(NEEDED\)'; then
    stop "the binary is not static"
fi
(cd "$dist" && sha256sum tillsafe >tillsafe.sha256)

echo "target/dist/tillsafe: $("$dist/tillsafe" version | head -n 1), static, $(stat -c %s "$dist/tillsafe") bytes"
echo "SHA-256 (tillsafe.sha256): $(cut -d ' ' -f 1 "$dist/tillsafe.sha256")"
begun=$(date +%s%N)
for _ in $(seq 100); do
    "$dist/tillsafe" version >/dev/null
done
echo "start-up: $((($(date +%s%N) - begun) / 100000)) microseconds (mean of 100 runs of \`tillsafe version\`)"
