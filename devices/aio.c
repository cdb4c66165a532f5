// SPDX-License-Identifier: Apache-2.0
/*
 * File I/O that does not block: see aio.h.
 *
 * Theory of operation, io_uring. One ring for each owner. aio_queue() links requests into a
 * list, aio_run() moves as many as the ring holds into it and enters the kernel once. What
 * the page cache answers has completed when that call returns, and is reaped right away: such
 * a read costs one system call and no wake-up. What takes longer makes the ring's own
 * descriptor readable, which the owner's loop watches; no eventfd has to be read. Never more
 * than AIO_DEPTH are in flight, so that the completion ring cannot overflow.
 *
 * The ring is restricted (Linux 5.10) to the operations used here: io_uring passes by a seccomp
 * filter, and must not be a way to open, connect or anything else for whoever takes over this
 * process. Files are not registered with it: the kernel would hold on to them, and so to
 * their locks, for a while after we closed them or died.
 *
 * Theory of operation, threads. Where io_uring is forbidden or missing (containers, sysctl
 * kernel.io_uring_disabled) AIO_WORKERS threads do the same with preadv2() and its like.
 * Pointers to requests go to them through one pipe and come back through another: a write of
 * eight bytes is atomic and the pipes hold more than AIO_DEPTH of them, so no write blocks,
 * and there is no lock. They start with the monitor's other threads, and are confined before there
 * is a request.
 *
 * Which thread: requests may be started by one thread and reaped by another, one at a time
 * (the owner's lock). The kernel may need the starter's thread for a moment to complete one;
 * that works also while it sleeps.
 *
 * #syscalls main vcpu io share: io_uring_enter read write futex
 * #syscalls main vcpu share: poll
 * #syscalls files: io_uring_setup clone clone3 rseq set_robust_list pipe2 mprotect
 * #syscalls files: preadv2 pwritev2 fdatasync fsync fallocate
 * #syscalls work: read write preadv2 pwritev2 fdatasync fsync fallocate futex exit
 * #syscalls work: madvise rt_sigprocmask
 */
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "devices/aio.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#define AIO_DEPTH   256
#define AIO_RING    128 /* entries to submit at once; the completion ring has twice as many */
#define AIO_BATCH   32
#define AIO_WORKERS 4
#define AIO_STACK   (256 << 10)
/* Rounds of submitting what completions led to, before the loop gets a turn. */
#define AIO_ROUNDS   4
#define AIO_AGAIN_NS 1000000

struct aio {
	void (*ready)(void *owner);
	void *owner;
	int fds[AIO_FILES_MAX];
	struct loop *loop; /* NULL while not watched */
	struct loop_fd lfd;
	struct loop_timer again;
	bool is_ring, dying;

	struct aio_req *first, **last; /* waiting to be started */
	unsigned queued, inflight;

	struct io_uring ring;

	struct iothreads *all; /* or NULL */
	struct iothread_more more;
	bool inherits;	    /* the workers are confined as who made them */
	int to[2], from[2]; /* pipes: requests to the workers, and done ones back */
	unsigned nworkers;
	pthread_t worker[AIO_WORKERS];
};

_Static_assert(AIO_DEPTH <= 2 * AIO_RING, "completions overflow");

static void ready_fd(struct loop_fd *lfd, uint32_t events)
{
	struct aio *aio = container_of(lfd, struct aio, lfd);

	(void)events;
	aio->ready(aio->owner);
}

static void ready_again(struct loop_timer *timer)
{
	struct aio *aio = container_of(timer, struct aio, again);

	aio->ready(aio->owner);
}

/* --- The queue --- */

void aio_queue(struct aio *aio, struct aio_req *req)
{
	req->next = NULL;
	*aio->last = req;
	aio->last = &req->next;
	aio->queued++;
}

/* The first in line, if one more may be in flight. */
static struct aio_req *take(struct aio *aio)
{
	struct aio_req *req = aio->first;

	if (req == NULL || aio->inflight >= AIO_DEPTH)
		return NULL;
	aio->first = req->next;
	if (aio->first == NULL)
		aio->last = &aio->first;
	aio->queued--;
	aio->inflight++;
	return req;
}

unsigned aio_pending(const struct aio *aio)
{
	return aio->queued + aio->inflight;
}

/* --- io_uring --- */

static int file_of(const struct aio *aio, const struct aio_req *req)
{
	return req->file == AIO_FD ? req->fd : aio->fds[req->file];
}

/* RWF_* of a READ or WRITE. */
static int flags_of(const struct aio_req *req)
{
	return req->file == AIO_FD ? (int)req->flags : 0;
}

static void ring_prepare(const struct aio *aio, struct io_uring_sqe *sqe, const struct aio_req *req)
{
	int file = file_of(aio, req);

	switch (req->op) {
	case AIO_READ:
		/* One buffer spares the kernel a look at the vector. */
		if (req->niov == 1)
			io_uring_prep_read(sqe, file, req->iov->iov_base,
					   (unsigned)req->iov->iov_len, req->offset);
		else
			io_uring_prep_readv(sqe, file, req->iov, req->niov, req->offset);
		sqe->rw_flags = flags_of(req);
		break;
	case AIO_WRITE:
		if (req->niov == 1)
			io_uring_prep_write(sqe, file, req->iov->iov_base,
					    (unsigned)req->iov->iov_len, req->offset);
		else
			io_uring_prep_writev(sqe, file, req->iov, req->niov, req->offset);
		sqe->rw_flags = flags_of(req);
		break;
	case AIO_WRITE_DURABLE:
		io_uring_prep_writev2(sqe, file, req->iov, req->niov, req->offset, RWF_DSYNC);
		break;
	case AIO_SYNC:
		io_uring_prep_fsync(sqe, file, IORING_FSYNC_DATASYNC);
		break;
	case AIO_PUNCH:
		io_uring_prep_fallocate(sqe, file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
					(off_t)req->offset, (off_t)req->len);
		break;
	case AIO_ZERO:
		io_uring_prep_fallocate(sqe, file, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE,
					(off_t)req->offset, (off_t)req->len);
		break;
	case AIO_FSYNC:
		io_uring_prep_fsync(sqe, file, 0);
		break;
	case AIO_FALLOCATE:
		io_uring_prep_fallocate(sqe, file, (int)req->flags, (off_t)req->offset,
					(off_t)req->len);
		break;
	}
	io_uring_sqe_set_data(sqe, (void *)req);
}

/* Move what is queued into the ring. */
static void ring_fill(struct aio *aio)
{
	while (aio->first != NULL && aio->inflight < AIO_DEPTH &&
	       io_uring_sq_space_left(&aio->ring) > 0) {
		struct io_uring_sqe *sqe = io_uring_get_sqe(&aio->ring);

		ring_prepare(aio, sqe, take(aio));
	}
}

/* Tell the kernel of it; wait for a completion if @wait. False: it has no memory just now. */
static bool ring_submit(struct aio *aio, bool wait)
{
	for (;;) {
		int r;

		ring_fill(aio);
		if (io_uring_sq_ready(&aio->ring) == 0 && !wait)
			return true;
		r = io_uring_submit_and_wait(&aio->ring, wait ? 1 : 0);
		if (r == -EINTR)
			continue;
		if (r < 0) {
			log_limited(LOG_WARN, "disk I/O: io_uring_enter: %s", strerrordesc_np(-r));
			return false;
		}
		if (wait)
			return true;
		if (r == 0 && io_uring_sq_ready(&aio->ring) > 0)
			return false;
	}
}

static int ring_restrict(struct aio *aio)
{
	static const uint8_t ops[] = { IORING_OP_READV, IORING_OP_WRITEV, IORING_OP_READ,
				       IORING_OP_WRITE, IORING_OP_FSYNC,  IORING_OP_FALLOCATE };
	struct io_uring_restriction res[sizeof(ops)] = { 0 };
	int fd = aio->ring.ring_fd;

	for (unsigned i = 0; i < sizeof(ops); i++) {
		res[i].opcode = IORING_RESTRICTION_SQE_OP;
		res[i].sqe_op = ops[i];
	}
	/* The shared liburing 2.3 forgets to export its functions for these two. */
	if (syscall(SYS_io_uring_register, fd, IORING_REGISTER_RESTRICTIONS, res, sizeof(ops)) <
		    0 ||
	    syscall(SYS_io_uring_register, fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0) < 0)
		return -errno;
	return 0;
}

/* 0, or -errno: no io_uring on this host, or not for us. */
static int ring_init(struct aio *aio)
{
	/* Without COOP_TASKRUN (5.19) a completion interrupts the thread that submitted it. */
	struct io_uring_params params = { .flags = IORING_SETUP_R_DISABLED |
						   IORING_SETUP_COOP_TASKRUN };
	int r = io_uring_queue_init_params(AIO_RING, &aio->ring, &params);

	if (r == -EINVAL) {
		params = (struct io_uring_params){ .flags = IORING_SETUP_R_DISABLED };
		r = io_uring_queue_init_params(AIO_RING, &aio->ring, &params);
	}
	if (r < 0)
		return r;
	r = ring_restrict(aio);
	if (r == 0) /* whoever can write to it makes us read and write anything, anywhere */
		r = io_uring_ring_dontfork(&aio->ring);
	if (r < 0) {
		io_uring_queue_exit(&aio->ring);
		return r;
	}
	aio->lfd.fd = aio->ring.ring_fd;
	return 0;
}

static unsigned ring_reap(struct aio *aio, struct aio_req *done[AIO_BATCH])
{
	struct io_uring_cqe *cqe[AIO_BATCH];
	unsigned n = io_uring_peek_batch_cqe(&aio->ring, cqe, AIO_BATCH);

	for (unsigned i = 0; i < n; i++) {
		done[i] = io_uring_cqe_get_data(cqe[i]);
		done[i]->result = cqe[i]->res;
	}
	io_uring_cq_advance(&aio->ring, n);
	return n;
}

/* --- Threads --- */

static int64_t perform(int fd, const struct aio_req *req)
{
	const struct iovec *iov = req->iov;
	int niov = (int)req->niov;
	off_t offset = (off_t)req->offset;
	ssize_t r = -1;

	switch (req->op) {
	case AIO_READ:
		r = preadv2(fd, iov, niov, offset, flags_of(req));
		break;
	case AIO_WRITE:
		r = pwritev2(fd, iov, niov, offset, flags_of(req));
		break;
	case AIO_WRITE_DURABLE:
		r = pwritev2(fd, iov, niov, offset, RWF_DSYNC);
		break;
	case AIO_SYNC:
		r = fdatasync(fd);
		break;
	case AIO_PUNCH:
		r = fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset,
			      (off_t)req->len);
		break;
	case AIO_ZERO:
		r = fallocate(fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, offset,
			      (off_t)req->len);
		break;
	case AIO_FSYNC:
		r = fsync(fd);
		break;
	case AIO_FALLOCATE:
		r = fallocate(fd, (int)req->flags, offset, (off_t)req->len);
		break;
	}
	return r < 0 ? -errno : r;
}

/* Not a request: a worker is ready, or could not be confined. */
#define READY	  NULL
#define NOT_READY ((struct aio_req *)-1)

static struct aio_req *confine(struct aio *aio)
{
	struct iothreads *all = aio->all;
	struct err err = ERR_INIT;

	if (aio->inherits || all == NULL || all->confine == NULL ||
	    all->confine(all, IOTHREAD_WORKER, &err) == 0)
		return READY;
	log_error("disk thread: %s", err.msg);
	return NOT_READY;
}

/* Ends when the owner closes its end of the pipe. */
static void *worker(void *arg)
{
	struct aio *aio = arg;
	struct aio_req *req;

	if (!aio->inherits)
		(void)pthread_setname_np(pthread_self(), "aio"); /* only for people who look */
	req = confine(aio);
	(void)!write(aio->from[1], &req, sizeof(req));
	while (read(aio->to[0], &req, sizeof(req)) == (ssize_t)sizeof(req)) {
		req->result = perform(file_of(aio, req), req);
		(void)!write(aio->from[1], &req, sizeof(req));
	}
	return NULL;
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static void threads_fini(struct aio *aio)
{
	if (aio->more.start != NULL)
		iothreads_remove(aio->all, &aio->more);
	close_fd(&aio->to[1]);
	for (unsigned i = 0; i < aio->nworkers; i++)
		pthread_join(aio->worker[i], NULL);
	aio->nworkers = 0;
	close_fd(&aio->to[0]);
	close_fd(&aio->from[0]);
	close_fd(&aio->from[1]);
}

/* Until @n workers are ready. */
static int wait_ready(struct aio *aio, unsigned n, struct err *err)
{
	struct pollfd pfd = { .fd = aio->from[0], .events = POLLIN };
	struct aio_req *said;

	while (n > 0) {
		if (read(aio->from[0], &said, sizeof(said)) != (ssize_t)sizeof(said))
			(void)poll(&pfd, 1, -1);
		else if (said == NOT_READY)
			return err_set(err, EPERM, "cannot confine a disk thread");
		else
			n--;
	}
	return 0;
}

static int threads_start(struct aio *aio, struct err *err)
{
	pthread_attr_t attr;
	sigset_t all, old;
	int r = 0;

	/* Signals are the main thread's. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, AIO_STACK);
	while (r == 0 && aio->nworkers < AIO_WORKERS) {
		r = pthread_create(&aio->worker[aio->nworkers], &attr, worker, aio);
		if (r == 0)
			aio->nworkers++;
	}
	pthread_attr_destroy(&attr);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (aio->nworkers == 0)
		return err_sys(err, r, "cannot start a disk thread");
	return wait_ready(aio, aio->nworkers, err);
}

static int start_later(struct iothread_more *more, struct err *err)
{
	return threads_start(container_of(more, struct aio, more), err);
}

static int threads_init(struct aio *aio, bool now, struct err *err)
{
	if (pipe2(aio->to, O_CLOEXEC) < 0 || pipe2(aio->from, O_CLOEXEC) < 0 ||
	    fcntl(aio->from[0], F_SETFL, O_NONBLOCK) < 0)
		return err_sys(err, errno, "cannot make a pipe for disk threads");
	aio->lfd.fd = aio->from[0];
	aio->inherits = aio->all != NULL && aio->all->started;
	if (now || aio->all == NULL || aio->inherits)
		return threads_start(aio, err);
	aio->more.start = start_later;
	iothreads_add(aio->all, &aio->more);
	return 0;
}

static void threads_submit(struct aio *aio)
{
	struct aio_req *req;

	while ((req = take(aio)) != NULL)
		(void)!write(aio->to[1], &req, sizeof(req));
}

static unsigned threads_reap(struct aio *aio, struct aio_req *done[AIO_BATCH])
{
	ssize_t n = read(aio->from[0], done, AIO_BATCH * sizeof(struct aio_req *));

	return n > 0 ? (unsigned)n / sizeof(struct aio_req *) : 0;
}

/* --- Both --- */

/* Start what is queued; false: not now. */
static bool submit(struct aio *aio)
{
	if (aio->is_ring)
		return ring_submit(aio, false);
	threads_submit(aio);
	return true;
}

/* Call `done` for what has completed; how many did. */
static unsigned reap(struct aio *aio)
{
	struct aio_req *done[AIO_BATCH];
	unsigned n, sum = 0;

	do {
		n = aio->is_ring ? ring_reap(aio, done) : threads_reap(aio, done);
		aio->inflight -= n;
		sum += n;
		for (unsigned i = 0; i < n; i++) {
			if (aio->dying)
				continue;
			if (done[i]->result == -EINTR)
				aio_queue(aio, done[i]);
			else
				done[i]->done(done[i], done[i]->result);
		}
	} while (n == AIO_BATCH && sum < AIO_DEPTH);
	return sum;
}

void aio_run(struct aio *aio)
{
	bool ok = submit(aio);

	for (unsigned round = 0; round < AIO_ROUNDS; round++) {
		if (aio->inflight == 0 || reap(aio) == 0)
			break;
		if (aio->first != NULL)
			ok = submit(aio);
	}
	/* With nothing in flight no completion would bring us back. */
	if (!ok && aio->loop != NULL)
		loop_arm(aio->loop, &aio->again, AIO_AGAIN_NS);
}

void aio_wait(struct aio *aio)
{
	struct pollfd pfd = { .fd = aio->lfd.fd, .events = POLLIN };

	if (aio_pending(aio) == 0)
		return;
	if (!aio->is_ring) {
		threads_submit(aio);
		(void)poll(&pfd, 1, -1);
	} else if (!ring_submit(aio, true)) {
		(void)poll(&pfd, 1, 1);
	}
	reap(aio);
}

struct aio *aio_new(const int *fds, unsigned nfds, unsigned flags, struct iothreads *all,
		    void (*ready)(void *owner), void *owner, struct err *err)
{
	struct aio *aio = calloc(1, sizeof(*aio));
	int r = -ENOSYS;

	if (aio == NULL) {
		err_sys(err, ENOMEM, "disk I/O");
		return NULL;
	}
	aio->all = all;
	aio->ready = ready;
	aio->owner = owner;
	aio->last = &aio->first;
	aio->lfd.fn = ready_fd;
	aio->again.fn = ready_again;
	aio->to[0] = aio->to[1] = aio->from[0] = aio->from[1] = -1;
	if (nfds > 0)
		memcpy(aio->fds, fds, nfds * sizeof(fds[0]));
	if (!(flags & AIO_THREADS)) {
		r = ring_init(aio);
		aio->is_ring = r == 0;
		if (r < 0)
			log_info("disk I/O: no io_uring here (%s), using threads",
				 strerrordesc_np(-r));
	}
	if (r < 0 && threads_init(aio, (flags & AIO_NOW) != 0, err) < 0) {
		threads_fini(aio);
		free(aio);
		return NULL;
	}
	return aio;
}

bool aio_is_ring(const struct aio *aio)
{
	return aio->is_ring;
}

int aio_watch(struct aio *aio, struct loop *loop, struct err *err)
{
	if (aio->loop != NULL)
		return 0;
	if (loop_add_fd(loop, &aio->lfd, EPOLLIN, err) < 0)
		return err_context(err, "disk I/O");
	aio->loop = loop;
	return 0;
}

void aio_free(struct aio *aio)
{
	if (aio == NULL)
		return;
	aio->dying = true;
	aio->first = NULL;
	aio->last = &aio->first;
	aio->queued = 0;
	while (aio->inflight > 0)
		aio_wait(aio);
	loop_del_fd(&aio->lfd);
	loop_disarm(&aio->again);
	if (aio->is_ring)
		io_uring_queue_exit(&aio->ring);
	else
		threads_fini(aio);
	free(aio);
}
