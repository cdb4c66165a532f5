// SPDX-License-Identifier: Apache-2.0
/*
 * The head of a snapshot's state file from whoever could write it: arbitrary sections behind a
 * header and before a checksum that are right. What opens has a configuration that is tried,
 * extents that are all in RAM, and comes out the same when it is saved again.
 */
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "tests/fuzz/fuzz.h"
#include "tests/unit/state_seal.h"
#include "vmm/config.h"
#include "vmm/snapshot/snapshot.h"

static void try_config(const struct snapshot *s)
{
	struct vm_config cfg = { 0 };
	struct err err = ERR_INIT;
	json_t *json = snapshot_config_json(s, &err);

	if (json == NULL) {
		CHECK(err.code != 0 && err.msg[0] != '\0');
		return;
	}
	cfg.options = vm_options_new(NULL, &err);
	CHECK(cfg.options != NULL && opt_defaults(cfg.options, &cfg, &err) == 0);
	err = (struct err)ERR_INIT;
	if (opt_from_json(cfg.options, &cfg, json, &err) < 0)
		CHECK(err.code != 0 && err.msg[0] != '\0');
	opt_free(cfg.options, &cfg);
	free(cfg.options);
	json_decref(json);
}

static void check(struct snapshot *s)
{
	const struct snapshot_head *h = &s->head;
	struct state *again = state_new_save();
	struct err err = ERR_INIT;
	uint64_t next = 0;
	const void *data;
	size_t len;

	CHECK(h->id != 0 && h->ram % GMEM_PAGE_SIZE == 0 && *h->memory != '\0');
	for (size_t i = 0; i < h->nextents; i++) {
		CHECK(h->extents[i].first >= next &&
		      h->extents[i].n <= (h->ram >> GMEM_PAGE_SHIFT) - h->extents[i].first);
		next = h->extents[i].first + h->extents[i].n;
	}
	snapshot_head_state(&s->head, again);
	CHECK(state_finish(again, &data, &len, &err) == 0 && len > 0);
	state_free(again);
	try_config(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint8_t header[12] = "VMMSTATE\1";
	struct err err = ERR_INIT;
	uint8_t *file = malloc(sizeof(header) + size + STATE_SEAL);
	size_t len = sizeof(header) + size;
	int fd = memfd_create("state", MFD_CLOEXEC);
	struct snapshot *s;
	char path[32];

	memcpy(file, header, sizeof(header));
	if (size > 0)
		memcpy(file + sizeof(header), data, size);
	state_seal(file, len + STATE_SEAL);
	CHECK(fd >= 0 && write(fd, file, len + STATE_SEAL) == (ssize_t)(len + STATE_SEAL));
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	s = snapshot_open_state(path, &err);
	if (s != NULL)
		check(s);
	else
		CHECK(err.code != 0 && err.msg[0] != '\0');
	snapshot_close(s);
	close(fd);
	free(file);
	return 0;
}
