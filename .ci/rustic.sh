#!/bin/sh
# Builds rustic for `make interop`, below target/tools, through cargo and from its published source.
# Without its default features (terminal interface, WebDAV, telemetry …): its repository is what counts.
# About ten minutes of one core; nothing is done if that version is there.
set -eu
cd "$(dirname "$0")/.."
version=0.11.4
root=$PWD/target/tools/rustic

if [ -x "$root/bin/rustic" ] && [ "$("$root/bin/rustic" --version)" = "rustic $version" ]; then
    exit 0
fi
echo "tools: building rustic $version below target/tools; that takes a while"
CARGO_TARGET_DIR=$root/build \
    cargo install rustic-rs --locked --version "$version" --no-default-features --force --root "$root"
rm -r "$root/build"
