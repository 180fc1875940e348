# Two commands matter: `make run` tries the node out, `make test` checks everything. The rest are their steps.
#
# What the tests need beside Rust, Node.js and Python 3 is installed into this checkout: node_modules beside the
# JavaScript tests and .venv here. `make deps` does nothing while their manifests are unchanged.

.NOTPARALLEL:
.PHONY: run test bench million lint generator rust loom release deps system-deps python js clean

JS := tests/blackbox/js
PYTHON := tests/blackbox/python
NODE_MODULES := $(JS)/node_modules/.package-lock.json
VENV := .venv/.installed
BINARY := $(abspath $(or $(CARGO_TARGET_DIR),target))/release/gyre
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)

# Another binary than the one built here: GYRE_BIN=/path/to/gyre make js python
export GYRE_BIN ?= $(BINARY)

run: release
	$(BINARY) --dev

# The load generator that `rust` has built for its own tests will do for those in Python.
test: export GYRE_LOADTEST_BIN := $(abspath $(or $(CARGO_TARGET_DIR),target))/debug/gyre-loadtest
test: system-deps lint rust loom release deps js python

lint: system-deps
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --quiet -- -D warnings
	@if cargo deny --version >/dev/null 2>&1; then cargo deny --log-level error check bans licenses sources; \
	else echo "cargo-deny is not installed: licences and sources are not checked (cargo install cargo-deny)"; fi

# tests/tidy.rs, the rules of this source tree, is one of them.
rust: system-deps
	cargo test --workspace --quiet

# The wake protocol between threads under every interleaving that loom's model explores.
loom: system-deps
	RUSTFLAGS="--cfg loom" cargo test --package gyre-io --release --lib --quiet \
		--target-dir $(or $(CARGO_TARGET_DIR),target)/loom loom_wake

release: system-deps
	cargo build --release

generator: system-deps
	cargo build --release --package gyre-loadtest

# The short form of the benchmarks, under five minutes after building: docs/operate/benchmarks.md. No part of `make test`.
# The server runs on CPU 0, the load generator on CPU 1. Built one by one: together they would share features of
# dependencies, and the instruction counts of one would depend on the others.
BENCH := $(dir $(BINARY))gyre-bench
bench: system-deps
	cargo build --release --package gyre
	cargo build --release --package gyre-loadtest
	cargo build --release --package gyre-bench
	$(BENCH) floor --sockets 1000,10000 --repetitions 3
	cargo bench --quiet --package gyre-bench -- --warm-up-time 0.2 --measurement-time 0.5 --noplot
	$(BENCH) compare --short --rounds 2 --server-cpu 0 --client-cpu 1 --servers bench/compare.toml --only gyre
	@if command -v valgrind >/dev/null; then $(BENCH) instructions; \
	else echo "valgrind is not installed: instructions are not counted (apt-get install valgrind)"; fi

# A million connections, one server process, on this machine: twelve minutes, 12 GiB. The report goes to target/million.
million: system-deps
	$(MAKE) release generator
	cargo build --release --package gyre-bench
	$(BENCH) million

js: $(NODE_MODULES)
	cd $(JS) && node --test --test-concurrency=1 --test-reporter=spec *.test.mjs

# The tests wait most of the time, so several processes share them; what needs the machine to itself comes afterwards.
# One file: cd tests/blackbox/python && ../../../.venv/bin/python -m pytest test_api.py
WORKERS := 2
python: $(VENV)
	cd $(PYTHON) && $(CURDIR)/.venv/bin/python -m pytest -m "not alone" --numprocesses=$(WORKERS) --dist=worksteal
	cd $(PYTHON) && $(CURDIR)/.venv/bin/python -m pytest -m alone

deps: $(NODE_MODULES) $(VENV)

$(NODE_MODULES): $(JS)/package.json $(JS)/package-lock.json
	cd $(JS) && npm ci --no-audit --no-fund
	touch $@

$(VENV): $(PYTHON)/requirements.txt | system-deps
	python3 -m venv --clear .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	touch $@

# Only what is missing: a C compiler for the C parts of some crates, the half of venv that Debian splits off, Redis,
# and openssl, which makes the certificates of the tests over TLS.
# redis-tools holds the whole server (as redis-check-rdb); the package redis-server would add a service that starts.
system-deps:
	@missing=""; \
	command -v cc >/dev/null || missing="$$missing build-essential"; \
	python3 -c 'import ensurepip, venv' 2>/dev/null || missing="$$missing python3-venv"; \
	command -v redis-server >/dev/null || command -v redis-check-rdb >/dev/null || missing="$$missing redis-tools"; \
	command -v openssl >/dev/null || missing="$$missing openssl"; \
	[ -z "$$missing" ] || { $(SUDO) apt-get update && $(SUDO) apt-get install -y $$missing; }

clean:
	rm -rf target .venv .test-deps $(JS)/node_modules
