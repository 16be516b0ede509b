# Every command sets up what it needs (.venv, .ros) and skips what is done. Nothing needs root.
SHELL := bash
.DEFAULT_GOAL := help
.PHONY: help demo test lint build clean

help: ## this list
	@echo 'make COMMAND, where COMMAND is one of'
	@sed -nE 's/^([a-z]+):[^#]*## (.*)/  \1\t\2/p' Makefile | expand -t 10

demo: ## real pedestrians as a 4D crowd, into out/demo [VIDEO=… CAMERA_INFO=… FRAMES=… OUT=…]
	@scripts/bootstrap scripts/demo

test: lint ## lint, then all tests
	@scripts/bootstrap python -m pytest

lint: ## style, types and the direction of imports
	@scripts/bootstrap ruff check .
	@scripts/bootstrap ruff format --check .
	@scripts/bootstrap mypy
	@scripts/bootstrap lint-imports

build: ## the set-up alone; then `source .ros/setup.bash`
	@scripts/bootstrap

clean: ## removes the set-up and all caches (out/ stays)
	rm -rf .venv .ros build *.egg-info .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
