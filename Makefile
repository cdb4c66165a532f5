# SPDX-License-Identifier: Apache-2.0
#
# make            build/vmm, a stripped static-pie binary
# make ASAN=1     the same under AddressSanitizer and UBSan, in build/asan
# make TSAN=1     the same under ThreadSanitizer, in build/tsan
# make unit       unit tests, in whatever build was asked for
# make check      everything CI runs
# make demo       boot Debian's stock kernel to a prompt
# make bench      start-up time and footprint, beside other monitors
# make fuzz       fuzz targets, TIME=seconds each
# make install    DESTDIR= PREFIX=/usr/local
# make deps       install the Debian packages all of the above need
#
# Sources are found by folder: a new file in devices/ needs no line here.

ARCH	?= $(shell uname -m)
PREFIX	?= /usr/local
CC	?= gcc
VERSION	:= 0.1.0

VARIANT	:= $(if $(ASAN),asan,$(if $(TSAN),tsan,release))
BUILD	:= build
OBJ	:= $(BUILD)/$(VARIANT)

LIB_SRC	:= $(filter-out vmm/main.c,$(wildcard vmm/*.c)) \
	   $(wildcard vmm/base/*.c devices/*.c firmware/*.c arch/$(ARCH)/*.c)
LIB_OBJ	:= $(LIB_SRC:%.c=$(OBJ)/%.o)
LIB	:= $(OBJ)/libvmm.a
UNIT	:= $(patsubst tests/unit/%.c,$(OBJ)/unit/%,$(wildcard tests/unit/test_*.c))

CPPFLAGS += -I. -D_GNU_SOURCE -DVMM_VERSION='"$(VERSION)"'
CFLAGS	?= -O2 -g
WARN	:= -Wall -Wextra -Wshadow -Wmissing-prototypes -Wstrict-prototypes -Wvla \
	   -Wpointer-arith -Wwrite-strings -Werror
ALL_CFLAGS = $(CPPFLAGS) -std=gnu17 $(WARN) -pthread -ffunction-sections -fdata-sections \
	     -fno-common -fno-strict-aliasing $(CFLAGS) $(MODE_CFLAGS)
LIBS	:= -lelf -ljansson

ifeq ($(VARIANT),release)
MODE_CFLAGS  := -fPIE -fstack-protector-strong -fstack-clash-protection -D_FORTIFY_SOURCE=2 \
		-fcf-protection=full
MODE_LDFLAGS := -static-pie -Wl,-z,relro,-z,now,-z,noexecstack,-z,separate-code,--gc-sections
LIBS	     += -lz
else
comma	     := ,
MODE_CFLAGS  := -fsanitize=$(if $(ASAN),address$(comma)undefined,thread) \
		-fno-sanitize-recover=all -fno-omit-frame-pointer -O1
MODE_LDFLAGS := $(MODE_CFLAGS)
endif

VMM	:= $(if $(filter release,$(VARIANT)),$(BUILD)/vmm,$(OBJ)/vmm)

.PHONY: all unit check demo bench fuzz install deps clean format
.DELETE_ON_ERROR:
all: $(VMM)

$(OBJ)/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<

$(LIB): $(LIB_OBJ)
	@rm -f $@
	$(AR) rcs $@ $^

$(OBJ)/vmm.debug: $(OBJ)/vmm/main.o $(LIB)
	$(CC) $(ALL_CFLAGS) $(MODE_LDFLAGS) -o $@ $^ $(LIBS)

$(BUILD)/vmm: $(OBJ)/vmm.debug
	strip -s -R .comment -R .note.gnu.build-id -o $@ $<
$(OBJ)/vmm: $(OBJ)/vmm.debug
	cp $< $@

$(OBJ)/unit/%: tests/unit/%.c $(LIB)
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) $(filter-out -static-pie,$(MODE_LDFLAGS)) -MMD -MP \
		$(if $(filter release,$(VARIANT)),-pie) -o $@ $< $(LIB) -lcheck -lsubunit -lm -lrt $(LIBS)

-include $(shell find $(OBJ) -name '*.d' 2>/dev/null)
