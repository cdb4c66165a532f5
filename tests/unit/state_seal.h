/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The checksum of a saved state (vmm/base/state.h), bit by bit and so independent of the one under
 * test: for tests that write such files, or forge them.
 */
#ifndef TESTS_UNIT_STATE_SEAL_H
#define TESTS_UNIT_STATE_SEAL_H

#include <stddef.h>
#include <stdint.h>

#define STATE_SEAL 8 /* bytes of it, at the end */

/* CRC-64/XZ */
static inline uint64_t state_crc(const uint8_t *p, size_t len)
{
	uint64_t crc = ~0ULL;

	while (len-- > 0) {
		crc ^= *p++;
		for (int i = 0; i < 8; i++)
			crc = crc >> 1 ^ (crc & 1 ? 0xc96c5795d7870f42ULL : 0);
	}
	return ~crc;
}

/* Make the last bytes of the @len at @data the checksum of those before. */
static inline void state_seal(uint8_t *data, size_t len)
{
	uint64_t crc = state_crc(data, len - STATE_SEAL);

	for (int i = 0; i < STATE_SEAL; i++)
		data[len - STATE_SEAL + i] = (uint8_t)(crc >> 8 * i);
}

#endif
