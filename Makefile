PYTHON ?= python3
BIN := .venv/bin

.PHONY: quickstart test lint bench dashboard clean

quickstart: .venv/run  ## install, search, evaluate, show the leaderboard, export the top 3
	$(BIN)/walkforge study experiment=quickstart
	$(BIN)/walkforge leaderboard name=quickstart
	$(BIN)/walkforge export name=quickstart top_n=3

test: .venv/dev  ## run every test that this machine can run
	$(BIN)/pytest -n 2 --dist loadfile

lint: .venv/dev  ## style, types and layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: .venv/dev  ## the short form of every benchmark, measured here, and benchmarks/RESULTS.md from what they say
	$(BIN)/python benchmarks/report.py --quick

dashboard: .venv/run  ## browse the quickstart's trials
	$(BIN)/walkforge dashboard name=quickstart

clean:  ## remove what can be made again; studies/ and databases/ are yours and stay
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find envs optimize tests -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/run: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	touch $@

.venv/dev: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@ .venv/run
