# What people and CI type. `make demo` and `make test` do all their own set-up.
.PHONY: demo test check renew bench bench-increments tools interop dist dist-check install

PREFIX ?= /usr/local

export CARGO_TERM_COLOR ?= auto

# A small shop is made, backed up, checked, destroyed, restored and proved.
demo:
	cargo build --release --locked
	./target/release/tillsafe demo

# Installs what the tests need and is missing, then format, lints, docs and all tests: what CI runs.
test: tools check

# The same without installing anything.
check:
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --document-private-items
	cargo test --locked -- --test-threads=2
	set -e; for example in examples/*.rs; do cargo run --quiet --locked --example $$(basename $$example .rs); done

tools:
	sh .ci/tools.sh

# tillsafe beside restic, rustic and (where it is installed) borg, beside the targets and beside what the machine itself
# takes, as tables. BENCH="--size-mib 1024 --cold both" and more: see `python3 benches/peers --help`. Builds rustic first if
# it is not there: ten minutes; without it if that fails.
bench: tools
	sh .ci/rustic.sh || echo "bench: without rustic" >&2
	cargo build --release --locked
	cargo bench --locked --bench limits --bench scale --no-run
	python3 benches/peers $(BENCH)

# Sizes and times of the ways to store increments (docs/design/increments.md).
bench-increments:
	cargo bench --locked --bench increments

# What is published of the output, anew: docs/schemas.json and tests/golden/screens. Look at the difference.
# As root; refused in CI. A new message wants its description in docs/schemas.json.
renew:
	rm -f target/observed.jsonl
	TILLSAFE_RENEW=1 cargo test --locked --test main -- cli:: config:: keys:: look:: repair::words retention::command servers:: --test-threads=2
	TILLSAFE_RENEW=1 cargo test --locked --test main -- cli::schemas::what_was_seen_is_published
	git status --short docs/schemas.json tests/golden/screens

# rustic on what we wrote, and we on what it wrote. Builds rustic first if it is not there: ten minutes.
interop: tools
	sh .ci/rustic.sh
	INTEROP=1 cargo test --locked --test main -- interop::rustic --nocapture --test-threads=2

# One static binary for any x86-64 Linux: target/dist/tillsafe, with its SHA-256.
dist:
	sh .ci/dist.sh

# That binary plays the demo in fresh Debian 11, 12 and 13. As root.
dist-check: dist
	sh .ci/debian.sh

# The binary of `make dist` if it was made, else a build for this machine; with manual pages and completions.
install:
	sh .ci/install.sh "$(DESTDIR)$(PREFIX)"
