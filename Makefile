# Needs python3 (3.11 or newer) and make; everything else goes into .venv and build.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run test faults fronts builds check lint types imports buf breaking fresh later tomorrow protos clients format \
	docs bench overload soak quality peers fuzz kills lock clean package

PYTHON ?= python3
PORT ?= 50051
BIN := .venv/bin
DIST := build/dist
RUNNING := .venv/.running
DEVELOPING := .venv/.developing
# A lock lists every package with its version and hashes. It is installed without resolving anything, which any pip from
# 22.0 on does alike, so that a package released later cannot change or break an installation.
INSTALL := $(BIN)/python -m pip install --quiet --no-deps --require-hashes --no-compile
# pip compiles modules one by one, this in one process per core. Tests of packages are left out: nothing imports them.
COMPILE := $(BIN)/python -m compileall -q -q -j 0 -x '/tests?/' .venv/lib || true
CONSISTENT := found=$$($(BIN)/python -m pip check) \
	|| { echo "$$found" >&2; echo ".venv has packages that do not fit: make clean, then try again" >&2; exit 1; }
CHECKED := offers tests protos docs examples $(wildcard benchmarks)
LOCK := build/uv/bin/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header \
	--python-version 3.11 --group build
export PIP_DISABLE_PIP_VERSION_CHECK := 1

help: ## List the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/\1|\2/p' Makefile | while IFS='|' read -r name text; do \
		printf '%-10s %s\n' "$$name" "$$text"; done

run: $(RUNNING) ## Serve the demo catalogue and show an answer; PORT=50051, ONCE=1 to stop after it
	@$(BIN)/python -c 'import socket; socket.create_server(("127.0.0.1", $(PORT)))' 2>/dev/null \
		|| { echo "port $(PORT) is taken: stop what listens there, or choose another: make run PORT=50052" >&2; exit 1; }
	@echo "Starting a server on localhost:$(PORT); the first start compiles for up to a minute."
	@$(BIN)/offers serve --port $(PORT) --drain-s 0 --log-level warning & server=$$!; \
	trap 'exit 130' INT TERM; \
	trap 'kill $$server 2>/dev/null; wait $$server || true' EXIT; \
	until $(BIN)/python -c 'from offers.client import OffersClient as C; C("localhost:$(PORT)").wait_until_serving(10)' \
		2>/dev/null; do \
		kill -0 $$server 2>/dev/null || { echo "the server did not start" >&2; exit 1; }; \
	done; \
	echo "What may be shown now on the Place de la République in Paris:"; \
	$(BIN)/offers query --lat 48.8674 --lng 2.3636 --time-zone Europe/Paris --target localhost:$(PORT) || exit; \
	echo "Ask the next one:"; \
	echo "  $(BIN)/offers query --lat 48.8674 --lng 2.3636 --at 12:15 --time-zone Europe/Paris --full" \
		"--target localhost:$(PORT)"; \
	test -z "$(ONCE)" || exit 0; \
	echo "Serving until Ctrl-C."; \
	wait $$server

# Two processes take half of the tests each; the first to finish takes over tests from the other. An environment that sets
# PYTHONDONTWRITEBYTECODE would make every process that tests start compile all modules again.
PYTEST := PYTHONDONTWRITEBYTECODE= $(BIN)/pytest -n 2 --dist worksteal
BUILDS := tests/packaging tests/examples tests/test_benchmarks.py
FAULTS := tests/faults tests/test_soak.py tests/server/test_triggers_faults.py tests/server/fronts/test_overload.py \
	$(addprefix tests/server/process/test_,catalogue_faults.py handover.py lost_stores.py supervisor.py) \
	tests/state/test_power_cuts.py $(addprefix tests/state/contract/test_,faults.py killed.py postgres_limits.py)

test: $(DEVELOPING) build/protoc build/imports ## Run the tests; ARGS="-k client" for some
	$(PYTEST) $(BUILDS:%=--ignore=%) $(FAULTS:%=--ignore=%) $(ARGS)

faults: $(DEVELOPING) build/protoc build/imports ## Kill, fill, flood and damage what a real server needs
	$(PYTEST) $(FAULTS) $(ARGS)

fronts: $(DEVELOPING) build/protoc ## Run the tests of server and clients behind the native front; ARGS="-k fuzz" for some
	OFFERS_FRONT=native $(PYTEST) tests/server tests/client tests/end_to_end $(ARGS)

builds: $(DEVELOPING) build/imports ## Build and try the wheel, the examples in four languages, the benchmarks
	$(PYTEST) $(BUILDS)

check: lint types imports buf breaking docs test faults fuzz builds fresh later ## Run everything that must pass, as .ci/run does

# Repeat a run by its seed, and one case of it with FIRST and CASES=1.
fuzz: $(DEVELOPING) ## Call every method with mutated requests; SECONDS=60, CASES=1000000 for as many, SEED=
	$(BIN)/python -m tests.faults.fuzz $(if $(CASES),--cases $(CASES),--seconds $(or $(SECONDS),60)) \
		$(if $(SEED),--seed $(SEED)) $(if $(FIRST),--first $(FIRST))

kills: $(DEVELOPING) ## Kill processes at random and in every write, while clients count; ROUNDS=20
	ROUNDS=$(or $(ROUNDS),20) $(BIN)/pytest tests/faults/test_kills.py

lint: $(DEVELOPING) ## Check style
	$(BIN)/ruff check $(CHECKED)
	$(BIN)/ruff format --check $(CHECKED)

types: $(DEVELOPING) ## Check types
	$(BIN)/mypy $(wildcard offers tests benchmarks docs examples/python/*.py protos/generate.py)

imports: $(DEVELOPING) ## Check that imports point down only
	$(BIN)/lint-imports

buf: $(DEVELOPING) build/imports ## Check the protos
	$(BIN)/buf lint
	$(BIN)/buf format --diff --exit-code protos

# Compares with the commit where this branch left main. On main, compares with the last commit if protos have uncommitted
# changes, else with the one before. The earlier state is extracted to files, because buf reads build/imports beside them.
breaking: $(DEVELOPING) build/imports ## Check that the protos break no caller; AGAINST=commit
	@base='$(AGAINST)'; \
	if [ -z "$$base" ]; then \
		head=$$(git rev-parse --verify --quiet HEAD); \
		base=$$(git merge-base HEAD origin/main 2>/dev/null || git merge-base HEAD main 2>/dev/null || echo "$$head"); \
		if [ "$$base" = "$$head" ] && git diff --quiet HEAD -- protos; then \
			base=$$(git rev-parse --verify --quiet HEAD~1); \
		fi; \
	fi; \
	if [ -z "$$base" ] || ! git cat-file -e "$$base:buf.yaml" 2>/dev/null; then \
		echo "breaking: skipped, there are no earlier protos to compare with"; exit 0; \
	fi; \
	rm -rf build/against && mkdir -p build/against/build && cp -R build/imports build/against/build && \
	git archive "$$base" buf.yaml protos | tar -x -C build/against && \
	$(BIN)/buf breaking protos --against build/against/protos && echo "breaking: nothing since $$base"

fresh: $(DEVELOPING) ## Check that old and new pip install exactly the locks, with newer releases on offer
	$(BIN)/python -m tests.install.fresh

# A clock some days ahead for pytest and the processes that tests start. Clocks of timeouts and times of files stay.
# Redis keeps the real clock, as it hangs under libfaketime; tests on it would see two clocks, and are left out.
DAYS ?= 1 7 45 200 400
DATED := tests/demo tests/catalogue/hours tests/cli/test_cli.py tests/decision/test_hours.py \
	tests/server/test_other_times.py tests/server/test_lasting.py tests/client tests/docs
AHEAD := PATH="$(CURDIR)/tests/later/bin:$$PATH" PYTHONPATH="$(CURDIR)/tests/later" PYTHONDONTWRITEBYTECODE= \
	NO_FAKE_STAT=1 DONT_FAKE_MONOTONIC=1 FAKETIME_DONT_FAKE_MONOTONIC=1 faketime -m -f
TOMORROW = for days in $(1); do \
		echo "Testing as if it were $$days days later"; \
		$(AHEAD) "+$${days}d" $(BIN)/pytest -n 2 --dist worksteal -k "not redis" $(2) || exit; \
	done

later: $(DEVELOPING) build/protoc ## Run the tests most exposed to dates under a clock 45 and 400 days ahead
	@if command -v faketime >/dev/null; then $(call TOMORROW,45 400,$(DATED)); \
	elif [ -n "$$CI" ]; then echo "faketime is missing: apt-get install faketime" >&2; exit 1; \
	else echo "later: skipped, faketime is missing (Debian: faketime)"; fi

tomorrow: $(DEVELOPING) build/protoc ## Run all tests under clocks ahead; DAYS="1 7 45 200 400", ARGS=tests/cli for some
	@command -v faketime >/dev/null || { echo "faketime is missing: install it (Debian: faketime)" >&2; exit 1; }
	@$(call TOMORROW,$(DAYS),$(ARGS))

protos: $(DEVELOPING) build/protoc ## Generate offers/v1 from protos
	$(BIN)/python protos/generate.py .

clients: $(DEVELOPING) build/imports ## Generate the clients of the examples: Go and TypeScript, as far as they are installed
	$(BIN)/buf generate

format: $(DEVELOPING) build/imports ## Put code and protos into shape
	$(BIN)/ruff check --fix-only $(CHECKED)
	$(BIN)/ruff format $(CHECKED)
	$(BIN)/buf format --write protos

docs: $(DEVELOPING) build/protoc ## Build the site into build/site
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

bench: $(DEVELOPING) ## Measure; QUICK=1 for four minutes
	$(BIN)/python -m benchmarks

overload: $(DEVELOPING) ## Measure a worker under more load than it can answer
	$(BIN)/python -m benchmarks.overload

quality: $(DEVELOPING) ## Replay real data; ARGS="coupon orders" to choose, ARGS="--data PATH" to read it elsewhere
	$(BIN)/python -m benchmarks.quality $(ARGS)

soak: $(DEVELOPING) ## Use a server for MINUTES at RATE visits a second; fails if its memory or descriptors grow
	$(BIN)/python -m benchmarks.soak

peers: $(DEVELOPING) ## Compare with PostGIS, Redis, SQLite and shapely; QUICK=1 for 100,000 offers
	$(BIN)/python -m benchmarks.peers

# The lock for running takes its versions from the one for development, so that both fit into one environment. It has the
# native front, which is there for whoever chooses it.
lock: build/uv ## Bring the locks in line with pyproject.toml; UPGRADE=1 for the newest versions
	$(LOCK) $(if $(UPGRADE),--upgrade) --all-extras --output-file requirements-dev.lock pyproject.toml
	$(LOCK) --extra native --constraint requirements-dev.lock --upgrade --output-file requirements.lock pyproject.toml

package: $(DEVELOPING) ## Build the wheel, with compiled loops, into build/dist
	@rm -rf build/package && mkdir -p build/package
	@cp -R pyproject.toml README.md LICENSE offers build/package
	@find build/package -name __pycache__ -prune -exec rm -r {} +
	@case "$$(uname -sm)" in "Linux x86_64") \
		$(BIN)/offers compile-loops --portable --into build/loops && mkdir build/package/offers/loops && \
		cp -R "build/loops/$$($(BIN)/python -c 'from offers.compiled.cache import version as v; print(v())')" \
			build/package/offers/loops && \
		$(BIN)/python -c 'import sys; print("[bdist_wheel]\nplat_name=linux_x86_64\npython_tag=" + \
			sys.implementation.cache_tag.replace("cpython-", "cp"))' >build/package/setup.cfg;; \
	*) echo "The wheel carries no compiled loops: no CPU baseline is stated for this system";; esac
	@$(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir $(DIST) build/package
	@ls $(DIST)

clean: ## Remove everything that make created
	rm -rf .venv build *.egg-info .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache

# Every target but `run` needs the development tools, which are added to the same environment.
$(DEVELOPING): requirements-dev.lock $(RUNNING)
	@echo "Installing the development tools into .venv"
	@$(INSTALL) --requirement $<
	@$(COMPILE)
	@$(CONSISTENT)
	@touch $@

$(RUNNING): requirements.lock pyproject.toml | $(BIN)/python
	@echo "Installing into .venv"
	@$(INSTALL) --requirement $<
	@$(COMPILE)
	@$(BIN)/python -m pip install -qq --no-deps --no-build-isolation --editable .
	@$(CONSISTENT)
	@touch $@

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "$(PYTHON) is missing or older than 3.11: install a newer one, or name it: make PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
		|| { echo "$(PYTHON) cannot make environments: install its venv module (Debian: python3-venv)" >&2; exit 1; }
	@$(PYTHON) -m venv --clear .venv

# The generator of offers/v1 has a folder of its own, because it is older than the runtime in .venv.
build/protoc: protos/requirements.lock $(DEVELOPING)
	@rm -rf $@
	@$(INSTALL) --target $@ --requirement $<
	@touch $@

# Copies the protos that ours import, so that buf needs no network.
build/imports: $(DEVELOPING)
	@rm -rf $@
	@$(BIN)/python -c 'import shutil; from pathlib import Path; import google.api.http_pb2 as found; \
	root = Path(found.__file__).parents[2]; \
	[(shutil.copytree(root / part, Path("$@") / part, ignore=lambda folder, names: \
	[name for name in names if not name.endswith(".proto")])) for part in ("google/api", "google/rpc", "google/type")]'
	@touch $@

build/uv: $(RUNNING)
	@rm -rf $@
	@$(BIN)/python -m pip install --quiet --target $@ uv
	@touch $@
