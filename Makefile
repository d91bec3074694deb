# Every command that a person or CI runs. `make up` on a fresh machine sets up everything and ends with a verified node.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.PHONY: help up test image image-debug nacre bin setup lint bench test-boot test-fast fuzz clean lock down

help:
	@echo 'make up         everything: dependencies, image, local node booted and verified'
	@echo 'make test       the tests, real boots included'
	@echo 'make image      the node image (build/image); image-debug: with a root shell on the serial console'
	@echo 'make nacre      the command line (build/bin/nacre)'
	@echo 'make test-fast  the tests that need no image;  make test-boot: the long boot tests'
	@echo 'make lock       pin the packages of today;  make bench, make fuzz, make lint, make down, make clean'

# Reproducible: no checkout path, no build id, no module hashes; the same bytes from any directory.
SWIFT_RELEASE = swift build -c release --static-swift-stdlib -Xlinker -s \
	-Xswiftc -file-prefix-map -Xswiftc $(CURDIR)=/src -Xcc -ffile-prefix-map=$(CURDIR)=/src
STRIP_VARIANT = objcopy -R .swift_modhash -R .note.gnu.build-id
REVISION := $(shell git rev-parse HEAD 2>/dev/null || echo unknown)
SWIFT_VERSION := $(shell swift --version 2>/dev/null | sed -n 's/.*Swift version \([^ ]*\).*/\1/p' | head -n 1)

setup:
	tools/setup

bin: nacre build/bin/bootstrapper build/bin/verity-init

SOURCES := $(shell find Sources -type f) Package.swift

# Written beside, then renamed: a killed build leaves no half-written program.
define product
	@mkdir -p build/bin
	$(SWIFT_RELEASE) --scratch-path $(2) --product $(1) $(3)
	$(STRIP_VARIANT) $(2)/release/$(1) build/bin/.$(1).partial
	mv -f build/bin/.$(1).partial build/bin/$(1)
endef

build/bin/nacre: $(SOURCES)
	$(call product,nacre,.build-release)
build/bin/bootstrapper: $(SOURCES)
	$(call product,bootstrapper,.build-release,-Xlinker --no-export-dynamic)
build/bin/verity-init: $(SOURCES)
	$(call product,verity-init,.build-init,-Xswiftc -static-executable)
nacre: build/bin/nacre

signing/development.key: | build/bin/nacre
	@mkdir -p $(@D)
	build/bin/nacre manifest keygen --out $@

BUILD_IMAGE = build/bin/nacre image build --configuration mkosi --binaries build/bin --key signing/development.key \
	--revision $(REVISION) --tool swift=$(SWIFT_VERSION)

image: bin signing/development.key
	$(BUILD_IMAGE) --out build/image

image-debug: bin signing/development.key
	$(BUILD_IMAGE) --profile debug --out build/image-debug

up: setup
	$(MAKE) image
	build/bin/nacre up --dir cluster

down:
	build/bin/nacre down --dir cluster

# The long cases too, on both profiles; nothing may be skipped. Then everything is built twice and compared.
test-boot: image image-debug
	NACRE_BOOT=all NACRE_REQUIRE_BOOT=1 swift test --filter '^IntegrationTests\.'
	tools/test-reproducible

lock: nacre
	build/bin/nacre image lock

lint:
	swift format lint --strict -r Sources Tests Package.swift

clean:
	rm -rf build .build-release .build-init .build
