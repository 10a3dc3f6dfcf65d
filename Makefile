# Every target sets up the virtual environment first, where it is missing or older than requirements.txt.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PACKAGES := bsm_core bsm_plugins_text bsm_plugins_models
SOURCES := $(PACKAGES) scripts tests examples docs benchmarks

.PHONY: help demo test faults fuzz check pyright spark docs links wheel-test dist example clean

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*  ## \(.*\)/  make \1\t\2/p' Makefile | expand -t 20

$(VENV)/.ready: requirements.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "bsm needs Python 3.11 or newer: make PYTHON=python3.11 ...")'
	@echo "Installing bsm and the packages of requirements.txt into $(VENV). This takes some minutes, once."
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --requirement requirements.txt
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@
	@echo "$(VENV) is ready. Run $(BIN)/bsm, or activate the environment: source $(BIN)/activate"

demo: $(VENV)/.ready  ## score 1,000 reviews with the example artifact
	$(BIN)/python -m bsm_core.run --job_type inference --id-field review_id \
	    --model-dir examples/reviews/model.tar.gz --data-dir examples/reviews/reviews.csv --output-dir demo-output
	@echo && head -n 6 demo-output/inference_predictions.csv && echo "... 1,000 rows in demo-output/inference_predictions.csv"

test: $(VENV)/.ready  ## run all tests; with COVERAGE=1 also measure which lines they run, which takes longer
	$(BIN)/pytest --numprocesses 2 $(if $(COVERAGE),--cov --cov-report term)

faults: $(VENV)/.ready  ## kill runs at every step, and let every operation on a file fail; takes an hour
	FAULTS=all $(BIN)/pytest --numprocesses 2 tests/faults

fuzz: $(VENV)/.ready  ## give each reader of untrusted bytes a million inputs; takes an hour or two
	$(BIN)/pip install --quiet atheris==3.0.0
	for reader in csv pickle torch archive tokenizer config text; do \
	    $(BIN)/python tests/fuzz/forever.py $$reader --inputs 1000000 || exit; \
	done

check: $(VENV)/.ready  ## check style, types and the imports between folders
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/mypy --strict tests/support/users_script.py
	$(BIN)/lint-imports

pyright: $(VENV)/.ready  ## check a user's script as an editor does
	$(BIN)/pip install --quiet basedpyright==1.40.2
	$(BIN)/basedpyright --project tests/support/pyrightconfig.json

spark: $(VENV)/.ready  ## score with MLflow on Spark, which needs Java and takes 500 MB
	$(BIN)/pip install --quiet pyspark==4.3.0
	$(BIN)/pytest tests/integration/test_mlflow.py -k spark

docs: $(VENV)/.ready  ## build the documentation into docs/_build/html
	$(BIN)/sphinx-build --quiet --fail-on-warning --builder html docs docs/_build/html

links: $(VENV)/.ready  ## check the links of the documentation to other sites, which needs the network
	$(BIN)/sphinx-build --quiet --builder linkcheck docs docs/_build/links

wheel-test: $(VENV)/.ready  ## test the wheels in a new environment, outside the checkout
	BIN=$(abspath $(BIN)) PYTHON=$(PYTHON) .ci/wheel-test

dist: $(VENV)/.ready  ## build the sdist and the wheel into dist/
	rm -rf dist
	$(BIN)/python -m build --no-isolation

example: $(VENV)/.ready  ## train the example artifact again: make example REVIEWS=reviews.parquet
	$(BIN)/python examples/reviews/train.py --reviews $(REVIEWS)

clean:  ## remove the virtual environment and everything that was built
	rm -rf $(VENV) demo-output docs/_build dist build
