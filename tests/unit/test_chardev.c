// SPDX-License-Identifier: Apache-2.0
/*
 * Character devices with a front made here: the terminal and its escape character, streams that
 * are shared, files, what is kept and what is not. Sockets and ptys under load are in
 * test_virtio_console.c.
 */
#include <fcntl.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>
#include "devices/chardev.h"
#include "tests/unit/device_util.h"

static struct loop *loop;
static struct chardevs all;
static struct chardev *c;
static struct chardev_front front;
static struct err err;
static struct test_output heard; /* owns all */
static char input[1 << 17];
static size_t input_n, input_room;
static unsigned breaks, rooms, quits, changes, nmis;
static int old_in, old_out, master, slave;

static size_t on_input(struct chardev_front *f, const void *data, size_t len)
{
	ck_assert_ptr_eq(f, &front);
	if (len > input_room)
		len = input_room;
	ck_assert_uint_le(input_n + len, sizeof(input));
	memcpy(input + input_n, data, len);
	input_n += len;
	input_room -= len;
	return len;
}

static void on_room(struct chardev_front *f)
{
	(void)f;
	rooms++;
}

static size_t on_flush(struct chardev_front *f)
{
	(void)f;
	return 0;
}

static void on_break(struct chardev_front *f)
{
	(void)f;
	breaks++;
}

static void on_changed(struct chardev_front *f)
{
	(void)f;
	changes++;
}

static void quit(void *owner)
{
	ck_assert_ptr_eq(owner, &heard);
	quits++;
}

static void nmi(void *owner)
{
	ck_assert_ptr_eq(owner, &heard);
	nmis++;
}

static void setup(void)
{
	signal(SIGPIPE, SIG_IGN);
	loop = loop_new(&err);
	ck_assert_ptr_nonnull(loop);
	all = (struct chardevs){
		.owner = &heard, .printed = test_printed, .quit = quit, .nmi = nmi
	};
	front = (struct chardev_front){ .input = on_input,
					.tx_room = on_room,
					.flush = on_flush,
					.send_break = on_break,
					.changed = on_changed };
	input_n = heard.n = 0;
	breaks = rooms = quits = changes = nmis = 0;
	input_room = sizeof(input);
	c = NULL;
	old_in = fcntl(STDIN_FILENO, F_DUPFD, 10);
	old_out = fcntl(STDOUT_FILENO, F_DUPFD, 10);
	master = slave = -1;
}

static void teardown(void)
{
	chardev_free(c);
	ck_assert_ptr_null(all.first);
	loop_free(loop);
	dup2(old_in, STDIN_FILENO);
	dup2(old_out, STDOUT_FILENO);
	close(old_in);
	close(old_out);
	close(master);
	close(slave);
}

static void run(void)
{
	for (int i = 0; i < 8; i++)
		ck_assert_int_eq(loop_run_once(loop, 0), 0);
}

/* What is typed takes its time through the kernel. */
#define WAIT_FOR(cond)                                                                             \
	do {                                                                                       \
		for (int ms = 0; ms < 10000 && !(cond); ms += 10)                                  \
			loop_run_once(loop, 10);                                                   \
		ck_assert(cond);                                                                   \
	} while (0)

static void make(int to, char *path)
{
	static struct chardev_config cfg;

	cfg = (struct chardev_config){ .to = to, .path = path };
	c = chardev_new(&cfg, "test", true, &all, loop, &err);
	ck_assert_msg(c != NULL, "%s", err.msg);
	chardev_back(c)->front = &front;
	ck_assert_msg(chardevs_start(&all, &err) == 0, "%s", err.msg);
	run();
}

/* A terminal of ours, in the foreground, as stdin and stdout. */
static void make_terminal(void)
{
	char name[64];

	/* check makes each test the leader of a group, and no leader can begin a session. */
	ck_assert_int_eq(setpgid(0, getpgid(getppid())), 0);
	ck_assert_int_gt(setsid(), 0);
	signal(SIGHUP, SIG_IGN); /* when the terminal goes, at the end */
	master = posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK);
	ck_assert(grantpt(master) == 0 && unlockpt(master) == 0);
	ck_assert_int_eq(ptsname_r(master, name, sizeof(name)), 0);
	slave = open(name, O_RDWR | O_NOCTTY);
	ck_assert_int_ge(slave, 0);
	dup2(slave, STDIN_FILENO);
	dup2(slave, STDOUT_FILENO);
	ck_assert_int_eq(ioctl(slave, TIOCSCTTY, 0), 0);
}

/* The kernel takes what is typed to the other side on a thread of its own: wait for all of it. */
static void type(const char *text, size_t len)
{
	int before, now;

	ck_assert_int_eq(ioctl(slave, FIONREAD, &before), 0);
	ck_assert_int_eq(write(master, text, len), (ssize_t)len);
	do {
		ck_assert_int_eq(ioctl(slave, FIONREAD, &now), 0);
	} while (now < before + (int)len && usleep(1000) == 0);
	run();
}

static size_t put(const char *text)
{
	struct iovec iov[] = { { (void *)text, strlen(text) },
			       { (void *)text, 0 },
			       { (void *)"|", 1 } };

	return chardev_back(c)->write(chardev_back(c), iov, 3);
}

/* --- Terminal --- */

START_TEST(escapes)
{
	static const char typed[] = "a\x01\x01"
				    "b\x01"
				    "kc\x01"
				    "bd\x01x\x01"
				    "ne";

	make_terminal();
	make(CHARDEV_STDIO, NULL);
	type(typed, sizeof(typed) - 1);
	WAIT_FOR(input_n == 8);
	ck_assert_mem_eq(input,
			 "a\x01"
			 "b\x01"
			 "kcde",
			 8);
	ck_assert_uint_eq(breaks, 1);
	ck_assert_uint_eq(quits, 1);
	ck_assert_uint_eq(nmis, 1);
	/* In two pieces. */
	type("\x01", 1);
	type("z", 1);
	WAIT_FOR(input_n == 10);
	ck_assert_mem_eq(input + 8, "\x01z", 2);
	/* A front that has a character for breaks. */
	front.send_break = NULL;
	front.break_char = 0x0f;
	type("\x01"
	     "b",
	     2);
	WAIT_FOR(input_n == 11);
	ck_assert_int_eq(input[10], 0x0f);
	/* Magic SysRq by the program: the same, with the key. */
	ck_assert(chardevs_sysrq(&all, 'l'));
	ck_assert_mem_eq(input + 11, "\x0fl", 2);
	front.send_break = on_break;
	ck_assert(chardevs_sysrq(&all, 'w'));
	ck_assert_int_eq(input[13], 'w');
	ck_assert_uint_eq(breaks, 2);
	input_room = 0;
	ck_assert(!chardevs_sysrq(&all, 'w'));
	front.send_break = NULL;
	front.break_char = 0;
	input_room = 1;
	ck_assert(!chardevs_sysrq(&all, 'w'));
}
END_TEST

/* The escape character is heard while the guest takes nothing, and then nothing is lost. */
START_TEST(reads_ahead)
{
	char text[3000];

	make_terminal();
	front.starts_full = true;
	make(CHARDEV_STDIO, NULL);
	for (unsigned i = 0; i < sizeof(text); i++)
		text[i] = (char)('a' + i % 26);
	type(text, sizeof(text));
	type("\x01x", 2);
	WAIT_FOR(quits == 1);
	ck_assert_uint_eq(input_n, 0);
	input_room = 1000;
	chardev_back(c)->rx_room(chardev_back(c));
	run();
	ck_assert_uint_eq(input_n, 1000);
	type("end", 3);
	input_room = sizeof(input);
	chardev_back(c)->rx_room(chardev_back(c));
	WAIT_FOR(input_n == sizeof(text) + 3);
	ck_assert_mem_eq(input, text, sizeof(text));
	ck_assert_mem_eq(input + sizeof(text), "end", 3);
}
END_TEST

START_TEST(mode_and_size)
{
	struct winsize ws = { .ws_col = 90, .ws_row = 30 };
	struct termios before, now;
	uint16_t cols = 0, rows = 0;

	make_terminal();
	tcgetattr(slave, &before);
	make(CHARDEV_STDIO, NULL);
	tcgetattr(slave, &now);
	ck_assert_uint_eq(now.c_lflag & (ICANON | ECHO | ISIG), 0);
	ck_assert(!chardev_size(c, &cols, &rows)); /* nobody has set it */
	ck_assert_int_eq(ioctl(master, TIOCSWINSZ, &ws), 0);
	ck_assert(chardev_size(c, &cols, &rows));
	ck_assert_uint_eq(cols, 90);
	ck_assert_uint_eq(rows, 30);
	chardevs_resized(&all);
	ck_assert_uint_eq(changes, 1);
	chardevs_restore_terminal(&all);
	tcgetattr(slave, &now);
	ck_assert_uint_eq(now.c_lflag, before.c_lflag);
	chardevs_restore_terminal(&all);
}
END_TEST

/* --- Streams, files, nothing --- */

/* stdout is one end of a socket, which cannot be opened again: small pieces, nothing lost. */
START_TEST(shared_stream)
{
	static char big[1 << 20], buf[1 << 20];
	size_t done = 0, n = 0;
	int pair[2];

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	dup2(pair[0], STDIN_FILENO);
	dup2(pair[0], STDOUT_FILENO);
	close(pair[0]);
	fcntl(pair[1], F_SETFL, O_NONBLOCK);
	make(CHARDEV_STDIO, NULL);
	ck_assert_int_eq(fcntl(STDOUT_FILENO, F_GETFL) & O_NONBLOCK, 0);
	for (size_t i = 0; i < sizeof(big); i++)
		big[i] = (char)(i % 251);
	while (n < sizeof(big)) {
		struct iovec iov = { big + done, sizeof(big) - done };
		ssize_t r;

		if (done < sizeof(big))
			done += chardev_back(c)->write(chardev_back(c), &iov, 1);
		r = read(pair[1], buf + n, 5000);
		n += r > 0 ? (size_t)r : 0;
		loop_run_once(loop, 0);
	}
	ck_assert_mem_eq(buf, big, sizeof(big));
	ck_assert_uint_gt(rooms, 0);
	ck_assert_int_eq(write(pair[1], "in", 2), 2);
	run();
	ck_assert_uint_eq(input_n, 2);
	/* The reader goes: the rest is dropped, the guest goes on. */
	close(pair[1]);
	ck_assert_uint_eq(put("nobody"), 7);
	ck_assert_uint_eq(put("nobody"), 7);
}
END_TEST

/* Input that epoll cannot watch. */
START_TEST(file_as_input)
{
	char path[] = "/tmp/test_chardevXXXXXX";
	static char text[100000];
	int fd = mkstemp(path);

	for (unsigned i = 0; i < sizeof(text); i++)
		text[i] = (char)(i / 300);
	ck_assert_int_eq(write(fd, text, sizeof(text)), sizeof(text));
	lseek(fd, 0, SEEK_SET);
	dup2(fd, STDIN_FILENO);
	close(fd);
	unlink(path);
	input_room = 10;
	make(CHARDEV_STDIO, NULL);
	ck_assert_uint_eq(input_n, 10);
	input_room = sizeof(input);
	chardev_back(c)->rx_room(chardev_back(c));
	for (int i = 0; i < 20; i++)
		run();
	ck_assert_uint_eq(input_n, sizeof(text));
	ck_assert_mem_eq(input, text, sizeof(text));
}
END_TEST

START_TEST(file_as_output)
{
	char dir[] = "/tmp/test_chardevXXXXXX", path[64], text[16] = "";
	struct chardev_config cfg = { .to = CHARDEV_FILE, .path = path };
	struct stat st;
	int fd;

	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/out", dir);
	/* Made, and never started: it goes again. */
	c = chardev_new(&cfg, "test", true, &all, loop, &err);
	ck_assert_ptr_nonnull(c);
	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert_uint_eq(st.st_mode & 07777, 0600);
	chardev_free(c);
	ck_assert_int_lt(stat(path, &st), 0);
	for (int i = 0; i < 2; i++) {
		if (i > 0)
			chardev_free(c);
		make(CHARDEV_FILE, path);
		ck_assert_uint_eq(put("line"), 5);
		ck_assert(chardev_is_open(c));
	}
	fd = open(path, O_RDONLY);
	ck_assert_int_eq(read(fd, text, sizeof(text)), 10);
	ck_assert_str_eq(text, "line|line|");
	close(fd);
	unlink(path);
	rmdir(dir);
}
END_TEST

START_TEST(nothing)
{
	make(CHARDEV_NULL, NULL);
	ck_assert_uint_eq(put("gone"), 5);
	ck_assert_uint_eq(heard.n, 5);
	ck_assert_mem_eq(heard.data, "gone|", 5);
	chardevs_drain(&all, true, -1);
}
END_TEST

/* Marks are the owner's, one for each device. */
START_TEST(marks)
{
	struct chardev_config cfg = { .to = CHARDEV_NULL };
	struct chardev *port = chardev_new(&cfg, "port", false, &all, loop, &err);
	struct iovec iov = { (void *)"data", 4 };

	ck_assert_ptr_nonnull(port);
	make(CHARDEV_NULL, NULL);
	ck_assert_uint_eq(put("console"), 8);
	ck_assert_uint_eq(chardev_back(port)->write(chardev_back(port), &iov, 1), 4);
	ck_assert_uint_eq(heard.n, 8); /* a port for programs is not heard */
	chardevs_clear_marks(&all);
	chardev_free(port);
}
END_TEST

START_TEST(checks)
{
	static const struct {
		int to;
		const char *path, *said;
	} wrong[] = {
		{ CHARDEV_FILE, NULL, "to=file needs path=PATH" },
		{ CHARDEV_SOCKET, NULL, "to=socket needs path=PATH" },
		{ CHARDEV_SOCKET, "", "the path is empty; name a file" },
		{ CHARDEV_PTY, "x", "path= is only for to=file and to=socket" },
		{ CHARDEV_NULL, "x", "path= is only for to=file and to=socket" },
	};

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		struct chardev_config cfg = { .to = wrong[i].to, .path = (char *)wrong[i].path };

		ck_assert_int_lt(chardev_check(&cfg, &err), 0);
		ck_assert_str_eq(err.msg, wrong[i].said);
	}
	ck_assert_int_eq(
		chardev_check(&(struct chardev_config){ .to = CHARDEV_SOCKET, .path = (char *)"x" },
			      &err),
		0);
	ck_assert_int_eq(chardev_check(&(struct chardev_config){ .to = CHARDEV_STDIO }, &err), 0);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("chardev");
	TCase *tc = tcase_create("all");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, escapes);
	tcase_add_test(tc, reads_ahead);
	tcase_add_test(tc, mode_and_size);
	tcase_add_test(tc, shared_stream);
	tcase_add_test(tc, file_as_input);
	tcase_add_test(tc, file_as_output);
	tcase_add_test(tc, nothing);
	tcase_add_test(tc, marks);
	tcase_add_test(tc, checks);
	suite_add_tcase(s, tc);
	return test_run(s);
}
