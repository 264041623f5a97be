# Two commands on a machine that has Python 3.11+ (with venv) and make: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
NAME ?= judge
OWN := $(wildcard benchmarks/requirements-$(NAME).txt)
BENCH := .venv-bench$(if $(OWN),-$(NAME))
JOBS ?= 2
INSTALL := -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
PIP := $(BIN)/python $(INSTALL)

.PHONY: demo test test-slow test-chaos check audit bench docs clean

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "tundish needs Python 3.11 or newer; say make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	@echo "installing (about 2 GB; some minutes the first time) ..."
	$(PIP) torch==2.13.0
	$(PIP) --editable '.[test]'
	$(BIN)/python -m tundish.pipeline.setup
	@touch $(READY)

demo: $(READY)  ## the main job on the built-in sample web; at the end a report
	$(BIN)/python examples/demo.py $(ARGS)

test: $(READY)  ## every fast check, in two processes (JOBS=1 for one)
	$(BIN)/python -m pytest -q -m "not slow" -n $(JOBS) --dist loadgroup $(ARGS)

test-slow: $(READY)  ## the checks that take minutes
	$(BIN)/python -m pytest -q -m "slow and not chaos" $(ARGS)

test-chaos: $(READY)  ## nodes, networks and disks that fail: half an hour; `make test-slow` runs a part of it
	$(BIN)/python -m pytest -q -m "chaos or slow" $(or $(ARGS),$(wildcard tests/test_chaos_*.py) tests/test_forget_crash.py)

check: $(READY)  ## before a commit, a minute: style, floors, and the tests that read pages, menus and names
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/lint-imports
	$(BIN)/python -m pytest -q -m "not slow" -n $(JOBS) --dist loadgroup \
	    tests/test_house.py tests/test_docs.py tests/test_docs_pages.py tests/test_docs_run.py tests/test_reliability_page.py

audit: $(READY)  ## a bill of materials in build/sbom.json, and known vulnerabilities of what constraints.txt pins
	$(BIN)/python -m tundish.pipeline.sbom build/sbom.json
	$(PIP) --editable '.[audit]'
	$(BIN)/pip-audit --requirement constraints.txt --no-deps --disable-pip --strict --progress-spinner off $(ARGS) \
	    || { echo "pip-audit found something, or had no network to ask (it says which above)"; exit 1; }

$(BENCH)/.ready: pyproject.toml constraints.txt $(or $(OWN),benchmarks/requirements.txt)
	$(PYTHON) -m venv $(BENCH)
	@echo "installing what is measured against (about 3 GB; some minutes the first time) ..."
	$(BENCH)/bin/python $(INSTALL) torch==2.13.0
ifeq ($(OWN),)
	$(BENCH)/bin/python $(INSTALL) --editable .
	$(BENCH)/bin/python $(INSTALL) --requirement benchmarks/requirements.txt
else
	$(BENCH)/bin/python -m pip install --quiet --disable-pip-version-check --editable . --requirement $(OWN)
endif
	$(BENCH)/bin/python -m tundish.pipeline.setup
	@touch $(BENCH)/.ready

bench: $(BENCH)/.ready  ## a race against other systems: make bench NAME=judge ARGS=--quick
	OMP_NUM_THREADS=1 $(BENCH)/bin/python benchmarks/$(NAME).py $(ARGS)

docs: $(READY)  ## the documentation as a site, in build/site; a broken link is an error
	$(PIP) --editable '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet $(ARGS)

clean:  ## remove what make made
	rm -rf $(VENV) .venv-bench* build .demo
