# The commands of this repository. Each is a script in scripts/, so that it can be read and run alone.
.DEFAULT_GOAL := help
.PHONY: help run test check bench sim deny fmt

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## Build the server and serve on http://127.0.0.1:7700, data in ./tidemark-data
	@scripts/run.sh $(ARGS)

test: ## Everything CI runs: format, lints, all tests, acceptance, a smoke run of the load generator
	@scripts/test.sh

check: ## The quick loop: format, lints, unit tests
	@scripts/check.sh

bench: ## The load generator, release build, all figures next to their floors (ARGS=--quick for a short run)
	@scripts/bench.sh $(ARGS)

sim: ## The simulator, release build: SEEDS=2000 STEPS=500, FIRST=0 for other seeds
	@SEEDS=$(SEEDS) STEPS=$(STEPS) FIRST=$(FIRST) scripts/sim.sh

deny: ## Licences, advisories, bans and sources of the dependencies (needs cargo-deny)
	@scripts/deny.sh

fmt: ## Format the code
	@cargo fmt --all
