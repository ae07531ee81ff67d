# The ways in. Each one checks the machine first (scripts/setup.sh), then calls what does it.

.DEFAULT_GOAL := help
.PHONY: help build demo demo-guidance demo-network demo-services test test-full

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1: /p' Makefile

build: ## build target/release/vyr
	scripts/setup.sh build scripts/build.sh

demo: ## sign, run and verify one task on real events
	scripts/setup.sh demo scripts/demo.sh

demo-guidance: ## short tasks beside hogs, with guidance off and on
	scripts/setup.sh demo-guidance scripts/demo-guidance.sh

demo-network: ## a network planned, applied, locked out of and rebuilt while packets flow (root)
	scripts/setup.sh demo-network scripts/demo-network.sh

demo-services: ## a real image as two services with TLS, rolled forward and back under load (root)
	scripts/setup.sh demo-services scripts/demo-services.sh

test: ## run every check there is
	scripts/setup.sh test cargo xtask ci

test-full: ## the same at full size, with emulated machines, fuzzing, the demo and a million tasks
	scripts/setup.sh test-full cargo xtask ci --full
