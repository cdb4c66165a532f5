// SPDX-License-Identifier: Apache-2.0
/*
 * Test results out of a guest: the first byte says where they come from and in which pieces, the
 * rest is the text. Whatever it is, sums and results agree, and each parent comes after its
 * children.
 */
#include <stdint.h>
#include <string.h>
#include "tests/fuzz/fuzz.h"
#include "vmm/run/ktap.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint64_t counted = 0, failed = 0;
	struct ktap *k;
	size_t piece;

	if (size == 0)
		return 0;
	k = ktap_new(data[0] % 3);
	piece = 1 + data[0] / 3;
	data++;
	size--;
	for (size_t i = 0; i < size; i += piece)
		ktap_feed(k, data + i, size - i < piece ? size - i : piece);
	ktap_end(k);
	for (size_t i = 0; i < ktap_ntests(k); i++) {
		const struct ktap_test *t = ktap_test(k, i);
		char path[256];

		CHECK(t->parent == KTAP_NO_PARENT || (t->parent > i && t->parent < ktap_ntests(k)));
		CHECK(t->depth < KTAP_DEPTH_MAX);
		CHECK(strlen(ktap_path(k, t, path, sizeof(path))) < sizeof(path));
		counted += t->counts;
		failed += t->counts && (t->result == KTAP_FAIL || t->result == KTAP_MISSING);
	}
	CHECK(ktap_sum(k)->total >= counted);
	CHECK(ktap_sum(k)->dropped > 0 || ktap_sum(k)->total == counted);
	CHECK(ktap_sum(k)->dropped > 0 || ktap_sum(k)->failed == failed);
	CHECK((ktap_first_failed(k) != NULL) <= (ktap_sum(k)->failed > 0));
	ktap_free(k);
	return 0;
}
