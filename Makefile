# make demo      a network of eight nodes on this machine, names published and looked up in it; ONCE=1 ends after that
# make check     style, types, and the rules of the house
# make test      every test
# make smoke     one program of others whose download is too big for make test: a browser (half a minute)
# make sim       simulated worlds full of trouble, those that once failed first; every rule must hold (three minutes)
# make sim-earns ten faults planted in copies, each of which drawn worlds must find (some minutes)
# make mutants   one-line sabotages, each of which a test must notice; SHARE=n tries one in n, drawn by the commit
# make mutants-random  one-token mutations drawn at random, each of which a test should notice: COUNT of them (60), by SEED
# make oracle    every question of the oracle, where make test asks a sample (some minutes)
# make outside   the programs of others that only judge us: forwarders, browsers, foreign DHT nodes (half an hour)
# make fuzz      each target of tests/fuzz under atheris, FUZZ_SECONDS each (60)
# make strangers our nodes and those of Rust crates in one overlay, both ways (some minutes; needs cargo)
# make bench     what look-ups, attackers round a key, idleness, floods, changes and ordinary names cost, with ratios
# make overlay-report  what look-ups, churn, partitions and attackers do in simulated worlds: docs/overlay.md (two hours)
# make man       the manual pages in deploy/man, of the help of the program
# make architecture  the picture of the rooms in docs/figures, of the table of floors
# make handovers how often a cold question is handed over between modules, and in how many forms
# make images    the container images of deploy/, on the first base that can be had
# make testbed   the whole story in containers, broken and healed; a report in deploy/report (some minutes)

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# Compiled modules go where `rm -rf .venv` takes them away, so that nothing here leaves a file in the sources.
export PYTHONPYCACHEPREFIX := $(CURDIR)/$(VENV)/pycache
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# A command that the tests run, and the Debian package it comes in.
TOOLS := dig=bind9-dnsutils nsd=nsd ip=iproute2 unbound=unbound
# Programs of others that `make outside` asks beside these.
OUTSIDE_TOOLS := $(TOOLS) named=bind9 kresd=knot-resolver dnsmasq=dnsmasq-base pdns_recursor=pdns-recursor
OUTSIDE_TOOLS += dnsdist=dnsdist
# Clients of the signer. octoDNS comes from PyPI, into an environment of its own.
OUTSIDE_TOOLS += knsupdate=knot-dnsutils certbot=python3-certbot-dns-rfc2136 lego=lego pebble=pebble
OUTSIDE_TOOLS += kea-dhcp-ddns=kea-dhcp-ddns-server
OCTODNS := octodns==1.22.0 octodns-bind==1.1.0
# A browser comes with the libraries of a desktop. `make test` must not pull those onto a developer's machine, so it is
# in a list of its own, which CI asks for by `make smoke`.
SMOKE_TOOLS := $(TOOLS) chromium-headless-shell=chromium-headless-shell
OUTSIDE_TOOLS += $(filter-out $(TOOLS),$(SMOKE_TOOLS))

.PHONY: demo check test smoke sim sim-earns mutants mutants-random oracle outside fuzz strangers bench man images testbed
.PHONY: architecture handovers style compiled overlay-report
.PHONY: tools smoke-tools outside-tools
.DELETE_ON_ERROR:

demo: $(VENV)/.installed
	@$(BIN)/p2pdns demo $(if $(ONCE),--once)

check: style | tools
	$(BIN)/python -m pytest -q tests/house

# What `make check` is without the tests of the house, which are among those of `make test`.
style: $(VENV)/.installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy --strict p2pdns tests deploy bench

# Most tests wait for processes and sockets rather than compute, so three at a time suit two cores.
test: $(VENV)/.installed-dev | tools
	$(BIN)/python -m pytest -q -n 3 --dist worksteal

# Each process of `make test` reads every test. On a new machine each would also rewrite the asserts of all of them.
compiled: $(VENV)/.installed-dev
	@$(BIN)/python -m pytest -q --collect-only >/dev/null

smoke: $(VENV)/.installed-dev | smoke-tools
	$(BIN)/python -m pytest -q -m smoke tests/outside

# In its own order: the worlds that once failed come first.
sim: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -q -m sim -n 2 -p no:randomly tests/sim

sim-earns: $(VENV)/.installed-dev
	$(BIN)/python -m tests.sim.earning

mutants: $(VENV)/.installed-dev | tools
	$(BIN)/python -m tests.mutants.run $(if $(SHARE),--share $(SHARE))

# Not in CI: what survives needs a reader, who says whether it means the same or which test is missing.
mutants-random: $(VENV)/.installed-dev | tools
	$(BIN)/python -m tests.mutants.random $(if $(SEED),--seed $(SEED)) $(if $(COUNT),--count $(COUNT))

oracle: $(VENV)/.installed-dev | tools
	ORACLE=full $(BIN)/python -m pytest -q tests/oracle

outside: $(VENV)/.installed-dev $(VENV)/octodns/.installed | outside-tools
	$(BIN)/python -m pytest -q -m 'outside or smoke' tests/outside
	@if cargo --version >/dev/null 2>&1; then $(MAKE) --no-print-directory strangers; \
	    else echo 'p2pdns: no cargo here, so the foreign DHT nodes of `make strangers` are left out' >&2; fi

FUZZ_SECONDS ?= 60

fuzz: $(VENV)/.installed-fuzz
	$(BIN)/python -m tests.fuzz.run --seconds $(FUZZ_SECONDS)

# The crates are what tests/strangers/Cargo.lock names; what cargo builds goes where `rm -rf .venv` takes it away.
strangers: $(VENV)/.installed-dev
	@cargo --version >/dev/null 2>&1 || { echo 'p2pdns: error: the strangers need cargo, with rustc 1.85 or newer' >&2; \
	    echo 'p2pdns: hint: apt-get install cargo, or https://rustup.rs where that is too old' >&2; exit 2; }
	CARGO_TARGET_DIR=$(CURDIR)/$(VENV)/strangers \
	    cargo build --quiet --release --locked --manifest-path tests/strangers/Cargo.toml
	$(BIN)/python -m tests.strangers.run $(VENV)/strangers/release/strangers

bench: $(VENV)/.installed-dev
	$(BIN)/python bench/lookup.py
	$(BIN)/python bench/abuse.py
	$(BIN)/python bench/burst.py
	$(BIN)/python bench/eclipse.py
	$(BIN)/python bench/idle.py
	$(BIN)/python bench/flood.py
	$(BIN)/python bench/resolve.py
	$(BIN)/python bench/visible.py
	$(BIN)/python bench/forward.py

overlay-report: $(VENV)/.installed-dev
	$(BIN)/python bench/overlay.py

man: $(VENV)/.installed
	@$(BIN)/python -m deploy.man

architecture: $(VENV)/.installed-dev
	@$(BIN)/python -m tests.house.picture

handovers: $(VENV)/.installed-dev
	@$(BIN)/python bench/handovers.py

images:
	@deploy/images.sh

# In its own order and one at a time: each scenario leaves the overlay whole for the next.
testbed: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -q -m testbed tests/testbed -p no:randomly -p no:xdist

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	    || { echo 'p2pdns: error: $(PYTHON) is older than 3.11' >&2; \
	         echo 'p2pdns: hint: make PYTHON=python3.12 $(MAKECMDGOALS)' >&2; exit 2; }
	@echo 'p2pdns: making $(VENV)' >&2
	@$(PYTHON) -m venv $(VENV) >/dev/null \
	    || { rm -rf $(VENV); echo 'p2pdns: error: $(PYTHON) cannot make a virtual environment' >&2; \
	         echo 'p2pdns: hint: apt-get install python3-venv' >&2; exit 2; }

# Every download is checked against the hashes of the lock file. The package itself is only linked, and what the
# build leaves beside it is of no use afterwards.
$(VENV)/.installed: requirements.lock pyproject.toml | $(BIN)/python
	@echo 'p2pdns: installing into $(VENV)' >&2
	@$(BIN)/python -m pip install --quiet --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --no-deps -e .
	@rm -rf p2pdns.egg-info build
	@touch $@

$(VENV)/.installed-dev: requirements-dev.lock $(VENV)/.installed
	@$(BIN)/python -m pip install --quiet --require-hashes -r requirements-dev.lock
	@touch $@

# Nothing but `make fuzz` needs this one, and not every Python has a wheel of it, so it is in no lock file.
$(VENV)/.installed-fuzz: $(VENV)/.installed-dev
	@$(BIN)/python -m pip install --quiet 'atheris>=2.3'
	@touch $@

# It only judges us, so it is in no lock file.
$(VENV)/octodns/.installed: $(VENV)/.installed-dev
	@$(PYTHON) -m venv $(VENV)/octodns
	@$(VENV)/octodns/bin/pip install --quiet $(OCTODNS)
	@touch $@

# Servers that come with a tool must not start by themselves on the machine of whoever runs the tests.
tools: WANTED = $(TOOLS)
smoke-tools: WANTED = $(SMOKE_TOOLS)
outside-tools: WANTED = $(OUTSIDE_TOOLS)
tools smoke-tools outside-tools:
	@missing=; PATH="$$PATH:/usr/sbin:/sbin"; \
	for tool in $(WANTED); do command -v "$${tool%%=*}" >/dev/null || missing="$$missing $${tool#*=}"; done; \
	[ -z "$$missing" ] && exit 0; \
	if [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then \
	    echo "p2pdns: error: the tests need$$missing" >&2; \
	    echo "p2pdns: hint: sudo apt-get install$$missing" >&2; exit 2; \
	fi; \
	if [ -d /run/systemd/system ]; then \
	    for name in $$missing; do case $$name in \
	        nsd|unbound|pdns-recursor|dnsdist) systemctl mask --quiet $$name.service;; bind9) systemctl mask --quiet named.service;; \
	        kea-dhcp-ddns-server) systemctl mask --quiet $$name.service;; \
	        knot-resolver) systemctl mask --quiet kresd@1.service;; esac; done; \
	fi; \
	export DEBIAN_FRONTEND=noninteractive; \
	apt-get -o DPkg::Lock::Timeout=300 update -qq && \
	apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends $$missing >/dev/null
