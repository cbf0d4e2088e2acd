# haul: library, command, tests, benchmark harness. GNU make.
#
#   make            ./haul, libhaul.a, libhaul.so
#   make demo       install what is missing, build, and show it at work
#   make check      install what tests need, build, run them (< 15 minutes)
#   make check-long the long campaigns;  make lint;  make bench
#   make deps       install packages only (deps-check: those of the tests too)
#   make install    DESTDIR, PREFIX
#
# V=1 shows commands, SAN=address|thread builds with sanitizers, DEBUG=1 turns
# assertions on, WERROR=1 makes warnings errors, WITH_SFTP=0, WITH_HTTP=0 and
# WITH_S3=0 leave a driver out (S3 stands on HTTP).

PREFIX ?= /usr/local
BINDIR ?= $(PREFIX)/bin
LIBDIR ?= $(PREFIX)/lib
INCDIR ?= $(PREFIX)/include
MANDIR ?= $(PREFIX)/share/man

CC ?= gcc
PKG_CONFIG ?= pkg-config
WITH_SFTP ?= 1
WITH_HTTP ?= 1
WITH_S3 ?= $(WITH_HTTP)
Q := $(if $(V),,@)

VERSION := $(shell awk '/define HAUL_VERSION_(MAJOR|MINOR|PATCH)/ \
	{v = v s $$3; s = "."} END {print v}' include/haul.h)
SOVERSION := $(firstword $(subst ., ,$(VERSION)))

PKGS := liburing libxxhash sqlite3 libcrypto
ifeq ($(WITH_SFTP),1)
PKGS += libssh
FEATURES += -DHL_WITH_SFTP
endif
ifeq ($(WITH_HTTP),1)
PKGS += libcurl libssl
FEATURES += -DHL_WITH_HTTP
endif
ifeq ($(WITH_S3),1)
PKGS += libxml-2.0
FEATURES += -DHL_WITH_S3
endif

# Each warning found a real bug in code like this; -Wconversion and -Wcast-qual
# keep lengths from the wire honest.
WARN := -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wcast-qual \
	-Wformat=2 -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wundef \
	-Wswitch-enum -Wframe-larger-than=8192 -Wno-sign-conversion \
	-Wno-missing-field-initializers
ifdef WERROR
WARN += -Werror
endif
OPT := -O2 -g
HARDEN := -D_FORTIFY_SOURCE=2 -fstack-protector-strong
ifdef DEBUG
FEATURES += -DHL_DEBUG
endif
, := ,
ifdef SAN
# In instrumented code gcc sees less and warns of what cannot happen; the other
# build has told what is wrong.
WARN := -w
HARDEN :=
OPT := -O1 -g -fno-omit-frame-pointer
SANFLAGS := -fsanitize=$(if $(filter address,$(SAN)),address$(,)undefined,$(SAN))
FEATURES += -DHL_DEBUG
endif

DIRS := engine io compress verify lib
INC := -Iinclude $(addprefix -I,$(DIRS))
CFLAGS_ALL = -std=c11 -D_GNU_SOURCE $(INC) $(FEATURES) $(WARN) $(OPT) \
	$(HARDEN) $(SANFLAGS) -fvisibility=hidden -fPIC -pthread \
	$(PKG_CFLAGS) $(CPPFLAGS) $(CFLAGS)
PKG_CFLAGS = $(shell $(PKG_CONFIG) --cflags $(PKGS) 2>/dev/null)
LIBS = $(shell $(PKG_CONFIG) --libs $(PKGS) 2>/dev/null) -pthread -lm
LDFLAGS_ALL = -Wl,-z,relro,-z,now $(SANFLAGS) $(LDFLAGS)

# Objects live in a folder named after the compiler and its flags, so that a
# change of flags never mixes objects.
HASH := $(shell echo '$(CC) $(SAN) $(DEBUG) $(FEATURES) $(OPT) $(CFLAGS) \
	$(CPPFLAGS) $(LDFLAGS)' | cksum | cut -d' ' -f1)
B := build/$(HASH)

LIB_SRC := $(wildcard $(addsuffix /*.c,$(DIRS)))
ifneq ($(WITH_SFTP),1)
LEFT_OUT += sftp ssh
endif
ifneq ($(WITH_HTTP),1)
LEFT_OUT += http tus ietf ranged upload_header
endif
ifneq ($(WITH_S3),1)
LEFT_OUT += s3
endif
LIB_SRC := $(filter-out $(wildcard $(LEFT_OUT:%=io/%*.c)),$(LIB_SRC))
CLI_SRC := $(wildcard cli/*.c)
LIB_OBJ := $(LIB_SRC:%.c=$(B)/%.o)
CLI_OBJ := $(CLI_SRC:%.c=$(B)/%.o)

.DEFAULT_GOAL := all
.PHONY: all
all: haul libhaul.a libhaul.so

$(B)/%.o: %.c
	@mkdir -p $(@D)
	@$(if $(Q),echo "  CC      $<")
	$(Q)$(CC) $(CFLAGS_ALL) -MMD -MP -c -o $@ $<

$(B)/libhaul.a: $(LIB_OBJ)
	@$(if $(Q),echo "  AR      $@")
	$(Q)rm -f $@ && $(AR) rcs $@ $^

$(B)/libhaul.so.$(VERSION): $(LIB_OBJ) include/haul.map
	@$(if $(Q),echo "  LD      $@")
	$(Q)$(CC) -shared -Wl,-soname,libhaul.so.$(SOVERSION) -Wl,-z,defs \
		-Wl,--version-script,include/haul.map $(LDFLAGS_ALL) \
		-o $@ $(LIB_OBJ) $(LIBS)

$(B)/haul: $(CLI_OBJ) $(B)/libhaul.a
	@$(if $(Q),echo "  LD      $@")
	$(Q)$(CC) $(LDFLAGS_ALL) -o $@ $^ $(LIBS)

# The three results at the top are links to the newest build.
haul: $(B)/haul
	$(Q)ln -sf $< $@
libhaul.a: $(B)/libhaul.a
	$(Q)ln -sf $< $@
libhaul.so: $(B)/libhaul.so.$(VERSION)
	$(Q)ln -sf $< libhaul.so.$(SOVERSION)
	$(Q)ln -sf $< $@
.PHONY: haul libhaul.a libhaul.so

# ---- Tests: one program per tests/*/test_*.c ---------------------------------

TEST_SRC := $(wildcard tests/unit/test_*.c tests/contract/test_*.c \
	tests/sim/test_*.c)
TEST_SRC := $(filter-out $(wildcard $(LEFT_OUT:%=tests/unit/test_%*.c)), \
	$(TEST_SRC))
TEST_BIN := $(TEST_SRC:%.c=$(B)/%)
FUZZ_SRC := $(wildcard tests/fuzz/fuzz_*.c)
FUZZ_SRC := $(filter-out $(wildcard $(LEFT_OUT:%=tests/fuzz/fuzz_%*.c)), \
	$(FUZZ_SRC))
FUZZ_BIN := $(FUZZ_SRC:%.c=$(B)/%)
API_SRC := $(filter-out tests/api/header_%,$(wildcard tests/api/*.c))
API_BIN := $(API_SRC:%.c=$(B)/%)
.SECONDARY: $(TEST_BIN:%=%.o) $(FUZZ_BIN:%=%.o) $(B)/tests/fuzz/replay.o

$(B)/tests/%: $(B)/tests/%.o $(B)/libhaul.a
	@$(if $(Q),echo "  LD      $@")
	$(Q)$(CC) $(LDFLAGS_ALL) -o $@ $^ \
		$(shell $(PKG_CONFIG) --libs cmocka) $(LIBS)

# Fuzz targets replay their corpus; `make fuzz` makes them from the same files.
FUZZ_MAIN ?= $(B)/tests/fuzz/replay.o
$(B)/tests/fuzz/fuzz_%: $(B)/tests/fuzz/fuzz_%.o $(FUZZ_MAIN) $(B)/libhaul.a
	@$(if $(Q),echo "  LD      $@")
	$(Q)$(CC) $(LDFLAGS_ALL) -o $@ $^ $(LIBS)

# Users of the library: the public headers and the shared library only.
$(B)/tests/api/%: tests/api/%.c $(B)/libhaul.so.$(VERSION)
	@mkdir -p $(@D)
	@$(if $(Q),echo "  LD      $@")
	$(Q)ln -sf libhaul.so.$(VERSION) $(B)/libhaul.so.$(SOVERSION)
	$(Q)$(CC) -std=c11 -D_GNU_SOURCE -Iinclude $(OPT) $(HARDEN) \
		$(filter-out -Wframe-larger-than%,$(WARN)) $(CFLAGS) \
		$(LDFLAGS_ALL) -MMD -MP -MF $@.d -o $@ $< \
		$(B)/libhaul.so.$(VERSION) -Wl,-rpath,'$$ORIGIN/../..' -pthread

# All that tests run, without the links at the top.
.PHONY: tests programs where
tests: $(TEST_BIN)
programs: $(B)/haul $(B)/libhaul.a $(B)/libhaul.so.$(VERSION) tests \
	$(FUZZ_BIN) $(API_BIN) tools
where:
	@echo $(B)

# ---- Checks ------------------------------------------------------------------

.PHONY: deps deps-check deps-lint check check-long check-unit lint fuzz
deps:
	$(Q)tools/deps.sh build demo
deps-check:
	$(Q)tools/deps.sh build check
deps-lint:
	$(Q)tools/deps.sh lint

# As many jobs as processors unless make was told.
NPROC := $(shell nproc 2>/dev/null || echo 2)
JOBS = $(if $(filter -j% --jobserver%,$(MAKEFLAGS)),,-j$(NPROC))
SUBMAKE = $(MAKE) --no-print-directory $(JOBS)
BUILD_OF = $(shell $(MAKE) -s --no-print-directory SAN=$(1) where)
RUN = python3 tests/run.py -j $(NPROC)

LINT := $(addprefix tests/lint/,includes.py lengths.py banned.py private.py)
LINT_TOOLS := $(addprefix tests/lint/,format.sh shell.sh spelling.sh \
	static.sh)
API := tests/api/headers.sh tests/api/abi.sh tests/api/install.sh
E2E := $(wildcard tests/e2e/test_*.py tests/crash/test_*.py tests/crash/*.sh)

# What also runs with sanitizers: everything in C, and some of the end-to-end
# tests that take every way a byte can go.
SAN_E2E := tests/e2e/test_copy.py@pipe+interrupt+manifest+already \
	tests/e2e/test_resume.py@resets+sessions \
	tests/e2e/test_http_get.py@several+sigkill+https_to+interrupt \
	tests/e2e/test_http_put.py@repeated+retries+pipe
ASAN_TESTS := $(TEST_SRC) $(FUZZ_SRC) $(API_SRC) $(SAN_E2E)
TSAN_TESTS := $(addsuffix .c,$(addprefix tests/unit/test_,loop file pool \
	http_client http_source)) tests/api/two_engines.c $(SAN_E2E)
# A minute each time: with the address sanitizer is enough.
RELEASE_TESTS := $(filter-out %/test_io_contract.c,$(TEST_SRC))
ifeq ($(HAUL_LONG),1)
ASAN_TESTS := $(TEST_SRC) $(FUZZ_SRC) $(API_SRC) $(E2E)
TSAN_TESTS := $(TEST_SRC) $(API_SRC) $(E2E)
RELEASE_TESTS := $(TEST_SRC)
endif

check: deps-check
	$(Q)$(SUBMAKE) WERROR=1 all programs
	$(Q)$(SUBMAKE) SAN=address programs
	$(Q)$(SUBMAKE) SAN=thread programs
	$(Q)$(RUN) \
		release=$(B) $(LINT) $(API) $(API_SRC) $(FUZZ_SRC) \
			$(RELEASE_TESTS) $(E2E) \
		asan=$(call BUILD_OF,address) $(ASAN_TESTS) \
		tsan=$(call BUILD_OF,thread) $(TSAN_TESTS)

# The whole campaigns, and everything with the sanitizers: hours.
check-long:
	$(Q)HAUL_LONG=1 $(MAKE) --no-print-directory HAUL_LONG=1 check

# While working: a minute, no servers.
check-unit: programs
	$(Q)$(RUN) release=$(B) $(LINT) $(API_SRC) $(FUZZ_SRC) $(TEST_SRC)

lint: deps-lint
	$(Q)$(RUN) release=$(B) $(LINT) $(LINT_TOOLS)

# Each fuzz target for T seconds; new inputs stay in build/corpus.
T ?= 60
fuzz:
	$(Q)$(SUBMAKE) CC=clang SAN=address CFLAGS=-fsanitize=fuzzer-no-link \
		LDFLAGS=-fsanitize=fuzzer FUZZ_MAIN= fuzz-run T=$(T)
.PHONY: fuzz-run
fuzz-run: $(FUZZ_BIN)
	$(Q)for f in $(notdir $(FUZZ_BIN)); do \
		mkdir -p build/corpus/$$f && \
		echo "  FUZZ    $$f, $(T) s" && \
		$(B)/tests/fuzz/$$f -max_total_time=$(T) -verbosity=0 \
			-print_final_stats=1 -artifact_prefix=build/corpus/ \
			build/corpus/$$f tests/fuzz/corpus/$${f#fuzz_} || exit 1; \
	done

# ---- Install -----------------------------------------------------------------

HEADERS := haul.h haul_jobs.h haul_errors.def haul_options.def
MAN1 := $(wildcard docs/man/*.1)
MAN3 := $(wildcard docs/man/*.3)
PCDIR ?= $(LIBDIR)/pkgconfig
BASHDIR ?= $(PREFIX)/share/bash-completion/completions
ZSHDIR ?= $(PREFIX)/share/zsh/site-functions
INSTALL ?= install
D := $(DESTDIR)

.PHONY: install uninstall
install: $(B)/haul $(B)/libhaul.a $(B)/libhaul.so.$(VERSION)
	$(INSTALL) -d $(D)$(BINDIR) $(D)$(LIBDIR) $(D)$(INCDIR) $(D)$(PCDIR) \
		$(D)$(BASHDIR) $(D)$(ZSHDIR) $(D)$(MANDIR)/man1 \
		$(D)$(MANDIR)/man3
	$(INSTALL) -m 755 $(B)/haul $(D)$(BINDIR)/haul
	$(INSTALL) -m 644 $(B)/libhaul.a $(D)$(LIBDIR)
	$(INSTALL) -m 755 $(B)/libhaul.so.$(VERSION) $(D)$(LIBDIR)
	ln -sf libhaul.so.$(VERSION) $(D)$(LIBDIR)/libhaul.so.$(SOVERSION)
	ln -sf libhaul.so.$(SOVERSION) $(D)$(LIBDIR)/libhaul.so
	$(INSTALL) -m 644 $(addprefix include/,$(HEADERS)) $(D)$(INCDIR)
	sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@LIBDIR@|$(LIBDIR)|' \
		-e 's|@INCDIR@|$(INCDIR)|' -e 's|@VERSION@|$(VERSION)|' \
		-e 's|@PKGS@|$(PKGS)|' include/haul.pc.in \
		>$(D)$(PCDIR)/haul.pc
	$(B)/haul completion bash >$(D)$(BASHDIR)/haul
	$(B)/haul completion zsh >$(D)$(ZSHDIR)/_haul
	$(if $(MAN1),$(INSTALL) -m 644 $(MAN1) $(D)$(MANDIR)/man1)
	$(if $(MAN3),$(INSTALL) -m 644 $(MAN3) $(D)$(MANDIR)/man3)

uninstall:
	rm -f $(D)$(BINDIR)/haul $(D)$(LIBDIR)/libhaul.a \
		$(D)$(LIBDIR)/libhaul.so $(D)$(LIBDIR)/libhaul.so.$(SOVERSION) \
		$(D)$(LIBDIR)/libhaul.so.$(VERSION) $(D)$(PCDIR)/haul.pc \
		$(addprefix $(D)$(INCDIR)/,$(HEADERS)) \
		$(D)$(BASHDIR)/haul $(D)$(ZSHDIR)/_haul \
		$(addprefix $(D)$(MANDIR)/man1/,$(notdir $(MAN1))) \
		$(addprefix $(D)$(MANDIR)/man3/,$(notdir $(MAN3)))

# ---- Tools of tests and benchmarks: standalone, they know nothing of haul ----

$(B)/linksim: $(B)/bench/linksim.o $(B)/bench/linksim_link.o
	@$(if $(Q),echo "  LD      $@")
	$(Q)$(CC) $(LDFLAGS_ALL) -o $@ $^

$(B)/mkdump: $(B)/bench/mkdump.o
	@$(if $(Q),echo "  LD      $@")
	$(Q)$(CC) $(LDFLAGS_ALL) -o $@ $^

-include $(wildcard $(B)/bench/*.d)

.PHONY: tools bench demo
tools: $(B)/linksim $(B)/mkdump

demo: deps
	$(Q)$(SUBMAKE) haul tools
	$(Q)bench/demo.sh $(B)

bench:
	$(Q)tools/deps.sh build bench
	$(Q)$(SUBMAKE) haul tools
	python3 bench/bench.py --build $(B) $(BENCH)

.PHONY: clean
clean:
	rm -rf build haul libhaul.a libhaul.so*

-include $(LIB_OBJ:.o=.d) $(CLI_OBJ:.o=.d) $(TEST_BIN:%=%.d) \
	$(FUZZ_BIN:%=%.d) $(API_BIN:%=%.d)
