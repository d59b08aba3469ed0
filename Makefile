# The commands for people and for CI. `make` alone lists them.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
CARGO ?= cargo
DEMO_FLAGS ?=
BENCH_FLAGS ?=
ONLY ?=

.DEFAULT_GOAL := help
# The steps of `test` share the machine and one output.
.NOTPARALLEL:
.PHONY: help demo test format lint docs tests drivers deny instructions budget bench bench-contention simulate mutants

help: ## List these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# A release build: the table shows latencies, and those of a debug build would be no one's.
demo: ## Show the same contended transfers without retries, with a client's loop, and through Reprise
	scripts/install-postgresql.sh --or-cockroach
	$(CARGO) run --release --locked --bin reprise -- demo $(DEMO_FLAGS)

test: lint docs tests instructions drivers ## Run everything that CI runs

format: ## Format the code
	$(CARGO) fmt --all

lint: ## Check the format, and clippy's lints as errors
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings

docs: ## Build the documentation, with warnings as errors
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --document-private-items --locked

# The recorded conversations are held against a throwaway PostgreSQL; the end-to-end tests start their own, and those of the
# dashboards and alerts a Prometheus, those of the status page a Chromium.
tests: ## Run all tests: unit, golden, and end to end on real PostgreSQL
	scripts/install-postgresql.sh
	scripts/install-prometheus.sh
	scripts/install-chromium.sh
	$(CARGO) run --quiet --locked --example postgres -- $(CARGO) test --workspace --locked

# ONLY=name says which one, by the names in tests/drivers/src/catalogue.rs.
drivers: ## Run real drivers of several languages through the proxy: make drivers ONLY=psycopg
	scripts/install-postgresql.sh
	scripts/install-drivers.sh
	$(CARGO) build --locked --package reprise --package drivers --bins
	$(CARGO) run --quiet --locked --package drivers --bin drivers -- $(ONLY)

# Known holes are looked up in a database that is fetched from the network; CHECKS="licenses bans sources" does without. Not in
# CI: to build the tool takes longer than it is worth there.
deny: CHECKS ?= advisories licenses bans sources
deny: ## Check the crates that are used: known holes, licences, sources, and what is not to be used
	scripts/install-deny.sh
	$(CARGO) deny --locked check $(CHECKS)

# Counted by callgrind, so that what else the machine does makes no difference.
instructions: ## Hold the engine's instructions for recorded sessions against their budget
	scripts/install-benchmarks.sh
	$(CARGO) run --profile budget --locked --package bench --bin instructions

budget: ## Write that budget anew: the commit must say what the instructions buy
	scripts/install-benchmarks.sh
	$(CARGO) run --profile budget --locked --package bench --bin instructions -- --write

# BENCH_FLAGS=--help lists what can be chosen.
bench: ## Measure the proxy beside a plain relay, PgBouncer and HAProxy
	scripts/install-postgresql.sh
	scripts/install-benchmarks.sh --peers
	$(CARGO) build --release --locked --package reprise --bin reprise
	$(CARGO) build --release --locked --package bench --example relay
	$(CARGO) run --release --locked --package bench --bin bench -- $(BENCH_FLAGS)

# SEEDS=n says how many, FIRST=n from which on.
simulate: export SEEDS ?= 100000
simulate: ## Play many seeds of the simulator, optimised: make simulate SEEDS=1000000
	$(CARGO) test --release --locked --test simulation

# BENCH_FLAGS="--rows 10 --seconds 20" and the like; --help tells them all.
bench-contention: ## Measure contended transfers with a client's loop, with replay, fixed gates and the governor
	scripts/install-postgresql.sh
	$(CARGO) run --release --locked --example contention -- $(BENCH_FLAGS)

mutants: ## Show that the simulator's checks bite: every small wrong in scripts/mutants.txt must be found
	scripts/mutants.sh
