#!/bin/sh
# Installs tillsafe and its completions below the folder given. Builds only if nothing is built yet,
# so that `sudo make install` after `make dist` needs no Rust.
set -eu
cd "$(dirname "$0")/.."
prefix=$1
binary=target/dist/tillsafe
if [ ! -x "$binary" ]; then
    cargo build --release --locked
    binary=target/release/tillsafe
fi
completions=$(mktemp)
trap 'rm -f "$completions"' EXIT
put() {
    install -D -m "$1" "$2" "$prefix/$3"
    echo "$prefix/$3"
}
put 755 "$binary" bin/tillsafe
while read -r shell file; do
    "./$binary" completions "$shell" >"$completions"
    put 644 "$completions" "share/$file"
done <<END
bash bash-completion/completions/tillsafe
zsh zsh/site-functions/_tillsafe
fish fish/vendor_completions.d/tillsafe.fish
END
