PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
CORES := $(shell $(PYTHON) -c "import os; print(min(4, os.cpu_count()))")
# Slow tests often wait for other processes, so one more than there are cores.
WORKERS ?= $(shell expr $(CORES) + 1)

# The processes that tests start would each compile the same files again.
export PYTHONDONTWRITEBYTECODE =
TEST := $(BIN)/python -m pytest --durations 25 --dist worksteal --numprocesses

.PHONY: setup demo quick test soak check bench format clean

# The environment is made again when the list of dependencies changes.
$(VENV)/.ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e ".[dev]"
	touch $@

setup: $(VENV)/.ready

demo: setup
	$(BIN)/cnngrid run digits

# While one writes code: a minute on two cores.
quick: setup
	$(TEST) $(CORES) -m "not (slow or ray or slurm or browser or gpu or soak)"

# Before a commit: six minutes on two cores.
test: setup
	$(TEST) $(WORKERS) -m "not soak"

# What else CI runs: Slurm, storms, long documents, real data sets, a pretended GPU. Slurm's tests
# wait most of the time, and only one Slurm runs at once, so they run beside the others.
soak: setup
	@log=$$(mktemp); $(BIN)/python -m pytest -m "soak and slurm" >$$log 2>&1 & slurm=$$!; \
	$(TEST) $(WORKERS) -m "soak and not slurm"; others=$$?; \
	wait $$slurm; code=$$?; cat $$log; rm $$log; exit $$((others || code))

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/mypy tests benchmarks
	$(BIN)/lint-imports

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: setup
	$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) dist build
