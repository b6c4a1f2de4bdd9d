#!/bin/sh
# Plays the demo with the binary of `make dist` in fresh, minimal Debian 11, 12 and 13: nothing is
# installed there. Needs root and debootstrap (installed if missing); the systems are unpacked below
# target/tools, 215 MB each, and stay for the next time.
set -eu
cd "$(dirname "$0")/.."
binary=$PWD/target/dist/tillsafe
tools=$PWD/target/tools

[ "$(id -u)" = 0 ] || {
    echo "dist-check: needs root, for chroot" >&2
    exit 1
}
if ! command -v debootstrap >/dev/null; then
    echo "dist-check: installing debootstrap (system package)"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends debootstrap
fi
mkdir -p "$tools"
for suite in bullseye bookworm trixie; do
    system=$tools/debian-$suite
    if [ ! -e "$system/complete" ]; then
        echo "dist-check: unpacking Debian $suite below target/tools"
        rm -rf "$system"
        debootstrap --variant=minbase "$suite" "$system" http://deb.debian.org/debian/ >"$tools/debian-$suite.log"
        touch "$system/complete"
    fi
    cp "$binary" "$system/usr/local/bin/tillsafe"
    # In namespaces of its own: what is mounted there ends with it.
    output=$(unshare --mount --pid --fork sh -c \
        'mount -t proc proc "$1/proc" && chroot "$1" env -i /usr/local/bin/tillsafe demo' -- "$system" 2>&1) || {
        echo "$output"
        echo "dist-check: the demo failed in Debian $(cat "$system/etc/debian_version")" >&2
        exit 1
    }
    echo "Debian $(cat "$system/etc/debian_version"): the demo passed"
done
