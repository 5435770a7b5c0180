# Everything here needs only Python 3.11 or newer, make and a package index; the rest is installed into .venv.

.DEFAULT_GOAL := help
.PHONY: help setup demo studio zoo test test-browser test-fuzz test-fullsize lint format docs wheels clean

SHELL := /bin/sh
VENV_PYTHON := .venv/bin/python

# Framework, plugins and zoo are separate distributions, installed as such.
DISTRIBUTIONS := . $(patsubst %/pyproject.toml,%,$(wildcard plugins/*/pyproject.toml zoo/pyproject.toml benchmarks/*/pyproject.toml examples/*/pyproject.toml))

# Compiling every module beforehand takes longer than all the rest; Python compiles those it imports.
PIP_OPTIONS := --disable-pip-version-check --no-compile --constraint constraints.txt

HAS_NVIDIA_GPU := $(shell nvidia-smi -L >/dev/null 2>&1 && echo yes || echo no)

# The stamp's name changes with whatever decides what is installed, so an unchanged environment is not touched again.
STAMP := .venv/installed-$(shell { echo $(HAS_NVIDIA_GPU) $(CURDIR); \
	cat constraints.txt $(addsuffix /pyproject.toml,$(DISTRIBUTIONS)); } | cksum | tr ' ' '-')

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | awk -F '\t' '{ printf "  make %-14s %s\n", $$1, $$2 }'

setup: $(STAMP) ## make .venv and install framework, plugins and zoo into it

demo: $(STAMP) ## draw a picture with the embedded models and say where it is
	$(VENV_PYTHON) -m amdm_shapes_zoo.demo

studio: $(STAMP) ## serve the page on which scenes are drawn with the mouse, and say where it is
	.venv/bin/amdm studio

zoo: $(STAMP) ## train all embedded models again: minutes on a GPU, hours on a CPU; goes on where it stopped
	$(VENV_PYTHON) -m amdm_shapes_zoo.train all

# One torch thread per test process: several of them on the same cores would wait for each other.
test: $(STAMP) ## all tests but those at full model size; PYTEST_ARGS="-k discovery" narrows them
	OMP_NUM_THREADS=1 $(VENV_PYTHON) -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile $(PYTEST_ARGS)

test-browser: $(STAMP) ## the studio in Chromium, which is installed from Debian's packages where there is none
	$(VENV_PYTHON) tests/browser/chromium.py
	OMP_NUM_THREADS=1 $(VENV_PYTHON) -m pytest -m browser --numprocesses auto --maxprocesses 2 --dist loadfile tests/browser $(PYTEST_ARGS)

test-fuzz: $(STAMP) ## damaged and hostile inputs, 10 000 cases of them; `make test` has a few hundred
	AMDM_FUZZ_CASES=$(or $(CASES),10000) $(VENV_PYTHON) -m pytest tests/fuzz $(PYTEST_ARGS)

test-fullsize: $(STAMP) ## the tests at full model size, which need memory and time
	$(VENV_PYTHON) -m pytest -m fullsize $(PYTEST_ARGS)

lint: $(STAMP) ## style, format and types
	$(VENV_PYTHON) -m ruff check .
	$(VENV_PYTHON) -m ruff format --check .
	$(VENV_PYTHON) -m mypy

format: $(STAMP) ## put imports and layout in order
	$(VENV_PYTHON) -m ruff check --select I --fix .
	$(VENV_PYTHON) -m ruff format .

docs: $(STAMP) ## build the documentation into docs/_build/html and say where it is; a warning is an error
	$(VENV_PYTHON) -m sphinx -W --keep-going -c docs . docs/_build/html
	@echo "written: file://$(CURDIR)/docs/_build/html/index.html"

wheels: $(STAMP) ## build a wheel of every distribution into dist/
	for folder in $(DISTRIBUTIONS); do $(VENV_PYTHON) -m build --wheel --no-isolation --outdir dist $$folder || exit 1; done

clean: ## remove caches and built files; delete .venv to start afresh
	rm -rf dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis docs/_build
	find . -path ./.venv -prune -o -name __pycache__ -type d -exec rm -rf {} +

# On a machine with an NVIDIA GPU the CPU build of torch is excluded first: a wheel folder may offer it beside the CUDA
# build, and pip prefers it there (2.13.0+cpu counts as newer than 2.13.0). Where the index has no other build, the
# plain installation below takes it after all. Without a GPU whatever the index prefers is taken.
$(STAMP):
	@if ! $(VENV_PYTHON) -c 'import sys, pip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
		found=; \
		for candidate in $(or $(PYTHON),python3.11 python3.12 python3.13 python3.14 python3); do \
			if $$candidate -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then found=$$candidate; break; fi; \
		done; \
		if [ -z "$$found" ]; then \
			echo "make: Python 3.11 or newer is needed, and none was found on PATH." >&2; \
			echo "      Install one, or name it: make setup PYTHON=/path/to/python3.11" >&2; \
			exit 1; \
		fi; \
		echo "making .venv with $$($$found --version)"; \
		$$found -m venv --clear .venv || { echo "make: Debian and Ubuntu keep venv in the package python3-venv" >&2; exit 1; }; \
	fi
	$(VENV_PYTHON) -m pip install --quiet $(PIP_OPTIONS) hatchling editables
	@if [ $(HAS_NVIDIA_GPU) = yes ]; then \
		cpu_build=$$(sed -n 's/^torch==//p' constraints.txt)+cpu; \
		$(VENV_PYTHON) -m pip install $(PIP_OPTIONS) "torch!=$$cpu_build" \
			|| echo "the package index offers no CUDA build of torch: the networks will run on the CPU" >&2; \
	fi
	$(VENV_PYTHON) -m pip install $(PIP_OPTIONS) --no-build-isolation \
		$(patsubst %,--editable %,$(patsubst .,'.[dev]',$(DISTRIBUTIONS)))
	@rm -f .venv/installed-*
	@touch $@
