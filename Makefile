# What people type. `make demo` is where to begin.

TARGET_DIR := $(or $(CARGO_TARGET_DIR),$(CURDIR)/target)
export CARGO_TARGET_DIR := $(TARGET_DIR)
TRIPLE := $(shell rustc -vV | sed -n 's/^host: //p')
CARGO := cargo --locked

.PHONY: plugin-proof help deps build demo demo-stop test torture bench check guest binaries fuzz fuzz-wire fuzz-node fuzz-canary install uninstall deb deb-check

help:
	@echo 'make deps       the Debian packages that are needed'
	@echo 'make build      mlnd and mlnctl, into $(TARGET_DIR)/release'
	@echo 'make demo       three agents, three routers, three switches: a mesh on this machine'
	@echo 'make demo-stop  removes all of it'
	@echo 'make install    programs, units, manual pages, completions, below PREFIX (/usr/local); make uninstall'
	@echo 'make deb        the Debian package, into $(TARGET_DIR)/deb, installed and removed in a root of its own'
	@echo 'make test       all tests, those with real virtual machines included'
	@echo 'make torture    ROUNDS=200 times an agent is ended while it writes, with real virtual machines'
	@echo 'make check      format, lints, and the rules of the house'
	@echo 'make fuzz       RUNS=1000000 texts, guided by what they reach, against the language'
	@echo 'make fuzz-wire  RUNS=1000000 byte strings against every decoder; make fuzz-node: scripts against the mesh'
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

install:
	@test -x $(TARGET_DIR)/release/mlnd-guest || { echo 'make build comes first, as an ordinary user' >&2; exit 1; }
	@scripts/install.sh install $(TARGET_DIR)/release

uninstall:
	@scripts/install.sh uninstall $(TARGET_DIR)/release

deb: build
	@scripts/deb-check.sh "$$(scripts/deb.sh $(TARGET_DIR)/release $(TARGET_DIR)/deb)"

# The same with the programs of the stories, which are there already: what every change must pass.
deb-check:
	@scripts/deb-check.sh "$$(DEB_COMPRESSION=gzip scripts/deb.sh $(TARGET_DIR)/stories/bin $(TARGET_DIR)/stories/deb)"

demo: deps build
	@MLN_BIN=$(TARGET_DIR)/release scripts/demo.sh

demo-stop:
	@MLN_BIN=$(TARGET_DIR)/release scripts/demo-stop.sh

# What the stories run, set apart: building the tests of the whole workspace makes other ones.
# One mlnd more that ends itself where a story says, and one whose version is another: what a story upgrades from. A setting of its own gives it a place in
# cargo's cache, so that the two don't take turns at being built.
binaries: guest
	MLN_BUILD_VERSION=0.0.9 $(CARGO) build -p mlnd --config 'profile.dev.package.mlnd.debug=false'
	mkdir -p $(TARGET_DIR)/stories/bin
	install -m 755 $(TARGET_DIR)/debug/mlnd $(TARGET_DIR)/stories/bin/mlnd-before
	$(CARGO) build -p mlnd --features failpoints
	install -m 755 $(TARGET_DIR)/debug/mlnd $(TARGET_DIR)/stories/bin/mlnd-failpoints
	$(CARGO) build -p mlnd -p mln-cli
	$(CARGO) build -p mlnd --example gossip-peer
	$(CARGO) build -p netsim
	install -m 755 $(TARGET_DIR)/debug/mlnd $(TARGET_DIR)/debug/mlnctl $(TARGET_DIR)/debug/netsim \
		$(TARGET_DIR)/debug/examples/gossip-peer $(TARGET_DIR)/stories/bin
	install -m 755 $(TARGET_DIR)/$(TRIPLE)/guest/mlnd $(TARGET_DIR)/stories/bin/mlnd-guest

# Both kinds of tests with real guests use one template. One thread more than processors: see .config/nextest.toml.
test: export MLN_TEST_CACHE := $(TARGET_DIR)/stories/cache
test: export MLN_GUEST_AGENT := $(TARGET_DIR)/stories/bin/mlnd-guest
test: deps binaries
	@if command -v cargo-nextest >/dev/null; then \
		$(CARGO) nextest run --workspace --test-threads $$(($$(nproc) + 1)); \
	else \
		$(CARGO) test --workspace; \
	fi

# cfengine's plugin with the real package in real guests: a few minutes, most of them downloads.
plugin-proof: build
	@scripts/plugin-proof.sh $(TARGET_DIR)/release

ROUNDS := 200

# The same story as in the tests, for longer.
torture: export MLN_TEST_CACHE := $(TARGET_DIR)/stories/cache
torture: export MLN_GUEST_AGENT := $(TARGET_DIR)/stories/bin/mlnd-guest
torture: export MLN_TORTURE := $(ROUNDS)
torture: deps binaries
	$(CARGO) test -p mln-e2e --test stories -- --nocapture \
		an_agent_that_ends_anywhere_while_it_writes_loses_no_vm_and_runs_none_twice

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
	install -m 755 "$$($(CARGO) build --release -p mln-protocol --bench language --message-format=json-render-diagnostics \
		| sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | tail -n 1)" $(TARGET_DIR)/release/mln-language
	$(TARGET_DIR)/release/mln-bench $(if $(QUICK),--quick) $(ONLY)

RUNS := 1000000

# On stable Rust; the crate has a workspace of its own, because everything in it is built with other flags.
fuzz:
	protocol/fuzz/run.sh $(RUNS)

fuzz-wire:
	protocol/fuzz/run.sh $(RUNS) wire

fuzz-node:
	protocol/fuzz/run.sh $(RUNS) node

# That the fuzzer finds what is hidden: a panic behind three nested constructs.
fuzz-canary:
	protocol/fuzz/run.sh $(RUNS) canary
