# `make quickstart` and `make test` work on a machine that has Python >= 3.10, pip and make, and nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.setup-done

.PHONY: setup quickstart quickstart-rpo quickstart-edit quickstart-dpo quickstart-align-prop quickstart-judge test test-slow docs figures wheel lint format clean

setup: $(STAMP)

$(STAMP): setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	@# torch first and alone, so that no other package's open range can pull in a CUDA build
	$(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt torch
	$(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt -e ".[dev]"
	@touch $(STAMP)

quickstart: setup
	$(BIN)/arr-trl quickstart

quickstart-rpo: setup
	$(BIN)/arr-trl quickstart --rpo

quickstart-edit: setup
	$(BIN)/arr-trl quickstart --edit

quickstart-align-prop: setup
	$(BIN)/arr-trl quickstart --align_prop

quickstart-dpo: setup
	$(BIN)/arr-trl quickstart --dpo

quickstart-judge: setup
	$(BIN)/arr-trl quickstart --judge

# One thread per worker: two threads on a busy two-core machine make a tiny pipeline a hundred times slower.
test: setup lint
	OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -n 2

test-slow: setup
	OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -m slow

# The pages as a site with search, in outputs/docs; a warning is an error.
docs: setup
	HF_HUB_OFFLINE=1 $(BIN)/python -m sphinx -W --keep-going -q -b html docs/source outputs/docs

# The pictures of README and docs, from the adapter of `make quickstart`; needs Chromium.
figures: setup
	test -f outputs/quickstart/ARR-tiny-flux/adapter_config.json || $(MAKE) quickstart
	$(BIN)/arr-trl evaluate --config examples/configs/tiny_scenes_evaluate.yaml --num_images_per_prompt 1 --output outputs/figures
	HF_HUB_OFFLINE=1 $(BIN)/python benchmarks/figures.py --evaluation outputs/figures

# Source and wheel in dist/, the wheel built from the source, and whether all that ships is in it.
wheel: setup
	rm -rf build dist
	$(BIN)/python -m build -q
	$(BIN)/python tests/wheel_contents.py dist/*.whl

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) outputs
