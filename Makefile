# `make demo` and `make test` are all you need; each sets up its own virtual environment first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PACKAGES := bsm_core bsm_plugins_text bsm_plugins_models
SOURCES := $(PACKAGES) scripts tests examples docs benchmarks

.PHONY: demo test check docs wheel-test example clean

$(VENV)/.ready: requirements.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "bsm needs Python 3.11 or newer: make PYTHON=python3.11 ...")'
	@echo "Installing bsm and what requirements.txt lists into $(VENV): some minutes, once."
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --requirement requirements.txt
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@
	@echo "$(VENV) is ready: $(BIN)/bsm is the command, or activate it with: source $(BIN)/activate"

demo: $(VENV)/.ready  ## score 1,000 real reviews with the example artifact
	$(BIN)/python -m bsm_core.run --job_type inference --id-field review_id \
	    --model-dir examples/reviews/model.tar.gz --data-dir examples/reviews/reviews.csv --output-dir demo-output
	@echo && head -n 6 demo-output/inference_predictions.csv && echo "... 1,000 rows in demo-output/inference_predictions.csv"

check: $(VENV)/.ready  ## lint, types, layers
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(VENV)/.ready  ## build the documentation into docs/_build/html
	$(BIN)/sphinx-build --quiet --fail-on-warning --builder html docs docs/_build/html

wheel-test: $(VENV)/.ready  ## test the installed wheel in a new environment, outside the checkout
	BIN=$(abspath $(BIN)) PYTHON=$(PYTHON) .ci/wheel-test

example: $(VENV)/.ready  ## train the example artifact again: make example REVIEWS=path/to/reviews.parquet
	$(BIN)/python examples/reviews/train.py --reviews $(REVIEWS)

test: $(VENV)/.ready  ## the whole test suite, with coverage
	$(BIN)/pytest --numprocesses 2 --cov --cov-report term

clean:
	rm -rf $(VENV) demo-output docs/_build dist build
