# Everything a newcomer, a developer and CI run. Each target makes what it needs: an environment in
# .venv from any Python >= 3.11, and the kernel's extensions, rebuilt when a .pyx or .pxd changed.

.DEFAULT_GOAL := help
.PHONY: help install build demo demo-cluster demo-console serve test test-slow test-all test-long test-crewai test-sanitized lint types lint-rest format stubtest bench bench-quick \
        bench-grants bench-instructions bench-docs bench-peers cerbos proto proto-check vectors vectors-check client client-check controls docs docs-serve package wheels clean
.SILENT:
.DELETE_ON_ERROR:
# With it each server that a test starts would compile the package again, and each run of pytest the tests.
unexport PYTHONDONTWRITEBYTECODE
SHELL := bash
.SHELLFLAGS := -euo pipefail -c

PYTHON ?= $(shell for name in python3 python3.13 python3.12 python3.11; do \
    "$$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$name" && break; done)
VENV ?= .venv
BIN := $(VENV)/bin
RUN := env PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python
JOBS ?= 2
# The files of `make test` are in memory where there is space: a test that commits does not wait for a disk.
MEMORY := $(shell df --output=avail -k /dev/shm 2>/dev/null | awk 'NR == 2 && $$1 > 1000000 { print "/dev/shm" }')

INSTALLED := $(VENV)/.installed
BUILT := $(VENV)/.built
PEERS := .venv-peers/.installed
SITE := $(VENV)/.site-installed
RESULTS := benchmarks/results/local
KERNEL := $(wildcard $(addprefix sessauth/_fast/,*.pyx *.pxd */*.pyx */*.pxd))
# The modules: each .pyx that no other includes.
MODULES := $(wildcard sessauth/_fast/*.pyx)
TYPED := $(subst /,.,$(basename $(MODULES)))

help: ## show the targets
	grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

# An environment without pip is what an attempt leaves where ensurepip is missing (Debian: python3-venv).
$(INSTALLED): pyproject.toml
	if [ -z "$(PYTHON)" ]; then echo "no Python >= 3.11 found; name one: make PYTHON=/path/to/python" >&2; exit 1; fi
	if ! $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then \
	    echo "$(PYTHON) is no Python >= 3.11; name one: make PYTHON=/path/to/python" >&2; exit 1; fi
	$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --group dev
	SESSAUTH_LINK_ONLY=1 $(BIN)/python -m pip install -qq --disable-pip-version-check --no-build-isolation --editable .
	touch $@

# Importing the kernel refuses a build that lacks a module; then this must not think it is done.
ifneq ($(words $(wildcard sessauth/_fast/*.so sessauth/_fast/build.json)),$(words x $(MODULES)))
.PHONY: $(BUILT)
endif

$(BUILT): $(INSTALLED) setup.py $(KERNEL)
	echo "building the kernel"
	$(RUN) setup.py --quiet build_ext --inplace --parallel $(JOBS)
	touch $@

install: $(INSTALLED) ## make .venv with everything that development needs

build: $(BUILT) ## build the kernel's extensions in place

demo: $(BUILT) ## six sessions from birth to death, on a real server
	$(RUN) -m sessauth.cli.main demo

demo-cluster: $(BUILT) ## type docs/cluster.md, and break the cluster part by part; needs etcd on the PATH
	$(RUN) -m tools.demo_cluster

demo-console: $(BUILT) ## living sessions and the console in a browser, until Ctrl-C
	$(RUN) -m sessauth.cli.main demo --console

serve: $(BUILT) ## a server with nothing configured (SESSAUTH_HOME says where)
	home=$${SESSAUTH_HOME:-$$HOME/.local/state/sessauth}; \
	[ -e "$$home/sessauth.toml" ] || $(RUN) -m sessauth.cli.main init >/dev/null; \
	echo "serving $$home until Ctrl-C (make then exits with 130); in a second terminal:"; \
	printf '\n    %s\n' 'cd $(CURDIR)'; \
	printf '    %s\n' '. $(BIN)/activate'; \
	[ -z "$${SESSAUTH_HOME:-}" ] || printf '    export SESSAUTH_HOME=%q\n' "$$(realpath "$$home")"; \
	printf '    %s\n' 'python examples/ticket.py' 'sessauth session list --all' ''; \
	exec $(RUN) -m sessauth.cli.main serve

test: $(BUILT) ## what starts no process and does not wait: some three minutes on two cores
	TMPDIR=$(or $(TMPDIR),$(MEMORY)) $(RUN) -m pytest -q -n $(JOBS) --dist worksteal \
	    -o tmp_path_retention_policy=failed -m 'not slow' $(ARGS)

test-slow: $(BUILT) ## the others; more at a time than there are cores, since most of them wait
	$(RUN) -m pytest -q -n $$((2 * $(JOBS))) --dist loadfile -m slow $(ARGS)

test-all: test test-slow ## the whole suite, some twenty minutes

test-long: $(BUILT) ## the suite with 200,000 generated cases and 100 kills of the writer
	SESSAUTH_CASES=200000 SESSAUTH_KILL_ROUNDS=100 SESSAUTH_AUDIT_RECORDS=1000000 SESSAUTH_PACK_CASES=10000 SESSAUTH_DAMAGES=3000 $(RUN) -m pytest -q -n $(JOBS) --timeout 3600 $(ARGS)

# Its environment has 830 MB.
test-crewai: $(BUILT) ## the adapter for CrewAI, in an environment of its own
	$(BIN)/python -m venv .venv-crewai
	.venv-crewai/bin/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	.venv-crewai/bin/python -m pip install --quiet --disable-pip-version-check --group test --group build \
	    --requirement tests/guard/requirements/crewai.txt
	SESSAUTH_LINK_ONLY=1 .venv-crewai/bin/python -m pip install -qq --disable-pip-version-check --no-build-isolation --editable .
	.venv-crewai/bin/python -m pytest -q $(ARGS) tests/guard/test_crewai.py tests/guard/test_pages.py

test-sanitized: $(BUILT) ## bytes of all kinds on a kernel built with the address and undefined-behaviour sanitizers
	tools/test_sanitized.sh $(BIN)/python $(ARGS)

lint: $(BUILT) ## ruff, mypy, cython-lint, stubtest, buf
	$(MAKE) --no-print-directory --jobs $(JOBS) --output-sync=target types stubtest lint-rest

types: $(BUILT)
	$(RUN) -m mypy

lint-rest: $(BUILT)
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/cython-lint sessauth benchmarks
	$(BIN)/buf lint proto
	$(BIN)/buf format --diff --exit-code proto

# After the types: both write the cache of mypy, which is one database, and the second to make it fails.
stubtest: types
	$(RUN) -m mypy.stubtest --mypy-config-file pyproject.toml --concise --ignore-disjoint-bases \
	    --ignore-unused-allowlist --allowlist tools/stubtest_allowlist.txt $(TYPED)

format: $(INSTALLED) ## rewrite what ruff and buf would complain about
	$(RUN) -m ruff check --fix-only .
	$(RUN) -m ruff format .
	$(BIN)/buf format --write proto

bench: $(BUILT) ## measure against floors; writes benchmarks/results/local/
	$(RUN) -m benchmarks

bench-docs: $(BUILT) ## tables of the last results into docs/performance.md
	$(RUN) -m benchmarks.render docs/performance.md \
	    $(wildcard $(RESULTS)/full.json $(RESULTS)/peers.json)
	$(RUN) -m benchmarks.render docs/least-privilege.md \
	    $(wildcard $(RESULTS)/grants.json $(RESULTS)/grants-recorded.json $(RESULTS)/grants-seed-*.json)

bench-quick: $(BUILT) ## the short form that CI runs
	$(RUN) -m benchmarks --quick

bench-grants: $(BUILT) ## judge suggested grants by honest sessions and attacks (ARGS="--recorded FOLDER")
	$(RUN) -m benchmarks.grants $(ARGS)

bench-instructions: $(BUILT) ## count instructions with valgrind, where times are too noisy
	$(RUN) -m benchmarks --quick --only instructions

# Third-party code that nothing else here needs: in an environment of its own, each library at its pin.
# Where one can't be installed the others still are, the run says which is missing, and fails.
$(PEERS): $(INSTALLED) benchmarks/peers/requirements.txt
	$(BIN)/python -m venv --clear $(@D)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --group build
	SESSAUTH_LINK_ONLY=1 $(@D)/bin/python -m pip install -qq --disable-pip-version-check --no-build-isolation --editable .
	if $(@D)/bin/python -m pip install --quiet --disable-pip-version-check -r benchmarks/peers/requirements.txt; then \
	    touch $@; \
	else \
	    grep -v '^#' benchmarks/peers/requirements.txt | while read -r pin; do \
	        $(@D)/bin/python -m pip install --quiet --disable-pip-version-check "$$pin" </dev/null || \
	            echo "not installed: $$pin" >&2; \
	    done; \
	fi

bench-peers: $(BUILT) $(PEERS) ## measure five other libraries at the nearest equal work (.venv-peers)
	$(dir $(PEERS))bin/python -m benchmarks.peers --require-all $(ARGS)

# The package has no scripts and no dependencies.
cerbos: $(BUILT) ## install the Go policy service that `make bench` compares with, from npm (.venv-cerbos)
	mkdir -p .venv-cerbos
	npm install --silent --no-audit --no-fund --ignore-scripts --prefix .venv-cerbos \
	    "$$($(RUN) -m benchmarks.service.cerbos)"

proto: ## regenerate the stubs and the kernel's table from proto/
	tools/generate_stubs.sh

proto-check: ## fail if proto/ and what was generated from it disagree
	out=$$(mktemp -d); trap 'rm -rf "$$out"' EXIT; \
	tools/generate_stubs.sh "$$out"; \
	diff -r -x __pycache__ "$$out/sessauth/v1" sessauth/v1; \
	for folder in proto/sessauth/{gateways,carriers}/*/v1; do \
	    diff -r -x __pycache__ "$$out/$${folder#proto/}" "$${folder#proto/}"; \
	done; \
	diff "$$out/sessauth/_fast/codec/schema.py" sessauth/_fast/codec/schema.py

vectors: $(BUILT) ## write tests/vectors/*.json again
	$(RUN) tests/vectors/generate.py

vectors-check: $(BUILT) ## fail if the seeded generator gives other vectors than the committed ones
	$(RUN) tests/vectors/generate.py --check

controls: $(INSTALLED) ## write the map of controls of evidence packs again, from docs/compliance.md
	$(RUN) tools/generate_controls.py

client: $(INSTALLED) ## write the blocking client again, from the asyncio one
	$(RUN) tools/generate_sync_client.py

client-check: $(INSTALLED) ## fail if the blocking client is not what the asyncio one gives
	$(RUN) tools/generate_sync_client.py --check

$(SITE): $(INSTALLED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --group docs
	touch $@

docs: $(BUILT) $(SITE) ## the site of docs/ and the reference of the package, in build/site
	NO_MKDOCS_2_WARNING=1 $(RUN) -m mkdocs build --quiet --strict

docs-serve: $(BUILT) $(SITE) ## the site on 127.0.0.1:8000, built again after each change, until Ctrl-C
	NO_MKDOCS_2_WARNING=1 $(RUN) -m mkdocs serve --quiet --strict --dev-addr 127.0.0.1:8000

# Interpreters that are missing are left out.
wheels: $(INSTALLED) ## manylinux wheels of each Python that is here, with libnghttp2 inside, tried in a bare environment
	PATH="$(abspath $(BIN)):$$PATH" tools/build_wheels.sh $(BIN)/python dist python3.11 python3.12 python3.13

package: $(INSTALLED) ## sdist, and a wheel built from that sdist, in dist/
	rm -rf dist
	mkdir -p build
	$(RUN) -m build --outdir dist . > build/package.log 2>&1 || { cat build/package.log >&2; exit 1; }

clean: ## remove everything that can be made again
	rm -rf build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .venv .venv-proto .venv-peers
	rm -f sessauth/_fast/*.c sessauth/_fast/*.so sessauth/_fast/build.json
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
