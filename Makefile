# `make demo` and `make test` set up .venv by themselves and use it again.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help demo test oldest lint doc links bench bench-methods resolve soak fuzz clean browser
# One environment: two targets must not install into it at once.
.NOTPARALLEL:

VENV := .venv
EXTRAS := plot
CONSTRAINTS := constraints.txt
BIN := $(VENV)/bin
VENV_PYTHON := $(BIN)/python

# Any Python >= 3.11 that really starts and can make virtual environments.
PYTHONS := python3.12 python3.11 python3
PYTHON ?= $(shell for python in $(PYTHONS); do \
    "$$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' \
    2>/dev/null && echo "$$python" && break; done)

# uv installs three to six times as fast as pip.  One that is there is taken, else pip
# installs it into the environment; UV=none does without.
UV ?= $(shell command -v uv)

export PYTHONUNBUFFERED := 1

help:  ## Show this list.
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 24

demo: $(VENV)/.installed  ## From a catalog to distilled galaxies (DATA=folder: on your own).
	$(VENV_PYTHON) examples/plot_discover_galaxies.py $(if $(DATA),--data "$(DATA)")

# The tests of a file stay together, so that what they share is made once.
TEST_JOBS ?= $(shell n=$$(nproc 2>/dev/null || echo 2); echo $$((n < 4 ? n : 4)))
PYTEST := pytest --numprocesses $(TEST_JOBS) --dist loadfile

test: lint $(VENV)/.installed-dev  ## Run the checks and the tests (TEST_JOBS=n: n files at once).
	$(BIN)/$(PYTEST)

oldest:  ## Run the tests with the oldest versions that are allowed.
	@$(MAKE) --no-print-directory VENV=.venv-oldest CONSTRAINTS=constraints-oldest.txt \
	    EXTRAS=plot,test PYTHONS="python3.11 python3.12 python3" .venv-oldest/.installed
	.venv-oldest/bin/pip check
	.venv-oldest/bin/$(PYTEST) --ignore tests/documentation

# The documentation is opened in Chromium; without one these tests are skipped.
CHROMIUMS := chromium chromium-browser google-chrome google-chrome-stable
browser:  ## Install Chromium for the tests of the documentation (Debian, as root).
	@if found=$${CHROMIUM:-$$(command -v $(CHROMIUMS) | head -n 1)} && [ -n "$$found" ]; then \
	    echo "The tests of the documentation use $$found"; \
	elif ! command -v apt-get >/dev/null || [ "$$(id -u)" != 0 ]; then \
	    echo "\`make browser\` installs Chromium as root on Debian.  Elsewhere install it" \
	         "by hand, or set CHROMIUM to the path of one." >&2; \
	    exit 1; \
	else \
	    echo "Installing Chromium for the tests of the documentation (about a minute)"; \
	    export DEBIAN_FRONTEND=noninteractive; \
	    apt-get update -q && apt-get install -y -q --no-install-recommends chromium; \
	fi

# Words that the project does without, and where users or developers would read them.
PROSE := skdistill doc README.rst CONTRIBUTING.rst examples 'benchmarks/*.py' 'benchmarks/*.md'

lint: $(VENV)/.installed-dev  ## Run the checks alone.
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/codespell
	! git grep -nEi -f .ci/words.txt -- $(PROSE)
	$(BIN)/lint-imports
	find skdistill -name '*.py' | sort | xargs $(BIN)/numpydoc lint
	$(BIN)/mypy

doc: $(VENV)/.installed-dev  ## Build the documentation in doc/_build/html.
	$(BIN)/sphinx-build -W --keep-going --fresh-env -b html doc doc/_build/html
	$(VENV_PYTHON) doc/check_links.py doc/_build/html

links: $(VENV)/.installed-dev  ## Check the links of the built documentation.
	$(VENV_PYTHON) doc/check_links.py doc/_build/html

# DATA is a folder of CIFAR-10, GALAXIES one of votes.csv and images/, SETS are files of
# distilled sets.  One benchmark that fails does not keep the others from running.
bench: $(VENV)/.installed-dev  ## Run every benchmark that has its data (DATA= GALAXIES= SETS=).
	@failed=; \
	for script in benchmarks/[!_]*.py; do \
	    missing=; given=(); \
	    need() { if [ -n "$$2" ]; then given+=(--data "$$2"); else missing="$$1=folder"; fi; }; \
	    case "$${script##*/}" in \
	        methods.py) missing="make bench-methods, which takes hours" ;; \
	        published_scale.py | published_stm.py | headline.py) missing="a folder to work in: see its --help" ;; \
	        published.py) need DATA "$(DATA)"; given+=(--sets $(SETS)); \
	            [ -n "$(SETS)" ] || missing="DATA=folder SETS=files" ;; \
	        table1.py) need GALAXIES "$(GALAXIES)" ;; \
	        table2.py | figure3.py | figure4.py | beyond.py | pixel_lr.py | architectures.py) need DATA "$(DATA)" ;; \
	        gpu.py) given=($(if $(DATA),--data "$(DATA)")); \
	            command -v nvidia-smi >/dev/null || missing="a GPU" ;; \
	        kip.py) given=($(if $(DATA),--data "$(DATA)")) ;; \
	    esac; \
	    if [ -n "$$missing" ]; then echo "Left out: $$script needs $$missing"; continue; fi; \
	    echo "Running $$script $${given[*]}"; \
	    $(VENV_PYTHON) "$$script" "$${given[@]}" || failed+=" $$script"; \
	done; \
	if [ -n "$$failed" ]; then echo "Failed:$$failed" >&2; exit 1; fi

# The table of all methods at equal cost: hours; it resumes where it was.
bench-methods: $(VENV)/.installed-dev  ## Compare all methods at equal cost (DATA="folder ...").
	OMP_NUM_THREADS=1 $(VENV_PYTHON) benchmarks/methods.py $(if $(DATA),--data $(DATA))

# The CUDA libraries and triton are left out: torch's own metadata chooses them.
RESOLVE := uv pip compile --quiet --universal --python-version 3.11 --upgrade \
           --no-header --no-annotate pyproject.toml --extra plot
CUDA := ^(cuda|nvidia)-|^triton=

resolve:  ## Resolve the newest and the oldest versions again (needs uv).
	newest=$$($(RESOLVE) --extra dev --extra fuzz | grep -vE '$(CUDA)'); \
	oldest=$$($(RESOLVE) --extra test --resolution lowest-direct | grep -vE '$(CUDA)'); \
	{ echo "# The newest versions, as \`make resolve\` found them:"; \
	  echo "#     pip install -c constraints.txt -e \".[test]\""; \
	  echo "$$newest"; } > constraints.txt; \
	{ echo "# The oldest versions that pyproject.toml allows, for \`make oldest\`."; \
	  echo "$$oldest"; } > constraints-oldest.txt

soak: $(VENV)/.installed-dev  ## Kill a pipeline at random for half an hour (MINUTES=n: longer or less).
	OMP_NUM_THREADS=1 $(VENV_PYTHON) tests/soak.py --minutes $(or $(MINUTES),30)

# SHARE=0.01 takes a minute, 1 three quarters of an hour; READERS="csv zip" only these.
SHARE ?= 0.1
fuzz: $(VENV)/.installed-fuzz  ## Fuzz the readers of files (SHARE=1: a million inputs).
	$(VENV_PYTHON) tests/fuzz/fuzz_readers.py $(READERS) --share $(SHARE)

clean:  ## Remove what the other commands wrote, but not .venv.
	rm -rf build demo-output fuzz-output doc/_build doc/gallery doc/api/generated \
	    doc/unreleased.inc doc/sg_execution_times.rst *.egg-info \
	    .coverage .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache

# Three stamps, by what is in the environment: what the demo needs; besides that what
# tests, checks and documentation need; and what fuzzing needs.  An environment that has
# less is extended.
$(VENV)/.installed: extras = $(EXTRAS)
$(VENV)/.installed: effort = 6 GB of disk, a minute or two by uv
$(VENV)/.installed-dev: extras = plot,dev
$(VENV)/.installed-dev: effort = 7 GB of disk, a minute or three by uv
$(VENV)/.installed-fuzz: extras = plot,dev,fuzz
$(VENV)/.installed-fuzz: effort = 7 GB of disk, a minute or three by uv

# .installing lives as long as an installation runs: where it is found at the start,
# the last one was cut off, and the environment is made again.
$(VENV)/.installed $(VENV)/.installed-dev $(VENV)/.installed-fuzz: pyproject.toml $(CONSTRAINTS)
	@trap 'exit 130' INT; \
	rm -f $(VENV)/.installed*; \
	if [ -e $(VENV)/.installing ] || ! $(VENV_PYTHON) -m pip --version &>/dev/null; then \
	    python="$(PYTHON)"; \
	    if [ -z "$$python" ]; then \
	        echo "skdistill needs Python 3.11 or newer with its venv module." \
	             "Name yours: make PYTHON=/path/to/python3" >&2; \
	        exit 1; \
	    fi; \
	    echo "Making the environment $(VENV) with $$python"; \
	    "$$python" -m venv --clear $(VENV); \
	fi; \
	touch $(VENV)/.installing; \
	echo "Installing skdistill[$(extras)] into $(VENV), with torch and its CUDA libraries:" \
	     "$(effort), if nothing of it is there yet"; \
	pip="$(VENV_PYTHON) -m pip --disable-pip-version-check"; \
	uv="$(UV)"; \
	if [ -z "$$uv" ]; then \
	    uv=$(BIN)/uv; \
	    [ -x $$uv ] || $$pip install uv || true; \
	fi; \
	wanted=(--constraint $(CONSTRAINTS) --editable '.[$(extras)]'); \
	if ! command -v "$$uv" >/dev/null \
	    || ! "$$uv" pip install --python $(VENV_PYTHON) "$${wanted[@]}"; then \
	    echo "Without uv: pip installs, which takes three to six times as long"; \
	    $$pip install "$${wanted[@]}"; \
	fi; \
	rm $(VENV)/.installing; \
	touch $(VENV)/.installed $@
