#!/bin/sh
# Installs tillsafe, its manual pages and its completions below the folder given. Builds only if nothing is built yet,
# so that `sudo make install` after `make dist` needs no Rust.
set -eu
cd "$(dirname "$0")/.."
prefix=$1
binary=target/dist/tillsafe
if [ ! -x "$binary" ]; then
    cargo build --release --locked
    binary=target/release/tillsafe
fi
made=$(mktemp -d)
trap 'rm -rf "$made"' EXIT
put() {
    install -D -m "$1" "$2" "$prefix/$3"
    echo "$prefix/$3"
}
put 755 "$binary" bin/tillsafe
while read -r shell file; do
    "./$binary" completions "$shell" >"$made/completions"
    put 644 "$made/completions" "share/$file"
done <<END
bash bash-completion/completions/tillsafe
zsh zsh/site-functions/_tillsafe
fish fish/vendor_completions.d/tillsafe.fish
END
"./$binary" -q man --dir "$made/man"
for page in "$made"/man/*; do
    put 644 "$page" "share/man/man1/$(basename "$page")"
done
