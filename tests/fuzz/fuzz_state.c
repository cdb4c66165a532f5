// SPDX-License-Identifier: Apache-2.0
/*
 * Saved states from whoever could write the file: arbitrary sections behind a header and
 * before a checksum that are right, loaded by a device that uses every type of field.
 * What loads without an error must come out the same when it is saved and loaded again.
 */
#include <string.h>
#include "tests/fuzz/fuzz.h"
#include "tests/unit/state_seal.h"
#include "vmm/base/state.h"

struct queue {
	uint16_t size;
	bool ready;
};

struct device {
	uint8_t a;
	uint16_t b;
	uint32_t c;
	uint64_t d;
	bool e;
	uint8_t bytes[4];
	uint8_t blob[8];
	size_t blob_len;
	struct queue queues[3];
};

static void device_state(struct device *dev, struct state *s)
{
	state_begin(s, "dev", 3);
	state_u8(s, "a", &dev->a);
	state_u16(s, "b", &dev->b);
	state_u32(s, "c", &dev->c);
	state_u64(s, "d", &dev->d);
	state_bool(s, "e", &dev->e);
	state_bytes(s, "f", dev->bytes, sizeof(dev->bytes));
	state_blob(s, "g", dev->blob, &dev->blob_len, sizeof(dev->blob));
	CHECK(dev->blob_len <= sizeof(dev->blob));
	for (int i = 0; i < 3; i++) {
		char name[2] = { (char)('0' + i), '\0' };

		if (state_loading(s) && !state_has(s, name))
			continue;
		state_begin(s, name, 1);
		state_u16(s, "s", &dev->queues[i].size);
		state_bool(s, "r", &dev->queues[i].ready);
		if (dev->queues[i].size > 1024)
			state_fail(s, "size %u", dev->queues[i].size);
		state_end(s);
	}
	state_end(s);
}

static int load(struct device *dev, const void *data, size_t len)
{
	struct err err = ERR_INIT;
	struct state *s = state_new_load(data, len, &err);
	int rc;

	if (s == NULL) {
		CHECK(err.code != 0 && err.msg[0] != '\0');
		return -err.code;
	}
	device_state(dev, s);
	rc = state_finish(s, NULL, NULL, &err);
	CHECK((rc < 0) == (err.code != 0));
	state_free(s);
	return rc;
}

static void check(struct device *dev)
{
	struct state *s = state_new_save();
	struct device other;
	struct err err;
	const void *data;
	size_t len;

	device_state(dev, s);
	memset(&other, 0, sizeof(other));
	CHECK(state_finish(s, &data, &len, &err) == 0 && load(&other, data, len) == 0);
	CHECK(memcmp(dev->blob, other.blob, sizeof(other.blob)) == 0 && dev->d == other.d);
	CHECK(dev->blob_len == other.blob_len && dev->queues[2].size == other.queues[2].size);
	state_free(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct device dev = { 0 };
	size_t len = 12 + size;
	uint8_t *file = malloc(len + STATE_SEAL);

	/* As it is, without the help below, too. */
	load(&dev, data, size);

	memset(&dev, 0, sizeof(dev));
	memcpy(file, "VMMSTATE\1\0\0\0", 12);
	if (size > 0)
		memcpy(file + 12, data, size);
	state_seal(file, len + STATE_SEAL);
	if (load(&dev, file, len + STATE_SEAL) == 0)
		check(&dev);
	free(file);
	return 0;
}
