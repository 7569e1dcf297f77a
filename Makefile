PYTHON ?= python3
BIN := .venv/bin
TIER ?= default
MARKS_default := -m "not slow"
MARKS_all :=
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt
# on every core, where pip would use one, and without a third of the lines, which nothing here imports;
# a package may hold a file that is no Python, which pip ignores too
PRECOMPILE := $(BIN)/python -m compileall -qq -j 0 -x '/(tests?|testing|async_support|graph_objs|_inductor|rllib)/' .venv/lib || true

.PHONY: quickstart test lint docs bench dashboard clean

quickstart: .venv/run  ## install, search, evaluate, show the leaderboard, export the top 3
	$(BIN)/walkforge study experiment=quickstart
	$(BIN)/walkforge leaderboard name=quickstart
	$(BIN)/walkforge export name=quickstart top_n=3 gate=none  # its search earns nothing: no gate lets it pass

# else each process that a test starts compiles the modules of the package again
test: export PYTHONDONTWRITEBYTECODE :=
test: .venv/dev  ## run the default tests, or with TIER=all every test that this machine can run
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder $(if $(filter default all,$(TIER)),$(MARKS_$(TIER)),$(error TIER=$(TIER) is not allowed: default or all))

lint: .venv/dev  ## style, types and layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: .venv/dev  ## build the documentation into site/; a broken link or name fails
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict
	@echo "built site/index.html"

bench: .venv/dev  ## the short form of every benchmark, measured here, and benchmarks/RESULTS.md from what they say
	$(BIN)/python benchmarks/report.py --quick

dashboard: .venv/run  ## browse the quickstart's trials
	$(BIN)/walkforge dashboard name=quickstart

clean:  ## remove what can be made again; studies/ and databases/ are yours and stay
	rm -rf .venv build dist site *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find envs optimize tests -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/run: .venv/bin/python pyproject.toml constraints.txt
	$(INSTALL) -e .
	$(PRECOMPILE)
	touch $@

.venv/dev: .venv/bin/python pyproject.toml constraints.txt
	$(INSTALL) -e '.[dev]'
	$(PRECOMPILE)
	touch $@ .venv/run
