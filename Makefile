# Stepkey. "make" alone lists what there is; each target is a few lines that can
# be run by hand as well.

SHELL       := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help demo build test servers lint bench fuzz image

GO       ?= go
DOCKER   ?= docker
FUZZTIME ?= 10s
# The longest that the tests of one package may take: containers start slowly
# where two cores do everything.
TESTTIME ?= 30m

binaries := stepkey stepkey-exchange stepkey-demo
lint     := $(GO) tool -modfile=.ci/lint/go.mod golangci-lint

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: build ## one release pipeline on this machine, start to end; HOLD=1 keeps it running
	bin/stepkey-demo $(if $(HOLD),--hold)

build: ## the three binaries, static, in bin/
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/ $(binaries:%=./cmd/%)

test: ## vet, then every test with the race detector
	$(GO) vet ./...
	$(GO) test -race -timeout $(TESTTIME) ./...
	@echo "test: every package passed"

# Servers that are in no Debian package, each from a module of its own. The tests that need
# one skip without it, and fail in CI. The first build takes minutes.
servers: ## the real servers for tests that apt has not: bin/servers
	CGO_ENABLED=0 $(GO) -C testdata/servers/registry build -o $(CURDIR)/bin/servers/registry .
	CGO_ENABLED=0 $(GO) -C testdata/servers/minio build -o $(CURDIR)/bin/servers/minio github.com/minio/minio
	CGO_ENABLED=0 $(GO) -C testdata/servers/kube-apiserver build -o $(CURDIR)/bin/servers/kube-apiserver .

lint: ## golangci-lint, in the version of .ci/lint/go.mod; the first run builds it
	$(lint) run ./...
	@echo "lint: nothing found"

bench: ## every benchmark, with allocations
	$(GO) test -run '^$$' -bench . -benchmem ./...

# "go test -list" prints a package's targets and then the package itself.
fuzz: ## every fuzz target for FUZZTIME (10s)
	@listed=$$($(GO) test -list '^Fuzz' ./...); \
	awk '/^Fuzz/ {targets[++n] = $$1} /^ok/ {for (i = 1; i <= n; i++) print targets[i], $$2; n = 0}' <<<"$$listed" | \
	while read -r target package; do \
		echo "fuzz: $$target in $$package"; \
		$(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) "$$package" </dev/null; \
	done
	@echo "fuzz: every target ran for $(FUZZTIME) and nothing was found"

image: ## both images: the action's and the exchange's
	$(DOCKER) build --target action --tag stepkey-action:dev .
	$(DOCKER) build --target exchange --tag stepkey-exchange:dev .
