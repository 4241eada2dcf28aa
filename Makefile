# Builds, runs and tests Mezzanine; bare `make` explains the targets.
#
# Each target does the set-up that it needs first. What set-up did is remembered in target/setup and what it
# fetched in target/guests/cache, so that it happens once.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.SUFFIXES:
MAKEFLAGS += --no-print-directory --no-builtin-rules
# Everything is left in target/, where the tests and this file look for it.
unexport CARGO_TARGET_DIR CARGO_BUILD_TARGET_DIR
export CARGO_NET_RETRY ?= 5

BOARD ?= qemu-virt
ARGS ?=
IMAGE_LIMIT := 430080 # bytes, 420 KiB

SETUP := tests/setup
COMMON := $(SETUP)/common.sh
HOST := target/setup/host
RUST := target/setup/rust.env
QEMU := target/setup/qemu
LINT := target/setup/lint
KERNEL := target/guests/debian-6.1/Image
INITRD := target/guests/initrd.gz
INITRD_FILES := $(shell find tests/linux/root -type f)
MODULES := target/guests/debian-6.1/modules
BUILT := target/aarch64-unknown-none-softfloat/release/mezzanine

.PHONY: help image mezz guests kernels run test test-all check bench soak fuzz fuzz-short clean FORCE

help:
	@echo "Mezzanine, a type-1 hypervisor for 64-bit Arm."
	@echo
	@echo "  make run        two stock Debian Linux guests on this terminal, Ctrl-G 1 and 2 (BOARD=$(BOARD), ARGS='--cpu max ...')"
	@echo "  make image      the hypervisor: target/mezzanine.img, and target/mezzanine.elf with its symbols"
	@echo "  make mezz       the host tool: target/mezz"
	@echo "  make guests     what guests are made of: target/guests/ (Debian kernel, initrd, micro guests)"
	@echo "  make kernels    further Debian kernels that the tests boot: 6.12, cloud, real-time, 16 KiB pages; U-Boot (300 MB, once)"
	@echo "  make test       all tests: the host's, micro guests and stock Debian in QEMU"
	@echo "  make test-all   those and longer ones: every kernel on every CPU model, many repeats (an hour or two)"
	@echo "  make check      format, lints as errors, the image's size, the documentation"
	@echo "  make bench      instructions at EL2 per exit and for a whole boot, by a QEMU plugin"
	@echo "  make soak       the SMP stress 200 times in a row on four CPUs, both GICs (SOAK=$(SOAK))"
	@echo "  make fuzz-short every parser and device that takes foreign input, fuzzed for 5 minutes each; make fuzz: for an hour each"
	@echo "  make clean      removes what was built; keeps what set-up fetched"
	@echo
	@echo "Each does the set-up that it needs first, once: Debian packages (as root or by sudo), the Rust target, the"
	@echo "guests' kernels. docs/building.md says what that is, and how to do it by hand."

# --- Set-up ---------------------------------------------------------------------------------------------------

$(HOST): $(SETUP)/host.sh | target/setup
	@$<
	@touch $@

$(RUST): $(SETUP)/rust.sh | $(HOST)
	@$<
	@touch $@

$(QEMU): $(SETUP)/qemu.sh | $(HOST)
	@$<
	@touch $@

$(LINT): $(SETUP)/lint.sh | $(HOST) $(RUST)
	@$<
	@touch $@

# Three files of one script: the others wait for the first.
$(KERNEL): | $(HOST)
	@$(SETUP)/guest.sh
target/guests/cache/busybox $(MODULES): | $(KERNEL)
	@$(SETUP)/guest.sh

# What cannot be had is noted there, and skipped by name in the tests; so there is no file to depend on.
kernels: target/guests/cache/busybox | $(HOST)
	@$(SETUP)/kernels.sh
	@$(SETUP)/initrd.sh kernels
	@$(SETUP)/u-boot.sh

target/setup:
	@mkdir -p $@

# --- Building -------------------------------------------------------------------------------------------------

image: target/mezzanine.img

# cargo knows what changed; the copies are made only then.
target/mezzanine.elf: FORCE | $(HOST) $(RUST)
	@$(SETUP)/metal build --release --bin mezzanine
	@cmp -s $(BUILT) $@ || cp $(BUILT) $@

# The host's own objcopy does: it need not know the architecture to copy segments. It comes with the linker that
# any Rust toolchain uses.
target/mezzanine.img: target/mezzanine.elf
	@objcopy -I elf64-little -O binary $< $@.tmp
	@mv $@.tmp $@
	@echo "== target/mezzanine.img: $$(wc -c <$@) bytes"

# The dev profile: the same crates as `cargo test` builds, and the tool's speed matters to nobody.
mezz: FORCE | $(HOST)
	@cargo build --bin mezz
	@cmp -s target/debug/mezz target/mezz || { cp target/debug/mezz target/mezz.tmp && mv target/mezz.tmp target/mezz; }

guests: $(KERNEL) $(KERNEL).gz $(INITRD) micro-guests

$(KERNEL).gz: $(KERNEL)
	@echo "== packing the kernel (gzip)"
	@gzip -n -6 <$< >$@.tmp
	@mv $@.tmp $@

$(INITRD): $(SETUP)/initrd.sh $(INITRD_FILES) $(MODULES) target/guests/cache/busybox | $(HOST)
	@$<
	@echo "== $@: $$(wc -c <$@) bytes"

.PHONY: micro-guests
micro-guests: FORCE | $(RUST)
	@$(SETUP)/metal --run tests/guests/build.sh

# --- Running and testing --------------------------------------------------------------------------------------

run: image mezz guests $(QEMU)
	@target/mezz run boards/$(BOARD)/demo.toml $(ARGS)

test: image mezz guests kernels target/bench/libexits.so $(QEMU)
	@$(SETUP)/test.sh

test-all: image mezz guests kernels target/bench/libexits.so $(QEMU)
	@MEZZ_LONG=1 $(SETUP)/test.sh

check: $(LINT) image
	@$(SETUP)/check.sh $(IMAGE_LIMIT)

# The dev profile: the same crates as `cargo test` builds; the bench waits for QEMU.
bench: image mezz guests target/bench/libexits.so $(QEMU)
	@cargo bench --profile dev --bench exits -- $(ARGS)

# By outcome alone; the first failure ends it, and its transcript stays in target/soak.
SOAK ?= 200
soak: image mezz micro-guests $(QEMU)
	@SOAK=$(SOAK) $(SETUP)/soak.sh

# Seconds for each target; TARGETS are all, or those named.
fuzz-short: SECONDS = 300
fuzz: SECONDS ?= 3600
fuzz fuzz-short: | $(HOST)
	@tests/fuzz/run.sh $(SECONDS) $(TARGETS)

target/bench/libexits.so: $(wildcard tests/bench/*.c tests/bench/*.h) | $(HOST)
	@mkdir -p $(@D)
	@cc -std=c11 -O2 -Wall -Wextra -shared -fPIC -fvisibility=hidden -o $@ $(filter %.c,$^)

clean:
	@find target -mindepth 1 -maxdepth 1 ! -name guests ! -name setup -exec rm -rf {} + 2>/dev/null || true
	@rm -rf target/guests/micro target/guests/boots tests/guests/target $(INITRD) $(KERNEL).gz
	@echo "== kept what set-up fetched; 'rm -rf target' drops that too"
