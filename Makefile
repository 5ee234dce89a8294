# BitDew's commands. Everything runs on the installed package, in a virtual environment of its own (VENV).
#
#   make demo    a whole grid on this machine, from nothing to a booted disk
#   make root-hep  HEP jobs in ROOT machines, from building the disk to the merged spectrum; takes minutes
#   make hep-light  the same with uproot in place of ROOT, machines deployed and retired by the scheduler; minutes
#   make test    every test: the fast ones in parallel, then those with real processes, swarms and machines
#   make lint    style, types and the arrows between the rooms
#   make bench   the benchmarks, but for the next
#   make bench-swarm  swarms on shaped links, against nginx, aria2 and transmission; needs root
#   make bench-api  small data through the API for developers, against plain HTTP
#   make docs    the documentation, as HTML in docs/_build/html
#   make lock    record the versions of all dependencies, after changing them in pyproject.toml
#   make clean   remove everything that these made

PYTHON ?= python3
VENV ?= .venv
# Processes that run tests: one more than there are cores, since tests wait for about half of their time.
JOBS ?= $(shell expr $$(nproc) + 1)
PYTEST_ARGS ?=
SOURCES := $(shell find bitdew catalog scheduler worker -type f -not -name '*.pyc') pyproject.toml LICENSE README.md \
    docs/man/bitdew.1
BIN := $(abspath $(VENV))/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
# No program started from here may import the source folders that lie in the current folder instead of the package.
export PYTHONSAFEPATH := 1

.PHONY: demo root-hep hep-light test test-fast test-field lint bench bench-api bench-swarm docs docs-generate lock clean qemu
.DELETE_ON_ERROR:

demo: $(VENV)/.product qemu
	$(BIN)/bitdew demo

root-hep: $(VENV)/.product qemu
	@bash .ci/packages "building disks" squashfs-tools dosfstools mtools syslinux syslinux-common || true
	$(BIN)/python examples/root-hep/run.py $(ROOT_HEP_ARGS)

hep-light: ROOT_HEP_ARGS += --light --provision
hep-light: root-hep

qemu:
	@bash .ci/packages "booting machines" qemu-system-x86 qemu-utils || \
	    echo "bitdew: going on without QEMU: disks are placed and verified, and no machine is booted" >&2

# Setting up ----------------------------------------------------------------------------------------------------------

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "bitdew: Python 3.11 or newer is needed; name one with make PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -m ensurepip --version >/dev/null 2>&1 || bash .ci/packages "the virtual environment" python3-venv
	$(PYTHON) -m venv $(VENV)
	@touch $@

# The wheel is made from a fresh build folder: setuptools would pack files there that are gone from the sources.
$(VENV)/.product: $(VENV)/.made $(SOURCES) requirements.lock
	rm -rf build $(VENV)/wheels
	$(PIP) wheel --no-deps --wheel-dir $(VENV)/wheels .
	rm -rf build
	$(PIP) install --no-deps --force-reinstall $(VENV)/wheels/bitdew-*.whl
	$(PIP) install --constraint requirements.lock bitdew
	@touch $@

$(VENV)/.tools: pyproject.toml requirements.lock | $(VENV)/.product
	$(PIP) install --constraint requirements.lock 'bitdew[dev]'
	@touch $@

# Checking ------------------------------------------------------------------------------------------------------------

test: $(VENV)/.product $(VENV)/.tools qemu
	@BIN=$(BIN) JOBS=$(JOBS) bash .ci/test $(PYTEST_ARGS)

test-fast: $(VENV)/.product $(VENV)/.tools
	$(BIN)/pytest -m 'not field' -n $(JOBS) $(PYTEST_ARGS)

test-field: $(VENV)/.product $(VENV)/.tools qemu
	$(BIN)/pytest -m field -n $(JOBS) --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

lint: $(VENV)/.product $(VENV)/.tools
	@BIN=$(BIN) bash .ci/lint

bench: $(VENV)/.product $(VENV)/.tools qemu
	@found=0; for file in $(filter-out benchmarks/swarm.py,$(wildcard benchmarks/*.py)); do found=1; \
	    echo "== $$file"; $(BIN)/python "$$file" || exit 1; done; \
	[ $$found = 1 ] || echo "bitdew: benchmarks/ has none yet"

bench-api: $(VENV)/.product $(VENV)/.tools
	$(BIN)/python benchmarks/api.py

bench-swarm: $(VENV)/.product $(VENV)/.tools
	@bash .ci/packages "the others on the same links" iproute2 nginx-light curl aria2 transmission-daemon transmission-cli opentracker
	$(BIN)/python benchmarks/swarm.py

# Documentation -------------------------------------------------------------------------------------------------------

docs: $(VENV)/.product $(VENV)/.tools
	$(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build/html
	@echo "bitdew: read docs/_build/html/index.html"

docs-generate: $(VENV)/.product $(VENV)/.tools
	$(BIN)/python docs/generate.py

# Housekeeping --------------------------------------------------------------------------------------------------------

lock:
	@bash .ci/lock $(PYTHON)

clean:
	rm -rf .venv build dist docs/_build .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
