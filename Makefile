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
# assertions on, WERROR=1 makes warnings errors, WITH_SFTP=0 leaves SFTP out.

PREFIX ?= /usr/local
BINDIR ?= $(PREFIX)/bin
LIBDIR ?= $(PREFIX)/lib
INCDIR ?= $(PREFIX)/include
MANDIR ?= $(PREFIX)/share/man

CC ?= gcc
PKG_CONFIG ?= pkg-config
WITH_SFTP ?= 1
Q := $(if $(V),,@)

VERSION := $(shell awk '/define HAUL_VERSION_(MAJOR|MINOR|PATCH)/ \
	{v = v s $$3; s = "."} END {print v}' include/haul.h)
SOVERSION := $(firstword $(subst ., ,$(VERSION)))

PKGS := liburing libxxhash sqlite3 libcrypto
ifeq ($(WITH_SFTP),1)
PKGS += libssh
FEATURES += -DHL_WITH_SFTP
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
ifdef SAN
HARDEN :=
OPT := -O1 -g -fno-omit-frame-pointer
SANFLAGS := -fsanitize=$(if $(filter address,$(SAN)),address$(,)undefined,$(SAN))
FEATURES += -DHL_DEBUG
endif
, := ,

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
LIB_SRC := $(filter-out $(wildcard io/sftp*.c io/ssh*.c),$(LIB_SRC))
endif
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
TEST_BIN := $(TEST_SRC:%.c=$(B)/%)
.SECONDARY: $(TEST_BIN:%=%.o)

$(B)/tests/%: $(B)/tests/%.o $(B)/libhaul.a
	@$(if $(Q),echo "  LD      $@")
	$(Q)$(CC) $(LDFLAGS_ALL) -o $@ $^ \
		$(shell $(PKG_CONFIG) --libs cmocka) $(LIBS)

.PHONY: tests
tests: $(TEST_BIN)

# ---- Tools of tests and benchmarks: standalone, they know nothing of haul ----

$(B)/linksim: $(B)/bench/linksim.o $(B)/bench/linksim_link.o
	@$(if $(Q),echo "  LD      $@")
	$(Q)$(CC) $(LDFLAGS_ALL) -o $@ $^

$(B)/mkdump: $(B)/bench/mkdump.o
	@$(if $(Q),echo "  LD      $@")
	$(Q)$(CC) $(LDFLAGS_ALL) -o $@ $^

.PHONY: tools bench
tools: $(B)/linksim $(B)/mkdump

bench: haul tools
	python3 bench/bench.py --build $(B) $(BENCH)

.PHONY: clean
clean:
	rm -rf build haul libhaul.a libhaul.so*

-include $(LIB_OBJ:.o=.d) $(CLI_OBJ:.o=.d) $(TEST_BIN:%=%.d)
