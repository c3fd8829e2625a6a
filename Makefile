# What saves typing. `make test` sets up all that the tests need and runs them all.

SHELL       := /bin/bash
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
ORIGIN      := integration/origins/node
CONFORMANCE := integration/conformance
# Commands from outside, each with the Debian package that brings it.
TEST_TOOLS  := redis-server:redis-server node:nodejs npm:npm curl:curl gcc:gcc
BENCH_TOOLS := nginx:nginx haproxy:haproxy varnishd:varnish traffic_server:trafficserver wrk:wrk taskset:util-linux redis-server:redis-server

.PHONY: build test check soak bench conformance deps tools

build: # bin/edge
	CGO_ENABLED=0 go build -trimpath -o bin/edge ./cmd/edge

test: deps check # everything that must hold
	go test -race -count 1 -timeout 9m -p 1 -parallel 4 ./... # one package at a time: they start servers, and some have deadlines
	go test -count 1 -run 'Allocates|PopularStays' ./proxy ./cachestore/memory # what the race detector hides
	go test -count 1 ./proxy/socket # whose calls are others under the race detector
	go test -run '^$$' -fuzz '^FuzzHead$$' -fuzztime 5s ./proxy/wire
	go test -run '^$$' -fuzz '^FuzzChunks$$' -fuzztime 5s ./proxy/wire

check: # what can be said without running much
	@unformatted=$$(gofmt -l .); \
	if [ -n "$$unformatted" ]; then echo "not formatted:"; echo "$$unformatted"; exit 1; fi
	go vet ./...
	go run $(STATICCHECK) ./...
	go test -run TestImport ./integration

soak: deps # the long tests and those with limits of time: on a machine that does nothing else
	EDGE_WITHOUT_QUICK=1 go test -race -timeout 20m -count 1 -parallel 4 ./integration
	EDGE_SOAK=1 go test -timeout 60m -count 1 -run FleetModel ./purge
	EDGE_SOAK=1 go test -timeout 60m -count 1 -v -run 'InTime|LargeBody|Chaos|Overfilled|FleetModel' ./integration

bench: # what edge does beside other caches; what purges cost, and how a fleet takes the troubles of its Redis
	@$(call install,$(BENCH_TOOLS))
	go run ./integration/bench
	go run ./integration/bench/fleet

conformance: $(CONFORMANCE)/node_modules/.package-lock.json # the public suite of tests for HTTP caches
	go run ./integration/conformance

deps: tools $(ORIGIN)/node_modules/.package-lock.json # what the tests need from outside

tools:
	@$(call install,$(TEST_TOOLS))

%/node_modules/.package-lock.json: %/package-lock.json %/package.json | tools
	cd $* && npm ci --omit=dev
	@touch $@

# install brings the packages of those commands that are not there yet; when all
# are, it is silent and quick. Packages of servers would start them: a policy-rc.d
# that refuses, where there is none, keeps them from it.
define install
	missing=(); \
	for tool in $(1); do command -v "$${tool%%:*}" >/dev/null || missing+=("$${tool##*:}"); done; \
	if [ $${#missing[@]} -gt 0 ]; then \
	  echo "installing from Debian: $${missing[*]}"; \
	  policy=/usr/sbin/policy-rc.d; \
	  if [ ! -e $$policy ]; then trap 'rm -f $$policy' EXIT; printf '#!/bin/sh\nexit 101\n' >$$policy; chmod +x $$policy; fi; \
	  apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "$${missing[@]}"; \
	fi
endef
