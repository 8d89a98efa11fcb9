# What people type. `make demo` is where to begin.

TARGET_DIR := $(or $(CARGO_TARGET_DIR),$(CURDIR)/target)
export CARGO_TARGET_DIR := $(TARGET_DIR)
TRIPLE := $(shell rustc -vV | sed -n 's/^host: //p')
CARGO := cargo --locked

.PHONY: help deps build demo demo-stop test bench check guest binaries fuzz fuzz-canary

help:
	@echo 'make deps       the Debian packages that are needed'
	@echo 'make build      mlnd and mlnctl, into $(TARGET_DIR)/release'
	@echo 'make demo       three agents, three routers, three switches: a mesh on this machine'
	@echo 'make demo-stop  removes all of it'
	@echo 'make test       all tests, those with real virtual machines included'
	@echo 'make check      format, lints, and the rules of the house'
	@echo 'make fuzz       RUNS=1000000 texts, guided by what they reach, against the language'
	@echo 'make bench      what it costs, beside what the alternatives cost; QUICK=1 for a short look; needs root'

deps:
	@scripts/deps.sh

# Never the whole workspace: the simulator's switches for breaking rules would come along.
build: guest
	$(CARGO) build --release -p mlnd -p mln-cli
	install -m 755 $(TARGET_DIR)/$(TRIPLE)/guest/mlnd $(TARGET_DIR)/release/mlnd-guest

# The agent inside guests: the same program without the mesh, static.
guest:
	RUSTFLAGS='-C target-feature=+crt-static' $(CARGO) build -p mlnd --no-default-features \
		--profile guest --target $(TRIPLE)

demo: deps build
	@MLN_BIN=$(TARGET_DIR)/release scripts/demo.sh

demo-stop:
	@MLN_BIN=$(TARGET_DIR)/release scripts/demo-stop.sh

# What the stories run, set apart: building the tests of the whole workspace makes other ones.
binaries: guest
	$(CARGO) build -p mlnd -p mln-cli
	mkdir -p $(TARGET_DIR)/stories/bin
	install -m 755 $(TARGET_DIR)/debug/mlnd $(TARGET_DIR)/debug/mlnctl $(TARGET_DIR)/stories/bin
	install -m 755 $(TARGET_DIR)/$(TRIPLE)/guest/mlnd $(TARGET_DIR)/stories/bin/mlnd-guest

# Both kinds of tests with real guests use one template.
test: export MLN_TEST_CACHE := $(TARGET_DIR)/stories/cache
test: export MLN_GUEST_AGENT := $(TARGET_DIR)/stories/bin/mlnd-guest
test: deps binaries
	@if command -v cargo-nextest >/dev/null; then \
		$(CARGO) nextest run --workspace; \
	else \
		$(CARGO) test --workspace; \
	fi

check:
	cargo fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	$(CARGO) clippy -p mlnd --no-default-features -- -D warnings
	$(CARGO) test -p mln-e2e --test tidy

# Static: a part of it runs inside guests. QUICK=1 takes less than four minutes, ONLY="build boot" measures only that.
bench: build
	scripts/deps.sh bench
	$(CARGO) build --release -p netsim
	RUSTFLAGS='-C target-feature=+crt-static' $(CARGO) build --release -p mln-bench --target $(TRIPLE)
	install -m 755 $(TARGET_DIR)/$(TRIPLE)/release/mln-bench $(TARGET_DIR)/$(TRIPLE)/release/mln-traffic \
		$(TARGET_DIR)/release
	$(TARGET_DIR)/release/mln-bench $(if $(QUICK),--quick) $(ONLY)

RUNS := 1000000

# On stable Rust; the crate has a workspace of its own, because everything in it is built with other flags.
fuzz:
	protocol/fuzz/run.sh $(RUNS)

# That the fuzzer finds what is hidden: a panic behind three nested constructs.
fuzz-canary:
	protocol/fuzz/run.sh $(RUNS) canary
