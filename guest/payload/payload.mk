# SPDX-License-Identifier: Apache-2.0
#
# The test payloads, build/payload/NAME.elf from guest/payload/NAME.S; see payload.h.
# Included by the Makefile at the top; `make payload` builds them all.

PAYLOAD_DIR	:= guest/payload
PAYLOADS	:= $(patsubst $(PAYLOAD_DIR)/%.S,$(BUILD)/payload/%.elf,\
		   $(filter-out $(PAYLOAD_DIR)/lib.S,$(wildcard $(PAYLOAD_DIR)/*.S)))
PAYLOAD_LDFLAGS	:= -nostdlib -static -no-pie -Wl,--build-id=none,--gc-sections,-z,noexecstack \
		   -Wl,-z,max-page-size=4096,--no-warn-rwx-segments,--fatal-warnings

.PHONY: payload
payload: $(PAYLOADS)

$(BUILD)/payload/%.elf: $(PAYLOAD_DIR)/%.S $(addprefix $(PAYLOAD_DIR)/,lib.S payload.h \
			payload.ld payload.mk)
	@mkdir -p $(@D)
	$(Q)$(CC) $(PAYLOAD_LDFLAGS) -T $(PAYLOAD_DIR)/payload.ld -o $@ $< $(PAYLOAD_DIR)/lib.S
