/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What every fuzz target has: libFuzzer's entry, a check that ends the run, and the input as a
 * string of numbers.
 *
 * A corpus is written in the numbers that take() gives: change what it reads and every seed
 * means something else.
 */
#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

/* Each target defines it, and returns 0. Called again and again in one process. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/*
 * Always evaluated, unlike assert(). When it does not hold this input is a finding: libFuzzer
 * keeps what makes the process abort. tests/fuzz/run looks for "not true".
 */
#define CHECK(cond)                                                                                \
	do {                                                                                       \
		if (!(cond)) {                                                                     \
			fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #cond);       \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

/* What is left of the input; libFuzzer owns the bytes. { .data = data, .left = size } begins. */
struct input {
	const uint8_t *data;
	size_t left;
};

/* The next @bytes bytes, 0 to 8, little-endian; those behind the end of the input are zero. */
static inline uint64_t take(struct input *in, unsigned bytes)
{
	uint64_t value = 0;

	for (unsigned i = 0; i < bytes && in->left > 0; i++, in->left--)
		value |= (uint64_t)*in->data++ << 8 * i;
	return value;
}

#endif
