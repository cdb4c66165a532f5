// SPDX-License-Identifier: Apache-2.0
/*
 * The release of a kernel that is not running: what `uname -r` will say in it.
 *
 * A bzImage has it in the text that the setup header's kernel_version points to (Linux's
 * Documentation/arch/x86/boot.rst); a vmlinux in its banner, "Linux version RELEASE (...".
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "arch/arch.h"

#define HDRS	       0x202
#define KERNEL_VERSION 0x20e
#define PIECE	       (1 << 20)

/* The first word at @text, which has @len bytes. */
static void copy_word(const char *text, size_t len, char *release, size_t size)
{
	size_t n = 0;

	while (n < len && n < size - 1 && text[n] > ' ' && text[n] < 0x7f) {
		release[n] = text[n];
		n++;
	}
	release[n] = '\0';
}

static void find_banner(int fd, char *release, size_t size)
{
	static const char banner[] = "Linux version ";
	const size_t keep = sizeof(banner) - 1 + size;
	char *piece = malloc(PIECE), *p;
	off_t offset = 0;
	ssize_t n;

	while (piece != NULL && *release == '\0' && (n = pread(fd, piece, PIECE, offset)) > 0) {
		for (p = piece;
		     (p = memmem(p, (size_t)(piece + n - p), banner, sizeof(banner) - 1)) != NULL;
		     p++) {
			const char *word = p + sizeof(banner) - 1;

			/* Not the format string that is there, too. */
			if (word < piece + n && *word >= '0' && *word <= '9') {
				copy_word(word, (size_t)(piece + n - word), release, size);
				break;
			}
		}
		if ((size_t)n <= keep)
			break;
		offset += n - (ssize_t)keep;
	}
	free(piece);
}

int arch_kernel_release(const char *path, char *release, size_t size, struct err *err)
{
	char head[0x210] = "", text[256];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	*release = '\0';
	if (fd < 0)
		return err_sys(err, errno, "kernel %s: cannot open", path);
	n = pread(fd, head, sizeof(head), 0);
	if (n == (ssize_t)sizeof(head) && memcmp(head + HDRS, "HdrS", 4) == 0) {
		uint16_t at;

		memcpy(&at, head + KERNEL_VERSION, sizeof(at));
		n = pread(fd, text, sizeof(text), 0x200 + (off_t)at);
		if (at > 0 && n > 0)
			copy_word(text, (size_t)n, release, size);
	} else {
		find_banner(fd, release, size);
	}
	close(fd);
	return 0;
}
