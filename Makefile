# Needs python3 (3.11 or newer) and make; everything else goes into .venv and build.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run test check lint types imports buf breaking protos format bench quality peers lock clean package

PYTHON ?= python3
PORT ?= 50051
BIN := .venv/bin
DIST := build/dist
RUNNING := .venv/.running
DEVELOPING := .venv/.developing
# A lock lists every package with its version and hashes. It is installed without resolving anything, which any pip from
# 22.0 on does alike, so that a package released tomorrow cannot change or break an installation.
INSTALL := $(BIN)/python -m pip install --quiet --no-deps --require-hashes
CONSISTENT := found=$$($(BIN)/python -m pip check) \
	|| { echo "$$found" >&2; echo ".venv has packages that do not fit: make clean, then try again" >&2; exit 1; }
CHECKED := offers tests protos examples $(wildcard benchmarks)
LOCK := build/uv/bin/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header \
	--python-version 3.11 --group build
export PIP_DISABLE_PIP_VERSION_CHECK := 1

help: ## List the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/\1|\2/p' Makefile | while IFS='|' read -r name text; do \
		printf '%-10s %s\n' "$$name" "$$text"; done

run: $(RUNNING) ## Serve the demo catalogue and show an answer; PORT=50051, ONCE=1 to stop after it
	@$(BIN)/python -c 'import socket; socket.create_server(("127.0.0.1", $(PORT)))' 2>/dev/null \
		|| { echo "port $(PORT) is taken: stop what listens there, or choose another: make run PORT=50052" >&2; exit 1; }
	@echo "Starting a server on localhost:$(PORT); the first start takes some seconds longer."
	@$(BIN)/offers serve --port $(PORT) --drain-s 0 --log-level warning & server=$$!; \
	trap 'exit 130' INT TERM; \
	trap 'kill $$server 2>/dev/null; wait $$server || true' EXIT; \
	until $(BIN)/python -c 'from offers.client import OffersClient as C; C("localhost:$(PORT)").wait_until_serving(3)' \
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

# Each process takes half of the tests, file by file, and then some of what the other has left. The variable, where it is
# set, has every process that tests start compile all modules again.
test: $(DEVELOPING) build/protoc ## Run all tests; ARGS="-k client" for some
	PYTHONDONTWRITEBYTECODE= $(BIN)/pytest -n 2 --dist worksteal $(ARGS)

check: lint types imports buf breaking test ## Run everything that must pass, as .ci/run does

lint: $(DEVELOPING) ## Check style
	$(BIN)/ruff check $(CHECKED)
	$(BIN)/ruff format --check $(CHECKED)

types: $(DEVELOPING) ## Check types
	$(BIN)/mypy $(wildcard offers tests benchmarks examples/python/*.py protos/generate.py)

imports: $(DEVELOPING) ## Check that imports point down only
	$(BIN)/lint-imports

buf: $(DEVELOPING) build/imports ## Check the protos
	$(BIN)/buf lint
	$(BIN)/buf format --diff --exit-code protos

# Compares with where this branch left main or, on main, with the last commit (uncommitted changes) or the one before.
# The earlier state is laid out as files: buf would look for build/imports in the commit, where it is not.
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
	$(BIN)/buf breaking --against build/against && echo "breaking: nothing since $$base"

protos: $(DEVELOPING) build/protoc ## Generate offers/v1 from protos
	$(BIN)/python protos/generate.py .

format: $(DEVELOPING) build/imports ## Put code and protos into shape
	$(BIN)/ruff check --fix-only $(CHECKED)
	$(BIN)/ruff format $(CHECKED)
	$(BIN)/buf format --write protos

bench: $(DEVELOPING) ## Measure; QUICK=1 for less than a minute
	$(BIN)/python -m benchmarks

quality: $(DEVELOPING) ## Replay real data; ARGS="coupon orders" for some of it, ARGS="--data PATH" for where it is
	$(BIN)/python -m benchmarks.quality $(ARGS)

peers: $(DEVELOPING) ## Compare with PostGIS, Redis, SQLite and shapely; QUICK=1 for 100,000 offers
	$(BIN)/python -m benchmarks.peers

# The lock for running takes its versions from the one for development, so that both fit into one environment.
lock: build/uv ## Bring the locks in line with pyproject.toml; UPGRADE=1 for the newest versions
	$(LOCK) $(if $(UPGRADE),--upgrade) --all-extras --output-file requirements-dev.lock pyproject.toml
	$(LOCK) --constraint requirements-dev.lock --upgrade --output-file requirements.lock pyproject.toml

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

clean: ## Remove all that make made
	rm -rf .venv build *.egg-info .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache

# Everything but `make run` needs the tools of development, in the same environment.
$(DEVELOPING): requirements-dev.lock $(RUNNING)
	@echo "Installing the tools of development into .venv"
	@$(INSTALL) --requirement $<
	@$(CONSISTENT)
	@touch $@

$(RUNNING): requirements.lock pyproject.toml | $(BIN)/python
	@echo "Installing into .venv"
	@$(INSTALL) --requirement $<
	@$(BIN)/python -m pip install -qq --no-deps --no-build-isolation --editable .
	@$(CONSISTENT)
	@touch $@

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "$(PYTHON) is missing or older than 3.11: install a newer one, or name it: make PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
		|| { echo "$(PYTHON) cannot make environments: install its venv module (Debian: python3-venv)" >&2; exit 1; }
	@$(PYTHON) -m venv .venv

# The generator of offers/v1, apart from the environment because it is older than the runtime.
build/protoc: protos/requirements.lock $(DEVELOPING)
	@rm -rf $@
	@$(INSTALL) --target $@ --requirement $<
	@touch $@

# The protos ours import, so that buf needs no network.
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
