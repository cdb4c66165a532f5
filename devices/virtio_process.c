// SPDX-License-Identifier: Apache-2.0
/*
 * A virtio device in a process of its own: for one that works with files of the host for the
 * guest. Whoever takes over that process finds guest memory, and what the device holds open, but
 * nothing of the monitor: no KVM, no disks, no API, not its memory. And whoever takes over the
 * monitor can ask of the device what the guest can, and no more.
 *
 * Theory of operation. The process is a fork of the monitor, made when all is built and before
 * there is any thread. So it has the device as it was made, loaded state included, the eventfds of
 * its queues, and guest memory, which is shared. Both have a copy of struct virtio_device now, and
 * each of these has its part:
 *
 *	the monitor's has the transport: registers, features, status
 *		Its virtio_ops are ours: to the driver's DRIVER_OK, reset, and to pausing and
 *saving, they have the process do its part, and wait for that. Queues are offloaded
 *		(virtio_offload()): the host's kernel passes notifications and interrupts by, as
 *with vhost. the process's has the queues Its virtio_ops are the device's. Its transport is the
 *call eventfds.
 *
 * What they say to each other are messages over a socket that keeps them apart
 * (SOCK_SEQPACKET): the monitor asks and waits for the answer; by itself the process says only
 * that the device broke, as the guest's driver needs to hear of that. Where a queue stands goes
 * along with START, and comes back with the answer to STOP, so that between these the monitor's
 * copy is complete, as it is saved.
 *
 * Neither believes the other. Messages have fixed sizes, but for a saved state, which is looked
 * at as if it came from a file. A process that does not answer, or is gone, costs the guest this
 * device: it is told to reset it, and it never comes alive again. What it counts
 * (vdev->counters) is in memory that both see.
 *
 * It ends when the socket does: with the monitor, however that ends.
 *
 * #syscalls main vcpu: read write poll shutdown
 * #syscalls share: read write close epoll_ctl exit_group
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>
#include "devices/child.h"
#include "devices/virtio_process.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#define PATIENCE_MS 120000 /* for an answer: I/O that is in flight has to end first */
#define END_MS	    5000   /* for it to end by itself */
#define CHUNK_MAX   32768
#define STATE_MAX   (256u << 20) /* bytes of a saved state */

enum {
	/* Asked by the monitor. */
	ASK_START, /* struct start: serve the queues */
	ASK_STOP,  /* finish what is in flight. Answer: where each queue stands */
	ASK_RESET, /* drop what is in flight */
	ASK_STATE, /* save. Answer: MORE, and then DONE */
	/* Said by the process. */
	SAY_DONE,
	SAY_MORE,   /* bytes of a saved state */
	SAY_CANNOT, /* a sentence */
	SAY_BROKEN, /* unasked: the device needs a reset */
};

struct place {
	uint64_t desc, driver, device; /* addresses of the rings */
	uint16_t size, next_avail, next_used;
	uint16_t enabled;
};

struct start {
	uint64_t driver_features;
	struct place queue[VIRTIO_QUEUES_MAX];
};

struct message {
	uint32_t type, len; /* of what follows */
	union {
		struct start start;
		struct place queue[VIRTIO_QUEUES_MAX];
		char text[ERR_MSG_MAX];
		uint8_t bytes[CHUNK_MAX];
	};
};
#define HEAD offsetof(struct message, bytes)

struct virtio_process {
	struct virtio_processes *all;
	struct virtio_process *next;
	struct virtio_device *vdev;
	const struct virtio_process_ops *body;
	char name[16];
	struct virtio_ops ops; /* the monitor's */
	struct child child;
	struct loop_fd socket; /* to the other one; -1: not started, or lost */
	bool running, lost;

	/* The process's. */
	struct virtio_transport transport;
	struct loop *loop;
};

static struct virtio_process *process_of(struct virtio_device *vdev)
{
	/* The only virtio_ops that are not const are those in here. */
	return container_of((struct virtio_ops *)(uintptr_t)vdev->ops, struct virtio_process, ops);
}

/* --- Messages --- */

static int send_message(int fd, const struct message *m)
{
	size_t size = HEAD + m->len;
	ssize_t n;

	do
		n = write(fd, m, size);
	while (n < 0 && errno == EINTR);
	return n == (ssize_t)size ? 0 : -EPIPE;
}

/* The next one, whole and of a size that fits its type's bounds. 0 or -errno; -EPIPE: no more. */
static int receive(int fd, struct message *m)
{
	ssize_t n;

	do
		n = read(fd, m, sizeof(*m));
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	return (size_t)n >= HEAD && (size_t)n == HEAD + m->len ? 0 : -EPIPE;
}

static void put_places(struct place *place, const struct virtio_device *vdev)
{
	for (unsigned q = 0; q < vdev->nqueues; q++) {
		const struct virtqueue *vq = &vdev->queue[q].vq;

		place[q] = (struct place){ .desc = vq->desc,
					   .driver = vq->driver,
					   .device = vq->device,
					   .size = vq->size,
					   .next_avail = vq->next_avail,
					   .next_used = vq->next_used,
					   .enabled = vq->enabled };
	}
}

/* --- The process --- */

static void answer(struct virtio_process *p, struct message *m, uint32_t type, size_t len)
{
	m->type = type;
	m->len = (uint32_t)len;
	if (send_message(p->socket.fd, m) < 0)
		loop_quit(p->loop, 0);
}

static void interrupt(struct virtio_transport *t, int q)
{
	struct virtio_process *p = container_of(t, struct virtio_process, transport);
	struct message m = { .type = SAY_BROKEN };

	if (q >= 0)
		(void)eventfd_write(p->vdev->queue[q].call.fd, 1);
	else if (send_message(p->socket.fd, &m) < 0)
		loop_quit(p->loop, 0);
}

/* All eventfds are in place. */
static int wired(struct virtio_transport *t, unsigned q, int fd, bool on)
{
	(void)t, (void)q, (void)fd, (void)on;
	return 0;
}

static const struct virtio_transport_ops transport_ops = {
	.interrupt = interrupt,
	.ioeventfd = wired,
	.irqfd = wired,
};

/* Lock held. */
static void serve_start(struct virtio_device *vdev, const struct start *start)
{
	vdev->quiesced = true;
	vdev->driver_features = start->driver_features;
	vdev->status = VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER |
		       VIRTIO_CONFIG_S_FEATURES_OK | VIRTIO_CONFIG_S_DRIVER_OK;
	for (unsigned q = 0; q < vdev->nqueues; q++) {
		struct virtqueue *vq = &vdev->queue[q].vq;
		const struct place *place = &start->queue[q];

		virtqueue_reset(vq);
		vq->desc = place->desc;
		vq->driver = place->driver;
		vq->device = place->device;
		vq->size = place->size;
		vq->next_avail = place->next_avail;
		vq->next_used = place->next_used;
		vq->enabled = place->enabled != 0;
	}
}

/* False: it could not, and has said so. */
static bool serve_state(struct virtio_process *p, struct message *m)
{
	struct state *st = state_new_save();
	struct err err = ERR_INIT;
	const uint8_t *data;
	const void *saved;
	size_t len = 0, n;
	int r = -ENOMEM;

	if (st != NULL) {
		state_begin(st, "device", 1);
		p->vdev->ops->state(p->vdev, st);
		state_end(st);
		r = state_finish(st, &saved, &len, &err);
	}
	for (data = r == 0 ? saved : NULL; r == 0 && len > 0; data += n, len -= n) {
		n = len < CHUNK_MAX ? len : CHUNK_MAX;
		memcpy(m->bytes, data, n);
		answer(p, m, SAY_MORE, n);
	}
	state_free(st);
	if (r == 0)
		return true;
	snprintf(m->text, sizeof(m->text), "%s", r == -ENOMEM ? "no memory" : err.msg);
	answer(p, m, SAY_CANNOT, strlen(m->text) + 1);
	return false;
}

static void asked(struct loop_fd *lfd, uint32_t events)
{
	struct virtio_process *p = container_of(lfd, struct virtio_process, socket);
	struct virtio_device *vdev = p->vdev;
	struct message m;
	bool done = true;
	size_t len = 0;

	(void)events;
	if (receive(lfd->fd, &m) < 0) {
		loop_quit(p->loop, 0); /* the monitor is gone */
		return;
	}
	if (m.type == ASK_START && m.len == sizeof(m.start)) {
		pthread_mutex_lock(&vdev->lock);
		serve_start(vdev, &m.start);
		pthread_mutex_unlock(&vdev->lock);
		virtio_resume(vdev);
	} else if (m.type == ASK_STOP) {
		virtio_quiesce(vdev);
		memset(m.queue, 0, sizeof(m.queue));
		put_places(m.queue, vdev);
		len = sizeof(m.queue);
	} else if (m.type == ASK_RESET) {
		pthread_mutex_lock(&vdev->lock);
		virtio_reset(vdev);
		pthread_mutex_unlock(&vdev->lock);
	} else if (m.type == ASK_STATE) {
		pthread_mutex_lock(&vdev->lock);
		done = serve_state(p, &m);
		pthread_mutex_unlock(&vdev->lock);
	} else {
		loop_quit(p->loop, 0);
		return;
	}
	if (done)
		answer(p, &m, SAY_DONE, len);
}

static int by_number(const void *a, const void *b)
{
	const int *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

struct kept {
	int *fds; /* NULL: they are counted */
	size_t n;
};

static void keep(void *arg, int fd)
{
	struct kept *kept = arg;

	if (kept->fds != NULL)
		kept->fds[kept->n] = fd;
	kept->n++;
}

static void keep_all(struct virtio_process *p, struct kept *kept)
{
	keep(kept, STDERR_FILENO);
	keep(kept, log_get_fd());
	keep(kept, p->socket.fd);
	for (unsigned q = 0; q < p->vdev->nqueues; q++) {
		keep(kept, p->vdev->queue[q].kick.fd);
		keep(kept, p->vdev->queue[q].call.fd);
	}
	p->body->descriptors(p->vdev, keep, kept);
}

/* Everything else was the monitor's. */
static int close_others(struct virtio_process *p)
{
	struct kept kept = { NULL, 0 };
	int from = 0;

	keep_all(p, &kept);
	kept.fds = calloc(kept.n, sizeof(int));
	if (kept.fds == NULL)
		return -ENOMEM;
	kept.n = 0;
	keep_all(p, &kept);
	qsort(kept.fds, kept.n, sizeof(int), by_number);
	for (size_t i = 0; i < kept.n; i++) {
		if (kept.fds[i] > from &&
		    close_range((unsigned)from, (unsigned)kept.fds[i] - 1, 0) < 0)
			return -errno;
		if (kept.fds[i] >= from)
			from = kept.fds[i] + 1;
	}
	free(kept.fds);
	return close_range((unsigned)from, ~0U, 0) < 0 ? -errno : 0;
}

static int begin(struct virtio_process *p, pid_t parent, struct err *err)
{
	struct virtio_device *vdev = p->vdev;
	sigset_t all;

	(void)prctl(PR_SET_NAME, p->name); /* only for people who look */
	/* So those are for the monitor. */
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent)
		return err_sys(err, ESRCH, "the monitor is gone");
	if (close_others(p) < 0)
		return err_sys(err, errno, "cannot close what is the monitor's");
	p->loop = vdev->loop = loop_new(err);
	if (p->loop == NULL)
		return -err->code;
	/* Not the work that waits in the monitor's loop. */
	vdev->work = (struct loop_work){ .fn = vdev->work.fn };
	p->transport = (struct virtio_transport){ &transport_ops, vdev };
	vdev->transport = &p->transport;
	p->socket.fn = asked;
	if (loop_add_fd(p->loop, &p->socket, EPOLLIN, err) < 0)
		return -err->code;
	for (unsigned q = 0; q < vdev->nqueues; q++)
		if (loop_add_fd(p->loop, &vdev->queue[q].kick, EPOLLIN | EPOLLET, err) < 0)
			return -err->code;
	if (p->body->begin(vdev, err) < 0 ||
	    (p->all->enter != NULL && p->all->enter(p->all, err) < 0) ||
	    p->body->setup(vdev, err) < 0)
		return -err->code;
	return p->all->confine != NULL ? p->all->confine(p->all, err) : 0;
}

static int process_main(void *arg, int socket, pid_t parent)
{
	struct virtio_process *p = arg;
	struct err err = ERR_INIT;
	struct message m;

	p->socket.fd = socket;
	m.type = begin(p, parent, &err) == 0 ? SAY_DONE : SAY_CANNOT;
	m.len = (uint32_t)snprintf(m.text, sizeof(m.text), "%s", err.msg) + 1;
	if (send_message(p->socket.fd, &m) < 0 || m.type != SAY_DONE)
		return 1;
	(void)loop_run(p->loop);
	virtio_quiesce(p->vdev); /* what the guest has been told is written is on its way */
	return 0;
}

/* --- The monitor --- */

static void say_lost(struct virtio_process *p, const char *what)
{
	if (!p->lost)
		log_limited(LOG_ERROR, "%s: %s; the guest is without it", p->vdev->name, what);
	p->lost = true;
	p->running = false;
	virtio_broken(p->vdev);
	(void)shutdown(p->socket.fd, SHUT_RDWR); /* it ends, and the loop hears of that */
}

/* Wait for the next message that is an answer. Lock held. 0 or -errno. */
static int wait_for(struct virtio_process *p, struct message *m)
{
	uint64_t end = loop_now_ns() + PATIENCE_MS * 1000000ULL, now;
	struct pollfd pfd = { .fd = p->socket.fd, .events = POLLIN };
	int r = 0;

	while (r == 0 && (now = loop_now_ns()) < end) {
		if (poll(&pfd, 1, (int)((end - now) / 1000000) + 1) <= 0)
			continue; /* a signal, or the end */
		r = receive(p->socket.fd, m);
		if (r == 0 && m->type != SAY_BROKEN)
			return 0;
		if (r == 0)
			virtio_broken(p->vdev);
	}
	return r < 0 ? r : -ETIMEDOUT;
}

/* The same; when there is none the process is lost. */
static int hear(struct virtio_process *p, struct message *m)
{
	int r = wait_for(p, m);

	if (r < 0)
		say_lost(p, r == -ETIMEDOUT ? "its process does not answer" : "its process ended");
	return r;
}

/* Ask, and wait until it is DONE, with @len bytes. Lock held. 0 or -errno, and then it is lost. */
static int ask(struct virtio_process *p, struct message *m, uint32_t type, size_t size, size_t len)
{
	int r;

	if (p->lost)
		return -EPIPE;
	m->type = type;
	m->len = (uint32_t)size;
	r = send_message(p->socket.fd, m);
	if (r < 0) {
		say_lost(p, "its process ended");
		return r;
	}
	r = hear(p, m);
	if (r == 0 && (m->type != SAY_DONE || m->len != len)) {
		say_lost(p, "its process broke the rules");
		r = -EPROTO;
	}
	return r;
}

static void no_kick(struct virtio_device *vdev, unsigned q)
{
	(void)vdev, (void)q; /* the process has heard of it */
}

static void update(struct virtio_device *vdev)
{
	struct virtio_process *p = process_of(vdev);
	struct message m;
	int kick, call;

	if (p->running || !virtio_live(vdev))
		return;
	if (p->lost) {
		virtio_broken(vdev);
		return;
	}
	memset(&m.start, 0, sizeof(m.start));
	m.start.driver_features = vdev->driver_features;
	put_places(m.start.queue, vdev);
	for (unsigned q = 0; q < vdev->nqueues; q++) {
		if (vdev->queue[q].vq.started && virtio_offload(vdev, q, true, &kick, &call) < 0) {
			virtio_give_up(vdev, "queue %u cannot be handed to its process", q);
			return;
		}
	}
	p->running = ask(p, &m, ASK_START, sizeof(m.start), 0) == 0;
}

static void reset(struct virtio_device *vdev)
{
	struct virtio_process *p = process_of(vdev);
	struct message m;

	/* Also one that never ran: it may have been loaded. */
	(void)ask(p, &m, ASK_RESET, 0, 0);
	p->running = false;
}

static void quiesce(struct virtio_device *vdev)
{
	struct virtio_process *p = process_of(vdev);
	struct message m;

	if (!p->running || ask(p, &m, ASK_STOP, 0, sizeof(m.queue)) < 0)
		return;
	p->running = false;
	for (unsigned q = 0; q < vdev->nqueues; q++) {
		struct virtqueue *vq = &vdev->queue[q].vq;
		const struct place *place = &m.queue[q];

		if ((uint16_t)(place->next_avail - place->next_used) > vq->max_size) {
			say_lost(p, "its process broke the rules");
			return;
		}
		vq->next_avail = place->next_avail;
		vq->next_used = place->next_used;
	}
}

/* What it saves, [*len], to be freed; NULL: it is lost, or (*why) it could not. */
static uint8_t *fetch_state(struct virtio_process *p, struct message *m, size_t *len,
			    const char **why)
{
	uint8_t *data = NULL, *more;
	int r = p->lost ? -EPIPE : 0;

	*why = "its process is gone";
	*len = 0;
	m->type = ASK_STATE;
	m->len = 0;
	if (r == 0 && send_message(p->socket.fd, m) < 0)
		r = -EPIPE;
	while (r == 0 && (r = hear(p, m)) == 0 && m->type == SAY_MORE && *len <= STATE_MAX) {
		more = realloc(data, *len + m->len + 1);
		if (more == NULL) {
			say_lost(p, "no memory for what it saves");
			free(data);
			return NULL;
		}
		data = more;
		memcpy(data + *len, m->bytes, m->len);
		*len += m->len;
	}
	if (r == 0 && m->type == SAY_CANNOT && m->len > 0 && m->len <= sizeof(m->text)) {
		m->text[m->len - 1] = '\0';
		*why = m->text;
	} else if (r == 0 && m->type == SAY_DONE) {
		return data;
	} else if (r == 0) {
		say_lost(p, "its process broke the rules");
	}
	free(data);
	return NULL;
}

/* Saved only: the state is loaded before the process starts. */
static void save(struct virtio_device *vdev, struct state *st)
{
	struct virtio_process *p = process_of(vdev);
	struct err err = ERR_INIT;
	struct state *from = NULL;
	struct message m;
	const char *why;
	uint8_t *data;
	size_t len;

	data = fetch_state(p, &m, &len, &why);
	if (data == NULL) {
		state_fail(st, "%s: %s", vdev->name, why);
		return;
	}
	from = state_new_load(data, len, &err);
	if (from != NULL) {
		state_begin(from, "device", 1);
		state_splice(st, from);
		state_end(from);
		state_finish(from, NULL, NULL, &err);
	}
	if (err.code != 0)
		state_fail(st, "%s: its process has saved: %s", vdev->name, err.msg);
	state_free(from);
	free(data);
}

/* It says something by itself, or has ended. Loop. */
static void heard(struct loop_fd *lfd, uint32_t events)
{
	struct virtio_process *p = container_of(lfd, struct virtio_process, socket);
	struct pollfd ended = { .fd = p->child.pidfd.fd, .events = POLLIN };
	struct pollfd more = { .fd = lfd->fd, .events = POLLIN };
	char how[32] = "by force", text[64];
	struct message m;

	(void)events;
	pthread_mutex_lock(&p->vdev->lock);
	/* A conversation of another thread's may have had it. */
	if (poll(&more, 1, 0) > 0 && receive(lfd->fd, &m) == 0 && m.type == SAY_BROKEN) {
		virtio_broken(p->vdev);
	} else if (more.revents != 0) {
		loop_del_fd(lfd);
		(void)shutdown(lfd->fd, SHUT_RDWR); /* if it has not ended, it does now */
		(void)poll(&ended, 1, END_MS);
		(void)child_reap(&p->child, how, sizeof(how));
		child_stop(&p->child);
		snprintf(text, sizeof(text), "its process ended %s", how);
		if (p->lost)
			log_limited(LOG_ERROR, "%s: %s", p->vdev->name, text);
		say_lost(p, text);
	}
	pthread_mutex_unlock(&p->vdev->lock);
}

/* --- Life --- */

struct virtio_process *virtio_process_new(struct virtio_processes *all, struct virtio_device *vdev,
					  const char *name, const struct virtio_process_ops *ops,
					  struct err *err)
{
	struct virtio_process *p = calloc(1, sizeof(*p));
	struct virtio_counters *counters = mmap(NULL, sizeof(*counters), PROT_READ | PROT_WRITE,
						MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (p == NULL || counters == MAP_FAILED || virtio_make_eventfds(vdev) < 0) {
		err_sys(err, errno, "%s: cannot prepare a process for it", vdev->name);
		if (counters != MAP_FAILED)
			munmap(counters, sizeof(*counters));
		free(p);
		return NULL;
	}
	vdev->counters = counters;
	p->all = all;
	p->vdev = vdev;
	p->body = ops;
	snprintf(p->name, sizeof(p->name), "%s", name);
	p->child = (struct child)CHILD_INIT(NULL);
	p->socket.fd = -1;
	p->next = all->first;
	all->first = p;
	return p;
}

static int start(struct virtio_process *p, struct err *err)
{
	struct virtio_device *vdev = p->vdev;

	p->socket.fd = child_fork(&p->child, process_main, p, err);
	if (p->socket.fd < 0)
		return err_context(err, "%s", vdev->name);
	pthread_mutex_lock(&vdev->lock);
	p->ops = *vdev->ops;
	p->ops.kick = no_kick;
	p->ops.update = update;
	p->ops.reset = reset;
	p->ops.quiesce = quiesce;
	p->ops.resume = NULL;
	p->ops.rescan = NULL;
	p->ops.config_write = NULL;
	p->ops.state = vdev->ops->state != NULL ? save : NULL;
	vdev->ops = &p->ops;
	p->body->left(vdev);
	pthread_mutex_unlock(&vdev->lock);
	return 0;
}

int virtio_processes_start(struct virtio_processes *all, struct err *err)
{
	for (struct virtio_process *p = all->first; p != NULL; p = p->next)
		if (start(p, err) < 0)
			return -err->code;
	return 0;
}

static int begun(struct virtio_process *p, struct err *err)
{
	struct message m;
	int r = wait_for(p, &m);

	if (r == 0 && m.type == SAY_CANNOT && m.len > 0 && m.len <= sizeof(m.text)) {
		m.text[m.len - 1] = '\0';
		return err_set(err, EIO, "%s: %s", p->vdev->name, m.text);
	}
	if (r < 0 || m.type != SAY_DONE)
		return err_set(err, EIO, "%s: its process did not start", p->vdev->name);
	p->socket.fn = heard;
	return loop_add_fd(p->vdev->loop, &p->socket, EPOLLIN, err);
}

int virtio_processes_wait(struct virtio_processes *all, struct err *err)
{
	for (struct virtio_process *p = all->first; p != NULL; p = p->next)
		if (begun(p, err) < 0)
			return -err->code;
	return 0;
}

void virtio_process_free(struct virtio_process *p)
{
	struct virtio_process **at;

	if (p == NULL)
		return;
	for (at = &p->all->first; *at != NULL && *at != p; at = &(*at)->next)
		;
	if (*at == p)
		*at = p->next;
	loop_del_fd(&p->socket);
	if (p->socket.fd >= 0)
		close(p->socket.fd);
	child_wait(&p->child, END_MS);
	munmap(p->vdev->counters, sizeof(*p->vdev->counters));
	p->vdev->counters = &p->vdev->own_counters;
	free(p);
}
