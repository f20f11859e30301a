PYTHON ?= python3
TORCH := 2.13.0
JOBS ?= auto
DEMO ?= demo
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
UV := UV_COMPILE_BYTECODE=1 $(BIN)/uv pip install --quiet --python $(BIN)/python
PYTEST := $(BIN)/pytest --verbose --numprocesses $(JOBS) --dist worksteal

.PHONY: help announce demo environment newest test matrix test-quick test-images faults lint snapshots examples pictures
.PHONY: reference site
.PHONY: clean

help: ## List these targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 14

announce:
	@[ -e $(VENV)/.test ] || echo 'First every framework, runtime and server is installed into $(VENV):' \
	    '3 GB, 5 to 15 minutes. Then all tests run, for an hour or more; make test-quick is shorter.'
	@tests/system-packages

demo: $(VENV)/.tool ## Emit a service with the default answers, train its example, ask it
	$(BIN)/python -m inferplate.demo $(DEMO)

environment: $(VENV)/.test ## Install every framework, runtime and server

newest: $(VENV)/.test ## Bring everything in the environment to its newest release
	$(UV) --upgrade --torch-backend cpu --editable . --group test

test: announce $(VENV)/.test ## Check all combinations, and everything else
	$(PYTEST) $(ARGS)

matrix: $(VENV)/.test ## Run every check of every combination, of further tasks too
	$(BIN)/inferplate verify $(ARGS)

test-quick: announce $(VENV)/.test ## Check one variant per framework, runtime and server
	$(PYTEST) --quick $(ARGS)

test-images: announce $(VENV)/.test ## Build twelve images with a Docker engine, run and ask them
	$(PYTEST) --require-images $(ARGS) tests/test_images.py

faults: $(VENV)/.test ## Plant faults one at a time, and name those that no test notices
	PYTHONPATH=tests $(BIN)/python -m faults $(ARGS)

lint: $(VENV)/.test ## Check style and types, of the fragments too
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/pytest --quiet tests/test_fragments.py

snapshots: $(VENV)/.test ## Write the OpenAPI snapshots anew
	$(BIN)/pytest --quiet --update-snapshots tests/test_openapi.py

examples: $(VENV)/.tool ## Write the services in examples/ anew
	$(BIN)/python examples/render.py

reference: $(VENV)/.test ## Write the reference pages of the site anew
	$(BIN)/python docs/reference/write.py

site: $(VENV)/.test ## Build the documentation site into site/
	$(BIN)/zensical build --strict

pictures: $(VENV)/.test ## Draw the pictures of the README anew
	$(BIN)/python docs/pictures/draw.py

clean: ## Remove what was made here
	rm -rf $(VENV) $(DEMO) kept build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find src tests template -name __pycache__ -prune -exec rm -rf {} +

$(BIN)/uv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	    || { echo 'Python 3.11 or newer is needed: make PYTHON=python3.12'; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'uv>=0.9'

$(VENV)/.tool: pyproject.toml | $(BIN)/uv
	$(UV) --editable .
	@touch $@

# The CPU build: from where pip was told to look, else from PyTorch's own index.
$(VENV)/.torch: | $(BIN)/uv
	$(BIN)/python -m pip install --quiet 'torch==$(TORCH)+cpu' 2>/dev/null \
	    || $(BIN)/python -m pip install --quiet 'torch==$(TORCH)' \
	        --index-url https://download.pytorch.org/whl/cpu
	@touch $@

$(VENV)/.test: pyproject.toml $(VENV)/.tool $(VENV)/.torch
	$(UV) --group test
	@touch $@
