# SPDX-License-Identifier: MIT OR Apache-2.0
#
# make                    the libraries and mmu-notifier-trace, in build
# make demo               the main job: examples/mirror.c against a staged install (BROKEN=set_seq|retry|keep seeds a mistake; TIME=
#                         seconds)
# make install            DESTDIR= PREFIX= (or prefix=), bindir=, libdir=, includedir=, mandir=, docdir=
# make uninstall          removes exactly that
# make stage              an install below build/stage, which tests, examples and the demo use
# make python             the Python package, in the virtual environment build/venv
# make clean
#
# make test               every test; CONTRIBUTING.md says more
# make test-PART          one part of them; the parts are listed below
# make models             every model of the concurrency protocols in its full form
# make bite               seeded mistakes: each part of the tests finds its own (PART= one part)
# make models-bite        seeded mistakes: each model finds its own (models/README.md)
# make live-table         which ways to change a mapping live events notice, beside UCX (docs/live.md)
# make tools              installs compilers and checkers that the tests use
#
# make bench              the benchmark beside its peers (docs/performance.md), into build/bench; QUICK=1 takes a minute; ONLY= one part
# make bench-gate         fails where a ratio misses its target by half
# make bench-document     rewrites the measured part of docs/performance.md
#
# What is generated and committed, made anew:
# make headers                what cbindgen generates: headers in include/mmu_notifier, c-tests/test_layout_*.c
# make rules                  docs/rules.md: where each rule of the specification is in the code and in the tests
# make abi-baseline           the public ABI that `make test-abi-guard` compares with
# make instructions-baseline  the instructions that `make test-instructions` compares with
# make python-requirements    the pinned versions of what the tests of the Python package need
#
# KERNEL=6.12 makes mmu_notifier.pc offer that kernel's interface by default; mmu_notifier-6.12.pc and its like are always installed,
# one for each interface. GNU variables are honoured: CC CFLAGS LDFLAGS LD AR OBJCOPY CARGO CARGOFLAGS INSTALL.

VERSION   := $(shell sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
# The number of the binary interface, in the SONAME: it changes only when the interface breaks.
SOVERSION := 0

# `PREFIX=` alone is no prefix, not the root directory.
prefix     ?= $(or $(PREFIX),/usr/local)
exec_prefix ?= $(prefix)
bindir     ?= $(exec_prefix)/bin
libdir     ?= $(exec_prefix)/lib
includedir ?= $(prefix)/include
mandir     ?= $(prefix)/share/man
docdir     ?= $(prefix)/share/doc/mmu_notifier

# A name with blanks would be taken for several; a relative one would be wrong in the pkg-config files.
DIRECTORIES := prefix exec_prefix bindir libdir includedir mandir docdir
$(foreach name,CURDIR DESTDIR $(DIRECTORIES),\
	$(if $(filter-out 0 1,$(words $($(name)))),$(error $(name) must not have blanks: "$($(name))")))
$(foreach name,$(DIRECTORIES),\
	$(if $(filter /%,$($(name))),,$(error $(name) must be an absolute path: "$($(name))")))

# The kernel whose interface mmu_notifier.pc offers; nothing: the headers' default, 6.6.
KERNEL  ?=
# One kernel of each interface (docs/porting.md).
KERNELS := 5.14 6.1 6.3 6.6 6.10 6.12 7.1

CARGO   ?= cargo
INSTALL ?= install
OBJCOPY ?= objcopy
export CC LD AR OBJCOPY LDFLAGS

BUILD   := build
STAGE   := $(CURDIR)/$(BUILD)/stage
STAGED  := PKG_CONFIG_PATH=$(STAGE)/lib/pkgconfig
ARCHIVE := target/capi/libmmu_notifier_ffi.a
HEADERS := $(shell cd include && find . -name '*.h' | sed 's|^\./||' | sort)
LIBRARIES := libmmu_notifier.so.$(VERSION) libmmu_notifier.so.$(SOVERSION) libmmu_notifier.so libmmu_notifier.a \
	libmmu_notifier_debug.so
LICENCES := LICENSE-MIT LICENSE-APACHE

.PHONY: all
all: $(BUILD)/lib/libmmu_notifier.a $(BUILD)/lib/libmmu_notifier_debug.so tools-built

# cargo knows what is out of date; link.sh runs when cargo has made a new archive. Only the archive: with the rlib beside it,
# cargo would leave out the optimisation across crates.
.PHONY: archive
archive:
	$(CARGO) rustc --locked --profile capi -p mmu-notifier-ffi --lib --crate-type staticlib $(CARGOFLAGS)

$(ARCHIVE): archive ;

$(BUILD)/lib/libmmu_notifier.a: $(ARCHIVE) ffi/mmu_notifier.map scripts/link.sh
	sh scripts/link.sh $(ARCHIVE) ffi/mmu_notifier.map $(BUILD)/lib $(VERSION) $(SOVERSION)

# mmu-notifier-trace and what it preloads. Both depend on where they are installed.
TOOL_FLAGS = -std=gnu11 -O2 -g -Wall -Wextra -Iinclude $(CFLAGS)
TRACE := libmmu_notifier_trace.so
.PHONY: tools-built
tools-built: $(BUILD)/lib/libmmu_notifier.a
	@mkdir -p $(BUILD)/bin
	$(or $(CC),cc) $(TOOL_FLAGS) -DLIBDIR='"$(libdir)"' tools/mmu-notifier-trace.c -o $(BUILD)/bin/mmu-notifier-trace $(LDFLAGS)
	$(or $(CC),cc) $(TOOL_FLAGS) -fPIC -fvisibility=hidden -shared tools/trace.c -o $(BUILD)/lib/$(TRACE) -L$(BUILD)/lib \
		-lmmu_notifier -Wl,-rpath,'$$ORIGIN' $(LDFLAGS)

# To be preloaded. It finds the library beside itself.
$(BUILD)/lib/libmmu_notifier_debug.so: tools/debug.c $(BUILD)/lib/libmmu_notifier.a
	$(or $(CC),cc) -shared -fPIC -std=gnu11 -O2 -g -Wall -Wextra -Werror -Iinclude tools/debug.c -o $@ \
		$(BUILD)/lib/libmmu_notifier.so.$(SOVERSION) -Wl,-soname,libmmu_notifier_debug.so -Wl,-rpath,'$$ORIGIN' \
		-Wl,-z,defs -Wl,-z,now -Wl,-z,relro -Wl,-z,nodelete -Wl,-z,noexecstack $(LDFLAGS) -ldl -lpthread

# 6.12 -> 0x060c00
hex = $(shell echo '$(1)' | awk -F. '{ printf "0x%02x%02x%02x", $$1, $$2, $$3 }')

# pc NAME,KERNEL: a pkg-config file; with a KERNEL, one that says so to the compiler
define pc
sed -e 's|@PREFIX@|$(prefix)|' -e 's|@EXEC_PREFIX@|$(exec_prefix)|' -e 's|@LIBDIR@|$(libdir)|' \
    -e 's|@INCLUDEDIR@|$(includedir)|' -e 's|@VERSION@|$(VERSION)|' -e 's|@NAME@|$(1)|' \
    -e 's|@FOR@|$(if $(2),$(comma) as in Linux $(2))|' \
    -e 's|@KERNEL@|$(if $(2), -DMMU_NOTIFIER_KERNEL=$(call hex,$(2)))|' pkgconfig/mmu_notifier.pc.in \
    >$(DESTDIR)$(libdir)/pkgconfig/$(1).pc
endef
comma := ,

# What can be made: the top of this file, and the parts of the tests.
.PHONY: help
help:
	@sed -n '/^# make /,/^$$/s/^# \{0,1\}//p' Makefile
	@echo; echo 'Parts of the tests:'
	@bash scripts/test.sh --list

# ---------------------------------------------------------------------------------------------------------- install

.PHONY: install
install: all
	$(INSTALL) -d $(DESTDIR)$(libdir)/pkgconfig $(DESTDIR)$(docdir) $(DESTDIR)$(bindir) \
		$(addprefix $(DESTDIR)$(includedir)/mmu_notifier/,$(sort $(dir $(HEADERS))))
	$(INSTALL) -m 644 $(BUILD)/lib/libmmu_notifier.a $(DESTDIR)$(libdir)/
	$(INSTALL) -m 755 $(BUILD)/lib/libmmu_notifier.so.$(VERSION) $(DESTDIR)$(libdir)/
	$(INSTALL) -m 755 $(BUILD)/lib/$(TRACE) $(DESTDIR)$(libdir)/
	$(INSTALL) -m 755 $(BUILD)/bin/mmu-notifier-trace $(DESTDIR)$(bindir)/
	$(INSTALL) -m 755 $(BUILD)/lib/libmmu_notifier_debug.so $(DESTDIR)$(libdir)/
	ln -sf libmmu_notifier.so.$(VERSION) $(DESTDIR)$(libdir)/libmmu_notifier.so.$(SOVERSION)
	ln -sf libmmu_notifier.so.$(SOVERSION) $(DESTDIR)$(libdir)/libmmu_notifier.so
	$(call pc,mmu_notifier,$(KERNEL))
	$(foreach kernel,$(KERNELS),$(call pc,mmu_notifier-$(kernel),$(kernel)) &&) true
	for h in $(HEADERS); do $(INSTALL) -m 644 include/$$h $(DESTDIR)$(includedir)/mmu_notifier/$$h || exit 1; done
	$(INSTALL) -m 644 $(LICENCES) docs/porting.md $(DESTDIR)$(docdir)/
	INSTALL='$(INSTALL)' sh man/install.sh $(DESTDIR)$(mandir)

.PHONY: uninstall
uninstall:
	rm -f $(addprefix $(DESTDIR)$(libdir)/,$(LIBRARIES) $(TRACE)) $(DESTDIR)$(libdir)/pkgconfig/mmu_notifier.pc
	rm -f $(DESTDIR)$(bindir)/mmu-notifier-trace
	rm -f $(KERNELS:%=$(DESTDIR)$(libdir)/pkgconfig/mmu_notifier-%.pc)
	rm -f $(addprefix $(DESTDIR)$(includedir)/mmu_notifier/,$(HEADERS)) $(addprefix $(DESTDIR)$(docdir)/,$(LICENCES) porting.md)
	sh man/install.sh -u $(DESTDIR)$(mandir)
	for d in $(shell printf '%s\n' $(sort $(dir $(HEADERS))) | sort -r) ../mmu_notifier; do \
		rmdir $(DESTDIR)$(includedir)/mmu_notifier/$$d 2>/dev/null; done; \
	rmdir $(DESTDIR)$(docdir) 2>/dev/null; true

# What tests, examples and the demo use.
.PHONY: stage
stage:
	@rm -rf $(STAGE)
	@$(MAKE) --no-print-directory install DESTDIR= PREFIX=$(STAGE) prefix=$(STAGE) exec_prefix=$(STAGE) \
		bindir=$(STAGE)/bin libdir=$(STAGE)/lib includedir=$(STAGE)/include mandir=$(STAGE)/share/man docdir=$(STAGE)/share/doc >$(BUILD)/stage.log 2>&1 || \
		{ cat $(BUILD)/stage.log; exit 1; }

$(BUILD):
	@mkdir -p $@

stage: | $(BUILD)

# ------------------------------------------------------------------------------------------------------------- demo

BROKEN ?=
TIME ?= 12
DEMO_FLAGS = -std=gnu11 -O2 -g -Wall -Wextra

.PHONY: demo
demo: stage
	$(STAGED) sh -c '$(or $(CC),cc) $(DEMO_FLAGS) examples/mirror.c -o $(BUILD)/mirror \
		$$(pkg-config --cflags --libs mmu_notifier) -Wl,-rpath,$$(pkg-config --variable=libdir mmu_notifier)'
	$(BUILD)/mirror -t $(TIME) $(if $(BROKEN),--broken=$(BROKEN))

# ------------------------------------------------------------------------------------------------------------- test

.PHONY: test
test: tools
	bash scripts/test.sh

.PHONY: test-%
test-%: tools
	bash scripts/test.sh $*

# The concurrency protocols under loom: every model in its full form; and every mistake that a model must find.
.PHONY: models
models:
	bash models/run.sh --full

.PHONY: models-bite
models-bite:
	python3 models/bite.py

# Each way to lose or to change a mapping: is it noticed before and after, and is the caller held?
.PHONY: live-table
live-table: tools stage
	$(STAGED) bash c-tests/live/run.sh table

# Compilers and checkers that the tests use; installs what is missing.
.PHONY: tools
tools:
	sh scripts/tools.sh

# ----------------------------------------------------------------------------------------------------------- python

.PHONY: python
python: | $(BUILD)
	sh python/venv.sh $(CURDIR)/$(BUILD)/venv

# Pins what the tests of the package need to what is current.
.PHONY: python-requirements
python-requirements: | $(BUILD)
	rm -rf $(BUILD)/python-requirements && python3 -m venv $(BUILD)/python-requirements
	$(BUILD)/python-requirements/bin/pip install --quiet --requirement python/tests/requirements.in
	$(BUILD)/python-requirements/bin/pip freeze >python/tests/requirements.txt

# ------------------------------------------------------------------------------------------------------------ bench

QUICK ?=
ONLY ?=
BENCH = bash benches/run.sh $(if $(QUICK),--quick) $(if $(ONLY),--only=$(ONLY))

.PHONY: bench
# ONLY=python: callbacks through Python, by a script of their own.
bench: tools stage $(if $(filter-out python,$(ONLY)),,python)
	$(if $(filter python,$(ONLY)),,$(BENCH))
	$(if $(filter-out python,$(ONLY)),,bash benches/python.sh)

.PHONY: bench-gate
bench-gate: tools stage
	$(BENCH) --gate

.PHONY: bench-document
bench-document: tools stage
	$(BENCH) --document

# What `make test-instructions` compares with.
.PHONY: instructions-baseline
instructions-baseline: tools stage
	$(STAGED) bash benches/instructions/check.sh --rewrite
# Takes over the public ABI as it is now; `make test-abi-guard` compares with it.
.PHONY: abi-baseline
abi-baseline: tools stage
	bash c-tests/abi/guard.sh --update

# The mistakes of scripts/bite.txt, one after the other, in a copy: shows that each check can fail. PART= one part's.
.PHONY: bite
bite: tools
	python3 scripts/bite.py $(PART)

.PHONY: headers
headers:
	UPDATE_EXPECT=1 $(CARGO) test --locked -q -p mmu-notifier-ffi --test headers

.PHONY: rules
rules:
	UPDATE_EXPECT=1 $(CARGO) test --locked -q -p mmu-notifier --test rules

.PHONY: clean
clean:
	rm -rf $(BUILD) python/target
	$(CARGO) clean
