# SPDX-License-Identifier: Apache-2.0
#
# make            build/vmm, a stripped static-pie binary
# make ASAN=1     the same under AddressSanitizer and UBSan: build/asan/vmm.debug
# make TSAN=1     the same under ThreadSanitizer: build/tsan/vmm.debug
# make unit       unit tests, in whatever build was asked for
# make check      everything CI runs
# make demo       boot Debian's stock kernel to a prompt
# make bench      start-up time and footprint, beside other monitors
# make fuzz       fuzz targets, TIME=seconds each
# make install    DESTDIR= PREFIX=/usr/local
# make deps       install the Debian packages all of the above need
#
# make V=1        show the commands
#
# Sources are found by folder: a new file in devices/ needs no line here.

ARCH	?= $(shell uname -m)
PREFIX	?= /usr/local
CC	:= gcc
AGENT_CC := musl-gcc
Q	:= $(if $(V),,@)
VERSION	:= 0.1.0

VARIANT	:= $(if $(ASAN),asan,$(if $(TSAN),tsan,release))
BUILD	:= build
OBJ	:= $(BUILD)/$(VARIANT)

LIB_SRC	:= $(filter-out vmm/main.c,$(wildcard vmm/*.c)) \
	   $(wildcard vmm/*/*.c devices/*.c firmware/*.c arch/$(ARCH)/*.c)
# The HTTP parser of Node.js comes as C source, in the package node-llhttp: for a static program, and
# for one with sanitizers.
LLHTTP	:= /usr/share/llhttp
LLHTTP_FLAGS := -I/usr/share/include/llhttp -DLLHTTP_STRICT_MODE=1
LIB_OBJ	:= $(LIB_SRC:%.c=$(OBJ)/%.o) $(OBJ)/vmm/run/agent_image.o \
	   $(patsubst %,$(OBJ)/llhttp/%.o,llhttp api http)
LIB	:= $(OBJ)/libvmm.a
UNIT	:= $(patsubst tests/unit/%.c,$(OBJ)/unit/%,$(wildcard tests/unit/test_*.c))

CPPFLAGS += -I. -D_GNU_SOURCE -DVMM_VERSION='"$(VERSION)"' $(LLHTTP_FLAGS)
CFLAGS	?= -g
WARN	:= -Wall -Wextra -Wshadow -Wmissing-prototypes -Wstrict-prototypes -Wvla \
	   -Wpointer-arith -Wwrite-strings -Werror
# For size, as start-up pays for every page; for speed where a guest's I/O goes through.
OPTIMIZE = -Os
HOT	:= devices/bus devices/serial devices/msix devices/virtqueue devices/virtio% devices/aio \
	   devices/disk_io devices/fs_% devices/net% devices/vsock% vmm/base/loop vmm/base/gmem \
	   vmm/vcpus
$(filter $(HOT:%=$(OBJ)/%.o),$(LIB_OBJ)): OPTIMIZE = -O2
ALL_CFLAGS = $(CPPFLAGS) -std=gnu17 $(WARN) -pthread -ffunction-sections -fdata-sections \
	     -fno-common -fno-strict-aliasing $(OPTIMIZE) $(CFLAGS) $(MODE_CFLAGS)
# The shared liburing of Debian 12 lacks functions that the static one has.
LIBS	:= -lelf -ljansson -l:liburing.a

ifeq ($(VARIANT),release)
MODE_CFLAGS  := -fPIE -fstack-protector-strong -fstack-clash-protection -D_FORTIFY_SOURCE=2 \
		-fcf-protection=full -fno-asynchronous-unwind-tables -fno-unwind-tables
MODE_LDFLAGS := -static-pie -Wl,-z,pack-relative-relocs,-z,relro,-z,now,-z,noexecstack,-z,separate-code,--gc-sections
LIBS	     += -lz
else
comma	     := ,
MODE_CFLAGS  := -fsanitize=$(if $(ASAN),address$(comma)undefined,thread) \
		-fno-sanitize-recover=all -fno-omit-frame-pointer -O1
# It does not understand fences. All that ours order is atomic anyway.
MODE_CFLAGS  += $(if $(TSAN),-Wno-tsan)
MODE_LDFLAGS := $(MODE_CFLAGS)
endif

VMM	:= $(if $(filter release,$(VARIANT)),$(BUILD)/vmm,$(OBJ)/vmm.debug)

.PHONY: all unit unit-programs payload check demo bench fuzz install deps clean format
.DELETE_ON_ERROR:
all: $(VMM)

$(OBJ)/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<

$(OBJ)/llhttp/%.o: $(LLHTTP)/%.c Makefile
	@mkdir -p $(@D)
	$(Q)$(CC) $(filter-out $(WARN),$(ALL_CFLAGS)) -c -o $@ $<

# The program that `vmm run` puts into its guests: small, static, for their kernel alone.
AGENT	:= $(BUILD)/agent
AGENT_CFLAGS := -std=gnu17 -D_GNU_SOURCE -I. -Os -static $(WARN) -ffunction-sections -fdata-sections \
		-fno-asynchronous-unwind-tables -Wl,--gc-sections,-z,noexecstack

$(AGENT): $(wildcard guest/agent/*.c guest/agent/*.h) guest/agent.h Makefile
	@mkdir -p $(@D)
	$(Q)$(AGENT_CC) $(AGENT_CFLAGS) -s -o $@ $(filter %.c,$^)

$(OBJ)/vmm/run/agent_image.o: vmm/run/agent_image.S $(AGENT)
	@mkdir -p $(@D)
	$(Q)$(CC) -DAGENT='"$(AGENT)"' -c -o $@ $<

# What the sources say of the system calls they make.
$(OBJ)/policy.inc: vmm/sandbox/policy.awk $(LIB_SRC)
	@mkdir -p $(@D)
	$(Q)awk -f $^ > $@
$(OBJ)/vmm/sandbox/filter.o: $(OBJ)/policy.inc
$(OBJ)/vmm/sandbox/filter.o: CPPFLAGS += -I$(OBJ)

$(LIB): $(LIB_OBJ)
	@rm -f $@
	$(Q)$(AR) rcs $@ $^

# The static libraries without their unwind tables, 70 KiB that nothing reads: nothing is
# thrown, no thread is cancelled or calls pthread_exit().
BARE_LIBS := $(if $(filter release,$(VARIANT)),\
	$(addprefix $(OBJ)/bare/,libc.a libelf.a libjansson.a libz.a))

$(OBJ)/bare/%.a: Makefile
	@mkdir -p $(@D)
	$(Q)objcopy -R .eh_frame -R .gcc_except_table $$($(CC) -print-file-name=$*.a) $@

# All of the library: nobody names a virtio device, see VIRTIO_DEVICE() in devices/virtio.h.
WHOLE	= -Wl,--whole-archive $(1) -Wl,--no-whole-archive

$(OBJ)/vmm.debug: $(OBJ)/vmm/main.o $(LIB) $(BARE_LIBS)
	$(Q)$(CC) $(ALL_CFLAGS) $(MODE_LDFLAGS) $(if $(BARE_LIBS),-L$(OBJ)/bare) -o $@ $< $(call WHOLE,$(LIB)) $(LIBS)

$(BUILD)/vmm: $(OBJ)/vmm.debug
	$(Q)strip -s -R .comment -R .note.gnu.build-id -o $@ $<

$(OBJ)/unit/%: tests/unit/%.c $(LIB)
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) $(filter-out -static-pie,$(MODE_LDFLAGS)) -MMD -MP \
		$(if $(filter release,$(VARIANT)),-pie) -o $@ $< \
		$(if $(filter test_virtio_% test_api,$(@F)),$(call WHOLE,$(LIB)),$(LIB)) -lcheck -lsubunit -lm -lrt $(LIBS)

unit-programs: $(UNIT)
unit: $(UNIT)
	@for t in $^; do $$t || exit 1; done

include guest/payload/payload.mk

# The manual page: its options come from the option table in the program.
$(BUILD)/vmm.1: vmm/vmm.1.in $(BUILD)/vmm
	$(BUILD)/vmm help man-options > $@.options
	sed -e 's/@VERSION@/$(VERSION)/' -e '/@OPTIONS@/{r $@.options' -e 'd}' $< > $@
	@rm -f $@.options

$(BUILD)/vmm-run.1 $(BUILD)/vmm-jail.1: $(BUILD)/vmm-%.1: vmm/vmm-%.1.in $(BUILD)/vmm
	$(BUILD)/vmm help man-$*-options > $@.options
	sed -e 's/@VERSION@/$(VERSION)/' -e '/@OPTIONS@/{r $@.options' -e 'd}' $< > $@
	@rm -f $@.options

$(BUILD)/vmm-ctl.1: vmm/vmm-ctl.1.in Makefile
	@mkdir -p $(@D)
	sed -e 's/@VERSION@/$(VERSION)/' $< > $@

install: $(BUILD)/vmm $(BUILD)/vmm.1 $(BUILD)/vmm-run.1 $(BUILD)/vmm-ctl.1 $(BUILD)/vmm-jail.1
	install -D -m 755 $(BUILD)/vmm $(DESTDIR)$(PREFIX)/bin/vmm
	install -D -m 644 $(BUILD)/vmm.1 $(DESTDIR)$(PREFIX)/share/man/man1/vmm.1
	install -D -m 644 $(BUILD)/vmm-run.1 $(DESTDIR)$(PREFIX)/share/man/man1/vmm-run.1
	install -D -m 644 $(BUILD)/vmm-ctl.1 $(DESTDIR)$(PREFIX)/share/man/man1/vmm-ctl.1
	install -D -m 644 $(BUILD)/vmm-jail.1 $(DESTDIR)$(PREFIX)/share/man/man1/vmm-jail.1
	install -D -m 644 vmm/api/api.yaml $(DESTDIR)$(PREFIX)/share/vmm/api.yaml

# Packages: to build, to test, for the testbed. Installed only when one is missing.
DEPS	:= gcc make libc6-dev linux-libc-dev libelf-dev zlib1g-dev libjansson-dev liburing-dev node-llhttp \
	   check musl-tools curl jq \
	   acpica-tools clang clang-format shellcheck man-db python3 python3-yaml \
	   busybox-static e2fsprogs cpio kmod xz-utils zstd lz4 bzip2 flex bison bc perl rsync libssl-dev procps \
	   passt iproute2 mandoc strace

deps:
	@missing=$$(dpkg-query -W -f '$${Package} $${db:Status-Status}\n' $(DEPS) 2>&1 | \
		sed -nE 's/^(\S+) (not-installed|config-files)$$/\1/p; s/.*no packages found matching //p'); \
	[ -z "$$missing" ] && exit 0; \
	echo "installing: "$$missing; \
	sudo=$$([ $$(id -u) = 0 ] || echo sudo); \
	$$sudo apt-get update -q && \
	DEBIAN_FRONTEND=noninteractive $$sudo apt-get install -y -q --no-install-recommends $$missing

check: deps
	tests/run

demo: deps
	@$(MAKE) -s all
	tests/boot/demo

bench: all payload
	tests/bench/run

fuzz:
	tests/fuzz/run $(or $(TIME),30)

format:
	clang-format -i $$(git ls-files '*.c' '*.h' ':!guest/payload')

clean:
	rm -rf $(BUILD)

-include $(shell find $(OBJ) -name '*.d' 2>/dev/null)
