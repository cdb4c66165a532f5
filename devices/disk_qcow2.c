// SPDX-License-Identifier: Apache-2.0
/*
 * Disks in QEMU's format qcow2 (docs/interop/qcow2.rst there). Not served here: we start
 * qemu-storage-daemon, which knows the format, and the device is a vhost-user one with that as
 * its back end (vhost_user.c). Parsing a format that a guest's owner made is kept out of us.
 *
 * Which images. A guest writes what it likes to its disk, also to the first bytes of a raw one. Who
 * goes by those lets it turn its raw disk into a qcow2 image that names a file of the host
 * as its backing file, and read that after the next start. So content decides nothing: the option
 * format= does, and without it the file's name, which a guest cannot change: qcow2 if it ends in
 * ".qcow2". Where name and content disagree the disk is refused, with a word on format=.
 *
 * What an image may name. A backing file or an external data file is a file of the host that
 * whoever made the image chose. It is opened only with `backing`.
 *
 * The process. It gets the image's path and a listening socket, which stays open here as well,
 * so that we can connect before it is ready and after it was started anew. The socket has a
 * name in the file system for a moment only, in a folder of ours; later we connect through
 * its descriptor in /proc. It is asked to end (SIGTERM, so that it writes down what it has
 * in memory) when the device goes away, and by the kernel when we are killed.
 *
 * When it ends before us it is started again, and does what was under way once more: see
 * vhost_user_notes.c. But part of an image's tables is written only when the guest flushes. What
 * was completed since is lost with the process, as in a power cut, only that the guest runs on and
 * its next flush would succeed. So unless the image is only read, or each write is flushed
 * (cache=none), the device then asks for a reset: after a reboot the guest finds its disk as after
 * that power cut.
 *
 * It locks the image as we do raw ones.
 *
 * Limits: no overlay, limits on rate, I/O thread, serial number. It does not notice that
 * an image has grown.
 */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <linux/virtio_blk.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include "devices/broker.h"
#include "devices/disk_qcow2.h"
#include "devices/vhost_user.h"
#include "devices/vhost_user_proto.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#define PROGRAM	 "qemu-storage-daemon"
#define SUFFIX	 ".qcow2"
#define MAGIC	 "QFI\xfb"
#define DATAFILE (1ULL << 2) /* incompatible feature: an external data file */
#define END_MS	 10000

/* What is looked at of a header. Big-endian. */
struct header {
	char magic[4];
	uint32_t version;
	uint64_t backing_offset;
	uint32_t backing_size, cluster_bits;
	uint64_t size;
	uint32_t crypt_method, pad;
	uint64_t other[4];
	uint64_t incompatible; /* version 3 */
};

_Static_assert(offsetof(struct header, incompatible) == 72, "as it is in the file");

struct qcow2 {
	struct vhost_user_way way; /* first */
	struct child child;
	struct loop *loop; /* NULL: not yet watched */
	int listener;
	int node; /* O_PATH: the socket, in no folder any more */
	char name[VIRTIO_NAME_MAX];
	char *file, *format, *export; /* arguments */
	const char *argv[8];
	int rule; /* of child.by, for connecting */
};

/* --- Which images --- */

static int open_image(const char *path, struct stat *st, struct err *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);

	if (fd < 0)
		return err_sys(err, errno, "cannot open");
	if (fstat(fd, st) == 0 && (S_ISREG(st->st_mode) || S_ISBLK(st->st_mode)))
		return fd;
	close(fd);
	return err_set(err, EINVAL, "is neither a file nor a block device");
}

/* Zeroes where the file is shorter. */
static int read_header(const char *path, struct header *head, struct stat *st, struct err *err)
{
	int fd = open_image(path, st, err);
	ssize_t n;

	memset(head, 0, sizeof(*head));
	if (fd < 0)
		return fd;
	n = pread(fd, head, sizeof(*head), 0);
	close(fd);
	return n < 0 ? err_sys(err, errno, "cannot read") : 0;
}

bool disk_named_qcow2(const char *path, int format)
{
	size_t len = strlen(path), suffix = strlen(SUFFIX);

	return format == DISK_FORMAT_QCOW2 || (format == DISK_FORMAT_AUTO && len > suffix &&
					       strcmp(path + len - suffix, SUFFIX) == 0);
}

int disk_is_qcow2(const char *path, int format, struct err *err)
{
	bool named = disk_named_qcow2(path, format), is;
	struct header head;
	struct stat st;

	if (format == DISK_FORMAT_RAW)
		return 0;
	if (read_header(path, &head, &st, err) < 0)
		return -err->code;
	is = memcmp(head.magic, MAGIC, sizeof(head.magic)) == 0;
	if (named == is)
		return is;
	if (named)
		return err_set(err, EINVAL, "is no qcow2 image%s",
			       format == DISK_FORMAT_AUTO ? ", although its name ends in " SUFFIX
							    "; if it is raw, say "
							    "format=raw"
							  : "");
	return err_set(err, EINVAL,
		       "begins like a qcow2 image, which may also be what a guest wrote to a raw "
		       "one: say format=raw or format=qcow2");
}

/* May it be given to qemu-storage-daemon? */
static int check_image(const struct disk_qcow2_config *cfg, struct stat *st, struct err *err)
{
	struct header head;
	bool data;

	if (read_header(cfg->path, &head, st, err) < 0)
		return -err->code;
	data = be32toh(head.version) >= 3 && (be64toh(head.incompatible) & DATAFILE) != 0;
	if (head.crypt_method != 0)
		return err_set(err, ENOTSUP, "is encrypted, and there is no way to give it a key");
	if (cfg->backing || (head.backing_offset == 0 && !data))
		return 0;
	return err_set(err, EPERM,
		       "names %s; it is opened only with backing (whoever made the image chose "
		       "which file of this host that is)",
		       data ? "a data file" : "a backing file");
}

/* --- Its process --- */

static struct qcow2 *of_way(struct vhost_user_way *way)
{
	return (struct qcow2 *)way; /* first member */
}

static int run(struct qcow2 *q, struct err *err)
{
	int r = child_start(&q->child, q->argv, &q->listener, 1, SIGTERM, err);

	q->way.pidfd = q->child.pidfd.fd;
	q->way.lives++;
	if (r == -ENOENT)
		return err_set(err, ENOENT,
			       PROGRAM " is not installed, which serves qcow2 images: install the "
				       "package qemu-system-common, or convert the image: "
				       "qemu-img convert -O raw");
	if (r == 0 && q->loop != NULL)
		r = loop_add_fd(q->loop, &q->child.pidfd, EPOLLIN, err);
	return r;
}

/* It has ended: reap it and say how. */
static bool ended(struct qcow2 *q, char *text, size_t size)
{
	char how[48], words[200];

	if (!child_reap(&q->child, how, sizeof(how)))
		return false;
	q->way.pidfd = -1;
	child_words(&q->child, NULL, words, sizeof(words));
	snprintf(text, size, PROGRAM " ended %s%s%s", how, *words != '\0' ? ": " : "", words);
	return true;
}

static void child_ended(struct loop_fd *lfd, uint32_t events)
{
	struct qcow2 *q = container_of(lfd, struct qcow2, child.pidfd);
	char text[320];

	(void)events;
	if (ended(q, text, sizeof(text)))
		log_limited(LOG_ERROR, "%s: %s; it is started again", q->name, text);
}

static int way_connect(struct vhost_user_way *way, struct err *err)
{
	struct qcow2 *q = of_way(way);

	if (q->child.pidfd.fd < 0 && run(q, err) < 0)
		return -err->code;
	return broker_connect(q->child.by, q->rule, 0, q->node);
}

static void way_silent(struct vhost_user_way *way, bool end, struct err *err)
{
	struct qcow2 *q = of_way(way);
	char words[200];

	child_words(&q->child, NULL, words, sizeof(words));
	if (*words != '\0')
		err_context(err, PROGRAM " says: %s", words);
	/* Not waited for, as it may hang in its disk: child_ended() hears of it. */
	if (end)
		(void)pidfd_send_signal(q->child.pidfd.fd, SIGKILL, NULL, 0);
}

static int way_ended(struct vhost_user_way *way, struct err *err)
{
	char text[320];

	return ended(of_way(way), text, sizeof(text)) ? err_set(err, ECHILD, "%s", text) : 0;
}

static int way_watch(struct vhost_user_way *way, struct loop *loop, struct err *err)
{
	struct qcow2 *q = of_way(way);

	q->loop = loop;
	return loop_add_fd(loop, &q->child.pidfd, EPOLLIN, err);
}

static void way_free(struct vhost_user_way *way)
{
	struct qcow2 *q = of_way(way);

	child_end(&q->child, END_MS);
	if (q->listener >= 0)
		close(q->listener);
	if (q->node >= 0)
		close(q->node);
	free(q->file);
	free(q->format);
	free(q->export);
	free(q);
}

/* --- Its socket --- */

/* In folder @dir, ours and empty. */
static int listen_in(struct qcow2 *q, int dir, struct err *err)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int r = 0;

	/* By the descriptor, as a path may be longer than an address. */
	snprintf(addr.sun_path, sizeof(addr.sun_path), "/proc/self/fd/%d/s", dir);
	q->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (q->listener < 0 || bind(q->listener, (struct sockaddr *)&addr, sizeof(addr)) < 0)
		return err_sys(err, errno, "cannot make a socket");
	q->node = openat(dir, "s", O_PATH | O_CLOEXEC | O_NOFOLLOW);
	if (q->node < 0 || listen(q->listener, 8) < 0)
		r = errno;
	(void)unlinkat(dir, "s", 0);
	return r != 0 ? err_sys(err, r, "cannot make a socket") : 0;
}

static int make_socket(struct qcow2 *q, struct err *err)
{
	const char *tmp = getenv("TMPDIR");
	char path[4096];
	int dir, r;

	if (tmp == NULL || *tmp == '\0' || strlen(tmp) > sizeof(path) - 16)
		tmp = "/tmp";
	snprintf(path, sizeof(path), "%s/vmm-XXXXXX", tmp);
	if (mkdtemp(path) == NULL)
		return err_sys(err, errno, "cannot make a folder %s", path);
	dir = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	r = dir < 0 ? err_sys(err, errno, "cannot open %s", path) : listen_in(q, dir, err);
	if (dir >= 0)
		close(dir);
	(void)rmdir(path);
	return r;
}

/* --- Its arguments --- */

/* JSON, so that a path may have any character. @json is used up. NULL: no memory, or no UTF-8. */
static char *text_of(json_t *json)
{
	char *text = json != NULL ? json_dumps(json, JSON_COMPACT) : NULL;

	json_decref(json);
	return text;
}

static int make_arguments(struct qcow2 *q, const struct disk_qcow2_config *cfg,
			  const struct stat *st, struct err *err)
{
	json_t *format;

	q->file = text_of(json_pack("{s:s, s:s, s:s, s:s, s:b, s:s, s:{s:b}}", "driver",
				    S_ISBLK(st->st_mode) ? "host_device" : "file", "node-name",
				    "file", "filename", cfg->path, "locking", "on", "read-only",
				    cfg->ro, "discard", "unmap", "cache", "direct", cfg->direct));
	format = json_pack("{s:s, s:s, s:s, s:b, s:s}", "driver", "qcow2", "node-name", "disk",
			   "file", "file", "read-only", cfg->ro, "discard", "unmap");
	/* Whatever its header says by then. */
	if (format != NULL && !cfg->backing)
		json_object_set_new(format, "backing", json_null());
	q->format = text_of(format);
	q->export = text_of(json_pack(
		"{s:s, s:s, s:s, s:{s:s, s:s}, s:b, s:b, s:i}", "type", "vhost-user-blk", "id",
		"export", "node-name", "disk", "addr", "type", "fd", "str", "3", "writable",
		!cfg->ro, "writethrough", cfg->write_through, "num-queues", (int)cfg->queues));
	_Static_assert(CHILD_FD == 3, "the socket's number in the child");
	if (q->file == NULL || q->format == NULL || q->export == NULL)
		return err_set(err, ENOMEM, "no memory for the arguments of " PROGRAM);
	memcpy(q->argv,
	       ((const char *[]){ PROGRAM, "--blockdev", q->file, "--blockdev", q->format,
				  "--export", q->export, NULL }),
	       sizeof(q->argv));
	return 0;
}

/* From when the guest runs it is the broker who starts it again, and connects. */
static int allow(struct qcow2 *q, struct broker *broker, struct err *err)
{
	struct broker_rule run = { .kind = BROKER_RUN, .argv = q->argv };
	struct broker_rule connect = { .kind = BROKER_CONNECT };

	q->child.rule = broker_allow(broker, &run, err);
	q->rule = broker_allow(broker, &connect, err);
	q->child.by = broker;
	return q->child.rule < 0 || q->rule < 0 ? -err->code : 0;
}

struct virtio_device *disk_qcow2_create(const struct disk_qcow2_config *cfg, unsigned index,
					const struct virtio_host *host, struct err *err)
{
	struct vhost_user_config vu = { .type = "blk", .name = cfg->name, .queues = cfg->queues };
	struct qcow2 *q = calloc(1, sizeof(*q));
	struct stat st;

	if (q == NULL) {
		err_sys(err, ENOMEM, "%s", cfg->name);
		return NULL;
	}
	q->way = (struct vhost_user_way){ .connect = way_connect,
					  .watch = way_watch,
					  .silent = way_silent,
					  .ended = way_ended,
					  .free = way_free,
					  .pidfd = -1,
					  .forgets = !cfg->ro && !cfg->write_through };
	q->child = (struct child)CHILD_INIT(child_ended);
	q->listener = q->node = -1;
	snprintf(q->name, sizeof(q->name), "%s", cfg->name);
	if (check_image(cfg, &st, err) < 0 || make_arguments(q, cfg, &st, err) < 0 ||
	    make_socket(q, err) < 0 || allow(q, host->broker, err) < 0) {
		err_context(err, "%s", cfg->name);
		way_free(&q->way);
		return NULL;
	}
	vu.way = &q->way;
	/* With it, the guest could turn write-through off. */
	if (cfg->write_through)
		vu.hide = 1ULL << VIRTIO_BLK_F_CONFIG_WCE;
	return vhost_user_create(&vu, index, host, err);
}
