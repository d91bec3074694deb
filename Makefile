# Every command that a person or CI runs. `make up` on a fresh machine sets up everything and ends with a verified node.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.PHONY: help up down image image-debug image-simulated image-simulated-tdx nacre bin completions man install setup lock lint clean test test-fast test-full test-faults test-cluster test-build test-unit test-integration test-boot bench targets fuzz fuzz-build test-fuzz disk-guest

help:
	@echo 'make up         everything: dependencies, image, local node booted and verified'
	@echo 'make test       the tests, real boots included'
	@echo 'make image      the node image (build/image); image-debug: with a root shell on the serial console'
	@echo 'make image-simulated  for tests: with a simulated SEV-SNP that proves nothing;  image-simulated-tdx: TDX'
	@echo '                KUBERNETES=1.20.2: exactly that version inside (docs/kubernetes.md)'
	@echo 'make nacre      the command line (build/bin/nacre);  make completions man: what goes with it'
	@echo 'make install    all three below DESTDIR and PREFIX (/usr/local)'
	@echo 'make test-fast  the tests that boot no image;  make test-full: with all the mutations'
	@echo 'make test-boot  the long boot tests on both profiles, and everything built twice and compared'
	@echo 'make test-faults  nodes and state disks under attacks and power cuts (CUTS=N, NODE_CUTS=N, SEED=N)'
	@echo 'make test-cluster  a control plane and a worker until both are Ready, pods on them, a restart (about 20 minutes)'
	@echo 'make fuzz       a million runs per family of parsers (FUZZ_RUNS=N, FUZZ_TARGETS="snp-report …")'
	@echo 'make bench      verification against raw OpenSSL and dcap-qvl, key releases;  make targets: sizes, build and boot times'
	@echo 'make lock       pin the packages of today;  make lint, make down, make clean'

# Reproducible: no checkout path, no build id, no module hashes; the same bytes from any directory.
SWIFT_RELEASE = swift build -c release --static-swift-stdlib -Xlinker -s \
	-Xswiftc -file-prefix-map -Xswiftc $(CURDIR)=/src -Xcc -ffile-prefix-map=$(CURDIR)=/src
STRIP_VARIANT = objcopy -R .swift_modhash -R .note.gnu.build-id
REVISION := $(shell git rev-parse HEAD 2>/dev/null || echo unknown)
SWIFT_VERSION := $(shell swift --version 2>/dev/null | sed -n 's/.*Swift version \([^ ]*\).*/\1/p' | head -n 1)

setup:
	tools/setup

bin: nacre build/bin/bootstrapper build/bin/verity-init build/bin/pause

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
build/bin/simulated-tee: $(SOURCES)
	$(call product,simulated-tee,.build-release)
nacre: build/bin/nacre

# Process 1 of pods: no library, so the compiler that comes with Swift is all that shapes it.
CLANG = $(dir $(shell command -v swift))clang
build/bin/pause: Sources/pause/pause.c
	@mkdir -p build/bin
	$(CLANG) --target=x86_64-unknown-linux-gnu -O2 -Wall -Wextra -Werror -ffreestanding -fno-stack-protector \
		-fno-asynchronous-unwind-tables -nostdlib -static -fuse-ld=lld -Wl,-s -Wl,--build-id=none -o build/bin/.pause.partial $<
	objcopy -R .comment build/bin/.pause.partial
	mv -f build/bin/.pause.partial $@

# Both from the parser itself, so that they say what the program does.
completions: build/bin/nacre
	@mkdir -p build/completions
	for shell in bash zsh fish; do build/bin/nacre --generate-completion-script $$shell >build/completions/nacre.$$shell; done

man: build/bin/nacre
	@rm -rf build/man
	tools/man build/bin/nacre build/man

PREFIX ?= /usr/local
SHARE = $(DESTDIR)$(PREFIX)/share
install: nacre completions man
	install -Dm755 build/bin/nacre $(DESTDIR)$(PREFIX)/bin/nacre
	install -Dm644 build/completions/nacre.bash $(SHARE)/bash-completion/completions/nacre
	install -Dm644 build/completions/nacre.zsh $(SHARE)/zsh/site-functions/_nacre
	install -Dm644 build/completions/nacre.fish $(SHARE)/fish/vendor_completions.d/nacre.fish
	install -Dm644 -t $(SHARE)/man/man1 build/man/*.1

signing/development.key: | build/bin/nacre
	@mkdir -p $(@D)
	build/bin/nacre manifest keygen --out $@

BUILD_IMAGE = build/bin/nacre image build --configuration mkosi --binaries build/bin --key signing/development.key \
	--revision $(REVISION) --tool swift=$(SWIFT_VERSION) $(addprefix --kubernetes ,$(KUBERNETES))

image: bin signing/development.key
	$(BUILD_IMAGE) --out build/image

image-debug: bin signing/development.key
	$(BUILD_IMAGE) --profile debug --out build/image-debug

# Keys of its own, thrown away with build/. What it claims to be launched as is what the manifest publishes of the pinned
# firmware, which the production image comes with.
build/simulated/keys: | build/bin/simulated-tee
	@mkdir -p $(@D)
	rm -rf $@.partial
	build/bin/simulated-tee keygen --out $@.partial
	mv $@.partial $@

SIMULATED_FIRMWARE = build/image/firmware/OVMF.fd
SIMULATED_VCPUS = 1

# $(1): provider; $(2): directory of the image.
define simulated
	rm -rf build/simulated/tree
	mkdir -p build/simulated/tree/usr/lib/nacre
	cp -a build/simulated/keys build/simulated/tree/usr/lib/nacre/simulated
	cp build/bin/simulated-tee build/simulated/tree/usr/lib/nacre/simulated/simulated-tee
	tools/simulated-options $(1) $(SIMULATED_FIRMWARE) $(SIMULATED_VCPUS) \
		> build/simulated/tree/usr/lib/nacre/simulated/options
	$(BUILD_IMAGE) --profile simulated --extra-tree build/simulated/tree --firmware $(SIMULATED_FIRMWARE) \
		--vcpus $(SIMULATED_VCPUS) --out $(2)
endef

image-simulated: bin build/bin/simulated-tee build/simulated/keys signing/development.key $(SIMULATED_FIRMWARE)
	$(call simulated,sev_guest,build/image-simulated)

image-simulated-tdx: bin build/bin/simulated-tee build/simulated/keys signing/development.key $(SIMULATED_FIRMWARE)
	$(call simulated,tdx_guest,build/image-simulated-tdx)

$(SIMULATED_FIRMWARE):
	$(MAKE) image

up: setup
	$(MAKE) image
	build/bin/nacre up --dir cluster --image build/image/nacre.raw --manifest build/image/manifest.json \
		--bundle build/image/manifest.json.sigstore.json --trust-root signing/development.key.trustroot.json

down:
	build/bin/nacre down --dir cluster

# The long cases too, on both profiles; nothing may be skipped. Then everything is built twice and compared.
test-boot: image image-debug image-simulated image-simulated-tdx
	NACRE_BOOT=all NACRE_REQUIRE_BOOT=1 swift test --filter '^IntegrationTests\.'
	tools/test-reproducible

# Nodes and their disks under attacks and power cuts (CUTS=N of the disk alone, on the built image's kernel in machines of
# their own; NODE_CUTS=N of whole nodes; SEED=N), other images and a cluster with the simulated TEE. More than an hour.
CUTS ?= 60
NODE_CUTS ?= 50
SEED ?= 1
FAULTS = StateDiskTests|NodeCutTests|OtherImageTests|RejoinTests|SimulatedNodeTests
test-faults: test-build image image-debug image-simulated disk-guest
	NACRE_REQUIRE_BOOT=1 NACRE_CUTS=$(CUTS) NACRE_NODE_CUTS=$(NODE_CUTS) NACRE_SEED=$(SEED) $(STAGE) faults \
		tools/swift-test --skip-build --filter '^$(INTEGRATION)\.$(INTEGRATION)/($(FAULTS))'

# Process 1 of those machines; no image holds it.
disk-guest:
	$(SWIFT_RELEASE) --scratch-path .build-release --product state-disk-test

lock: nacre
	build/bin/nacre image lock

lint:
	swift format lint --strict -r Sources Tests Package.swift

# The tests, one stage after the other; tools/stage prints what each took. The integration tests are those that boot an
# image: the other stages leave them out, as they would without one.
STAGE = tools/stage
INTEGRATION = IntegrationTests

test-build:
	$(STAGE) setup tools/setup
	$(STAGE) lint $(MAKE) --no-print-directory lint
	$(STAGE) venv tools/venv
	$(STAGE) build swift build --build-tests

test-unit:
	$(STAGE) unit tools/swift-test --skip-build --skip '^$(INTEGRATION)\.'

test-fast: test-build
	@$(MAKE) --no-print-directory test-unit

test-integration:
	@if [ -d Tests/$(INTEGRATION) ]; then \
		NACRE_REQUIRE_BOOT=1 NACRE_IMAGE=$(CURDIR)/build/image NACRE=$(CURDIR)/build/bin/nacre \
			$(STAGE) integration tools/swift-test --skip-build --filter '^$(INTEGRATION)\.'; \
	else echo 'test: no Tests/$(INTEGRATION): nothing was booted'; fi

# The image comes before the unit tests too: its tools tree holds programs that golden tests compare with.
test: test-build
	@$(STAGE) image $(MAKE) --no-print-directory image
	@$(STAGE) disk-guest $(MAKE) --no-print-directory disk-guest
	@$(MAKE) --no-print-directory test-unit
	@$(MAKE) --no-print-directory test-fuzz
	@$(MAKE) --no-print-directory test-integration

test-full: export NACRE_MUTATIONS = full
test-full: test

VECTORS = $(if $(NACRE_VECTORS),$(NACRE_VECTORS),../shared/vectors)
bench:
	$(SWIFT_RELEASE) --scratch-path .build-release --product nacre-bench
	@tools/venv
	.build-release/release/nacre-bench snp-warm
	.build-release/release/nacre-bench channel
	@loader=$$(tools/image-libraries) && if [ -n "$$loader" ]; then \
		echo "$$loader .build-release/release/nacre-bench channel"; $$loader .build-release/release/nacre-bench channel; \
	else echo 'bench: skipped: key releases with the image'"'"'s OpenSSL need its packages (make image)'; fi
	.build-release/release/nacre-bench enrol
	@if [ -f build/venv/nacre-requirements ] && [ -d $(VECTORS)/tdx ]; then \
		NACRE_VENV=$(CURDIR)/build/venv .build-release/release/nacre-bench tdx --at 2026-08-20T00:00:00Z \
			--quote $(VECTORS)/tdx/quotes/v4-phala.bin --collateral $(VECTORS)/tdx/collateral/b0c06f-2026-08.json; \
	else echo 'bench: skipped: the TDX benchmark needs dcap-qvl in build/venv and shared/vectors'; fi

# libFuzzer over every parser of outside data. Each allocation is looked at on its way to malloc (Tests/Fuzzing).
FUZZ_RUNS ?= 1000000
FUZZ_TARGETS ?=
fuzz-build:
	NACRE_FUZZING=1 swift build -c release --static-swift-stdlib --scratch-path .build-fuzz --product nacre-fuzz \
		-Xswiftc -sanitize=fuzzer -Xswiftc -parse-as-library -Xswiftc -enable-testing -Xlinker --wrap=malloc

fuzz: fuzz-build
	tools/fuzz $(FUZZ_RUNS) 0 $(FUZZ_TARGETS)

# What CI runs: every target for a second or two, after a build that takes minutes only the first time.
test-fuzz:
	$(STAGE) fuzz-build $(MAKE) --no-print-directory fuzz-build
	$(STAGE) fuzz tools/fuzz 20000 2

# Against their yardsticks (a stock mkosi image, plain mkosi, openssl): docs/targets.md states the results.
targets: image
	tools/targets

clean:
	rm -rf build .build-release .build-init .build-fuzz .build

# Real nodes of Kubernetes under emulation: too long for CI.
test-cluster: test-build image
	NACRE_REQUIRE_BOOT=1 NACRE_CLUSTER=1 NACRE_IMAGE=$(CURDIR)/build/image NACRE=$(CURDIR)/build/bin/nacre \
		$(STAGE) cluster tools/swift-test --skip-build --filter '^$(INTEGRATION)\..*KubernetesTests'
