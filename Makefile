PYTHON ?= python3
VENV ?= .venv
OUT ?= quickstart
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
SLURM := slurm-wlm slurmd slurmctld slurm-client slurmdbd slurm-wlm-mysql-plugin munge mariadb-server
SUDO := $(if $(filter-out 0,$(shell id -u)),sudo)
PIECE := prompt="a warm, dancing marimba piece" duration=8 seed=0 overwrite=true
WANDB_SWEEPS := $(VENV)/wandb_sweeps

.PHONY: help quickstart test test-all test-browser test-slurm lint format reference clean

help:
	@echo "make quickstart [OUT=DIR]  songs -> cache -> LoRA -> music with the tiny model, under quickstart/ or DIR"
	@echo "make test                  linters, types and the quick tests"
	@echo "make test-all              the same with every test a CPU can run, and coverage"
	@echo "make test-browser          a sweep's report in a headless Chromium, which must be installed"
	@echo "make test-slurm            sweeps on a SLURM cluster that it installs (Debian) and starts on this machine"
	@echo "make reference             docs/options.md from the options as they are"
	@echo "make lint | format | clean"

$(INSTALLED): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]' -c constraints.txt
	touch $@

# W&B's check of its sweep files, apart from all else: its package asks for a numpy of the past.
$(WANDB_SWEEPS): $(INSTALLED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --upgrade --target $@ sweeps==0.3.0
	touch $@

# The style is one that the tiny model was not pretrained on.
quickstart: $(INSTALLED)
	test -d "$(OUT)/songs" || $(BIN)/acetrain synthesize out_dir="$(OUT)/songs" style=marimba count=12 seed=1
	$(BIN)/acetrain preprocess model=tiny songs="$(OUT)/songs" cache="$(OUT)/cache"
	$(BIN)/acetrain train model=tiny cache="$(OUT)/cache" out_dir="$(OUT)/run" experiment=new_style
	$(BIN)/acetrain generate model=tiny $(PIECE) output="$(OUT)/base.wav"
	$(BIN)/acetrain generate model=tiny $(PIECE) output="$(OUT)/adapter.wav" adapter_path="$(OUT)/run/adapter"
	@echo
	@echo "songs                  $(OUT)/songs"
	@echo "encoded                $(OUT)/cache"
	@echo "run                    $(OUT)/run (config.yaml, metrics.csv, loss.png, checkpoints)"
	@echo "adapter                $(OUT)/run/adapter"
	@echo "music without adapter  $(OUT)/base.wav"
	@echo "music with adapter     $(OUT)/adapter.wav"

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test: lint $(WANDB_SWEEPS)
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto -m "not slow and not gpu and not slurm and not browser"

test-all: lint $(WANDB_SWEEPS)
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto -m "not gpu and not slurm and not browser" --cov --cov-report=term

test-browser: $(INSTALLED)
	@for each in chromium chromium-browser google-chrome; do command -v $$each > /dev/null && exit; done; \
		echo "no Chromium here: apt-get install --no-install-recommends chromium" >&2; exit 1
	OMP_NUM_THREADS=1 $(BIN)/pytest -m browser

test-slurm: $(INSTALLED)
	@test -x /usr/sbin/slurmctld || $(SUDO) apt-get update --quiet
	@test -x /usr/sbin/slurmctld || $(SUDO) apt-get install --yes --no-install-recommends $(SLURM)
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 0 -v --durations=0 -m slurm tests/slurm

reference: $(INSTALLED)
	$(BIN)/python -m acetrain.command.reference > docs/options.md.new
	mv docs/options.md.new docs/options.md

clean:
	rm -rf build dist .pytest_cache .ruff_cache .coverage .coverage.* htmlcov quickstart
