# Everything a person runs. `make help` lists the targets. The environment is .venv, created from
# requirements.lock at the first call and again whenever the lock changes.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c

# The first of these that runs and is 3.11 or 3.12, which the lock is for.
PYTHON ?= $(shell for python in python3.11 python3.12 python3; do $$python -c $(IS_SUPPORTED) 2>/dev/null \
	&& echo $$python && break; done)
IS_SUPPORTED := 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))'
VENV := .venv
LATEST := .venv-latest
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed.lock

AUDIO = examples/bach_bwv866_fugue.ogg
OUT = out
MODEL =
FORMATS =
CORPUS =
RECORDS =
PYTEST_ARGS ?=
# A process a core, each with TensorFlow in it: no more than four. What a file's tests share is made once.
PARALLEL := -n logical --maxprocesses=4 --max-worker-restart=0 --dist=loadfile --no-loadscope-reorder

export AUDIO OUT MODEL FORMATS CORPUS RECORDS

.DEFAULT_GOAL := help
.PHONY: help transcribe test test-slow test-latest lint format benchmark lock clean

help: ## List the targets.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo 'make transcribe AUDIO="one.wav two.mp3" OUT=notes MODEL=name FORMATS=midi,csv'
	@echo "Of several names, quote those with spaces: AUDIO=\"'my song.wav' other.flac\". A folder works too."

# AUDIO is one name as it stands, spaces and all; or, where no such file exists, words as the shell splits them; or,
# where it cannot, as in "it's.wav", that name after all, which musicnet then misses.
transcribe: $(INSTALLED) ## Write down the notes of AUDIO into OUT.
	@if [[ -e $$AUDIO ]]; then set -- "$$AUDIO"; \
	else eval "set -- $$AUDIO" 2>/dev/null || set -- "$$AUDIO"; fi; \
	$(BIN)/musicnet transcribe "$$@" --output_dir="$$OUT" \
		$${MODEL:+--model="$$MODEL"} $${FORMATS:+--formats="$$FORMATS"}

test: $(INSTALLED) ## Run the tests, without those marked slow.
	@$(BIN)/python -m pytest $(PARALLEL) $(PYTEST_ARGS)

test-slow: $(INSTALLED) ## Run the tests marked slow.
	@$(BIN)/python -m pytest -m slow $(PYTEST_ARGS)

lint: $(INSTALLED) ## Check style, formatting and types.
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: $(INSTALLED) ## Format the source and sort its imports.
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

# CORPUS=folder of MusicNet also measures building records, RECORDS=folder of record sets the input pipeline.
benchmark: $(INSTALLED) ## Measure speed and memory of transcription.
	@$(BIN)/python -m benchmarks $${CORPUS:+--corpus="$$CORPUS"} $${RECORDS:+--records="$$RECORDS"}

# Call: $(call create_venv,FOLDER). Debian's python3 may lack venv, which is the one thing that needs root; uv does not.
define create_venv
	@if ! '$(PYTHON)' -c $(IS_SUPPORTED) 2>/dev/null; then \
		echo 'make: Python 3.11 or 3.12 is needed$(if $(PYTHON),; $(PYTHON) is not); set PYTHON=/path/to/python3.11' >&2; \
		exit 1; fi; \
	echo 'Creating $(1), once; this takes some minutes' >&2; \
	if '$(PYTHON)' -c 'import ensurepip, venv' 2>/dev/null; then '$(PYTHON)' -m venv --clear '$(1)'; \
	elif command -v uv >/dev/null; then uv venv --quiet --clear --seed --python '$(PYTHON)' '$(1)'; \
	else echo 'make: $(PYTHON) has no venv module; on Debian: apt install python3-venv (or install uv)' >&2; exit 1; fi
endef

PIP := -m pip --disable-pip-version-check install --quiet

# The file is a copy of the lock that was installed, and written last: a broken-off installation starts again.
$(INSTALLED): requirements.lock setup.py
	@if ! cmp --silent requirements.lock '$@'; then $(MAKE) --no-print-directory locked-venv; fi
	@$(BIN)/python $(PIP) --no-deps --no-build-isolation --editable .
	@cp requirements.lock '$@'

.PHONY: locked-venv
locked-venv:
	$(call create_venv,$(VENV))
	@$(BIN)/python $(PIP) --require-hashes --requirement requirements.lock

test-latest: ## Run the tests on the newest TensorFlow, unpinned and without tensorflow-io.
	@[[ -x $(LATEST)/bin/musicnet ]] || $(MAKE) --no-print-directory latest-venv
	@$(LATEST)/bin/python -m pytest $(PARALLEL) $(PYTEST_ARGS)

.PHONY: latest-venv
latest-venv:
	$(call create_venv,$(LATEST))
	@$(LATEST)/bin/python $(PIP) 'tensorflow>=2.21,<2.22' --editable '.[beam,serving,dev]'

# Needs uv. The lock is for Linux on x86-64; Python 3.12 takes the same versions as 3.11. UPGRADE=1 renews all that
# requirements.in leaves open.
lock: ## Resolve requirements.in into requirements.lock.
	uv pip compile --no-config $(if $(UPGRADE),--upgrade) --python-version 3.11 --python-platform x86_64-manylinux_2_28 \
		--generate-hashes --no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock' \
		--quiet requirements.in --output-file requirements.lock

clean: ## Remove the environments, caches and out/.
	rm -rf '$(VENV)' '$(LATEST)' .pytest_cache .mypy_cache .ruff_cache .hypothesis build out ./*.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
