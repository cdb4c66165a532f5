// SPDX-License-Identifier: Apache-2.0
/*
 * Runs in the guest as /test: writes another number to each page of nearly all memory
 * there is, or of MIB mebibytes, then reads them all back. Huge pages, as faults are slow in a
 * testbed.
 *
 *   memory [MIB]
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define PAGE 4096UL

static unsigned long available_kib(void)
{
	FILE *f = fopen("/proc/meminfo", "r");
	unsigned long kib = 0;
	char line[128];

	while (f != NULL && fgets(line, sizeof(line), f) != NULL)
		if (sscanf(line, "MemAvailable: %lu kB", &kib) == 1)
			break;
	return kib;
}

int main(int argc, char **argv)
{
	size_t size = (available_kib() - 64 * 1024) / 2048 * 2048 * 1024, wrong = 0;
	uint8_t *mem;

	if (argc > 1)
		size = strtoul(argv[1], NULL, 10) << 20;
	mem = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
		   -1, 0);
	if (mem == MAP_FAILED) {
		perror("mmap");
		return 1;
	}
	madvise(mem, size, MADV_HUGEPAGE);
	for (size_t i = 0; i < size; i += PAGE)
		*(volatile uint64_t *)(mem + i) = i * 0x9e3779b97f4a7c15;
	for (size_t i = 0; i < size; i += PAGE)
		wrong += *(volatile uint64_t *)(mem + i) != i * 0x9e3779b97f4a7c15;
	printf("vmm-guest: %zu MiB written and read back, %zu pages wrong\n", size >> 20, wrong);
	return wrong > 0;
}
