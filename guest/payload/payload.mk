# SPDX-License-Identifier: Apache-2.0
#
# The test payloads, build/payload/NAME.elf from guest/payload/NAME.S or NAME.c; see payload.h.
# Included by the Makefile at the top; `make payload` builds them all.

PAYLOAD_DIR	:= guest/payload
# What the payloads in C share; what a payload does not refer to is not in it.
PAYLOAD_CLIB	:= clib.c user.S virtio.c virtio_probe.c hostile_ring.c \
		   hostile_regs.c hostile_pci.c hostile_dev.c hostile_vsock.c hostile_memory.c \
		   hostile_fs.c
PAYLOAD_NAMES	:= $(basename $(filter-out lib.S $(PAYLOAD_CLIB),$(notdir \
		   $(wildcard $(PAYLOAD_DIR)/*.S $(PAYLOAD_DIR)/*.c))))
PAYLOADS	:= $(PAYLOAD_NAMES:%=$(BUILD)/payload/%.elf)
PAYLOAD_HEADERS	:= $(wildcard $(PAYLOAD_DIR)/*.h) $(PAYLOAD_DIR)/payload.mk
PAYLOAD_LDFLAGS	:= -nostdlib -static -no-pie -Wl,--build-id=none,--gc-sections,-z,noexecstack \
		   -Wl,-z,max-page-size=4096,--no-warn-rwx-segments,--fatal-warnings
# Only instructions that any emulator knows, nothing that needs a run-time library.
PAYLOAD_CFLAGS	:= -std=gnu17 -O2 -ffreestanding -mgeneral-regs-only -mno-red-zone -fno-pic -fno-pie \
		   -fno-stack-protector -fcf-protection=none -fno-asynchronous-unwind-tables \
		   -ffunction-sections -fdata-sections -fno-common -fno-strict-aliasing $(WARN) \
		   -Wno-main
PAYLOAD_CLIB_A	:= $(BUILD)/payload/clib.a

.PHONY: payload
.SECONDARY:
payload: $(PAYLOADS)

$(BUILD)/payload/%.o: $(PAYLOAD_DIR)/%.c $(PAYLOAD_HEADERS)
	@mkdir -p $(@D)
	$(Q)$(CC) $(PAYLOAD_CFLAGS) -c -o $@ $<

$(BUILD)/payload/%.o: $(PAYLOAD_DIR)/%.S $(PAYLOAD_HEADERS)
	@mkdir -p $(@D)
	$(Q)$(CC) -c -o $@ $<

$(PAYLOAD_CLIB_A): $(patsubst %,$(BUILD)/payload/%.o,$(basename $(PAYLOAD_CLIB)))
	@rm -f $@
	$(Q)$(AR) rcs $@ $^

$(BUILD)/payload/%.elf: $(BUILD)/payload/%.o $(BUILD)/payload/lib.o $(PAYLOAD_CLIB_A) \
			$(PAYLOAD_DIR)/payload.ld
	$(Q)$(CC) $(PAYLOAD_LDFLAGS) -T $(PAYLOAD_DIR)/payload.ld -o $@ \
		$< $(BUILD)/payload/lib.o $(PAYLOAD_CLIB_A)
