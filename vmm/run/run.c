// SPDX-License-Identifier: Apache-2.0
/*
 * The life of `vmm run`: a VM made for one command, and what became of it.
 *
 *	built -> booting -> agent there -> command runs -> ended
 *
 * The agent leads from each to the next by a message (guest/agent.h); from everywhere the guest
 * may die (panic, triple fault, hang, --timeout), which vm.c tells apart by the status it ends
 * with. The command's own status counts only if the agent has told it.
 *
 * Nothing the guest says is believed beyond what it is: a status, and text for a person.
 *
 * #ioctls spawn: TIOCGWINSZ
 */
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include "devices/virtio_console.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/devices.h"
#include "vmm/run/run.h"
#include "vmm/run/log.h"
#include "vmm/run/matrix.h"
#include "vmm/run/record.h"
#include "vmm/vm.h"

#define STATUS_NOT_EXECUTABLE 126
#define STATUS_NOT_FOUND      127

struct run {
	struct run_config cfg;
	struct vm_user user;
	struct run_events events;
	struct vm *vm;
	struct run_channel *ch;
	struct run_log *log;
	struct run_record *record;
	struct run_steps steps;
	struct cpio cpio;
	bool hello, started, exited;
	int status;    /* of the command, once it exited */
	char why[256]; /* why it could not be done in the guest */
	int signal;    /* that killed the command; 0: none */
	enum run_how how;
	char sentence[ERR_MSG_MAX]; /* what it came to */
	uint64_t begin_ns, booted_ns, hello_ns, started_ns, exited_ns, ended_ns;
};

/* --- What the agent says --- */

static struct run *run_of(struct run_events *ev)
{
	return container_of(ev, struct run, events);
}

static void cannot(struct run *run, const char *why)
{
	snprintf(run->why, sizeof(run->why), "%s", why);
	vm_end(run->vm, STATUS_CANNOT);
}

static void on_hello(struct run_events *ev, const struct agent_hello *msg)
{
	struct run *run = run_of(ev);

	if (run->hello || msg->version != AGENT_VERSION) {
		cannot(run, "the agent in the guest is not the one of this program");
		return;
	}
	run->hello = true;
	run->hello_ns = loop_now_ns();
	vm_lives(run->vm);
	for (unsigned i = 0; i < run->steps.n; i++) {
		const struct run_step *step = &run->steps.step[i];
		int r = run_channel_step(run->ch, step->words, step->len);

		if (r < 0) {
			cannot(run, r == -E2BIG ? "a word of the command or its environment is "
						  "longer than 128 KiB"
						: "no memory for the command");
			return;
		}
	}
	run_channel_send(run->ch, AGENT_RUN, NULL, 0);
}

static void on_failed(struct run_events *ev, const struct agent_failed *msg)
{
	struct run *run = run_of(ev);
	const char *text = strerrordesc_np((int)msg->error);
	char step[160], why[256];

	run_steps_explain(&run->steps, msg->step, step, sizeof(step));
	snprintf(why, sizeof(why), "in the guest: cannot %s: %s", step,
		 text != NULL ? text : "unknown error");
	cannot(run, why);
}

static void on_started(struct run_events *ev, const struct agent_clock *msg)
{
	struct run *run = run_of(ev);

	(void)msg;
	if (run->started)
		return;
	run->started = true;
	run->started_ns = loop_now_ns();
	vm_lives(run->vm);
	run_channel_open_stdin(run->ch);
}

static int status_of(const struct agent_exited *msg)
{
	if (msg->how == AGENT_END_SIGNAL)
		return 128 + (int)(msg->value & 0x7f);
	if (msg->how == AGENT_END_EXEC)
		return msg->value == ENOENT ? STATUS_NOT_FOUND : STATUS_NOT_EXECUTABLE;
	return (int)(msg->value & 0xff);
}

static void on_exited(struct run_events *ev, const struct agent_exited *msg)
{
	struct run *run = run_of(ev);

	if (run->exited)
		return;
	if (msg->how == AGENT_END_EXEC) {
		const char *text = strerrordesc_np((int)msg->value);

		snprintf(run->why, sizeof(run->why), "cannot execute %s: %s",
			 *run->cfg.words != NULL ? *run->cfg.words : "the shell",
			 text != NULL ? text : "unknown error");
	}
	run->exited = true;
	run->exited_ns = loop_now_ns();
	run->status = status_of(msg);
	run->signal = msg->how == AGENT_END_SIGNAL ? (int)(msg->value & 0x7f) : 0;
	vm_end(run->vm, run->status);
}

static void on_alive(struct run_events *ev)
{
	vm_lives(run_of(ev)->vm);
}

static void on_klog(struct run_events *ev, const char *data, size_t len)
{
	struct run *run = run_of(ev);

	run_log_kmsg(run->log, data, len);
	run_record_kmsg(run->record, data, len);
}

static void on_output(struct run_events *ev, bool err, const void *data, size_t len)
{
	run_record_output(run_of(ev)->record, err, data, len);
}

static void on_broken(struct run_events *ev, const char *why)
{
	struct run *run = run_of(ev);

	snprintf(run->why, sizeof(run->why), "the agent in the guest broke the rules: %s", why);
	vm_end(run->vm, STATUS_CANNOT);
}

/* --- What the VM says --- */

static struct run *run_of_user(struct vm_user *user)
{
	return container_of(user, struct run, user);
}

static int attach(struct vm_user *user, struct vm *vm, struct chardevs *chardevs, struct loop *loop,
		  struct err *err)
{
	struct run *run = run_of_user(user);

	run->vm = vm;
	return run_channel_attach(run->ch, run->cfg.has_tty, chardevs, loop, err);
}

static void detach(struct vm_user *user)
{
	run_channel_detach(run_of_user(user)->ch);
}

static void printed(struct vm_user *user, const char *data, size_t len)
{
	struct run *run = run_of_user(user);

	run_log_console(run->log, data, len);
	run_record_console(run->record, data, len);
	if (run->cfg.vm.verbose)
		(void)!write(STDERR_FILENO, data, len);
}

static bool signalled(struct vm_user *user, int sig)
{
	struct run *run = run_of_user(user);
	uint32_t value = (uint32_t)sig;

	if (!run->started)
		return false;
	run_channel_send(run->ch, AGENT_SIGNAL, &value, sizeof(value));
	return true;
}

static void resized(struct vm_user *user)
{
	struct run *run = run_of_user(user);
	struct winsize ws;
	struct agent_winsize msg;

	if (!run->started || !run->cfg.has_tty || ioctl(STDIN_FILENO, TIOCGWINSZ, &ws) < 0)
		return;
	msg = (struct agent_winsize){ .rows = ws.ws_row, .cols = ws.ws_col };
	run_channel_send(run->ch, AGENT_WINSIZE, &msg, sizeof(msg));
}

/* --- Before and after --- */

/* The agent's port gets the channel as its other end. */
static void connect_port(struct run *run)
{
	const struct opt_list *uses = vm_devices_uses(&run->cfg.vm, VIRTIO_ID_CONSOLE);
	struct console_options *console = uses->items;

	for (size_t i = 0; i < uses->n; i++) {
		if (console[i].name == NULL || strcmp(console[i].name, AGENT_PORT) != 0)
			continue;
		console[i].chr.to = CHARDEV_GIVEN;
		console[i].chr.given = run_channel_back(run->ch);
	}
}

/*
 * Ours before the user's, so that his count. A panic ends the guest at once. Distributions' kernels
 * do not take the keys of --on-hang otherwise.
 */
static int make_cmdline(struct run *run, struct err *err)
{
	struct machine_config *m = &run->cfg.vm.machine;
	char *text;

	if (asprintf(&text, "console=ttyS0 %spanic=-1 sysrq_always_enabled%s%s",
		     run->cfg.vm.verbose ? "" : "quiet ", m->cmdline != NULL ? " " : "",
		     m->cmdline != NULL ? m->cmdline : "") < 0)
		return err_sys(err, ENOMEM, "the command line");
	free(m->cmdline);
	m->cmdline = text;
	return 0;
}

/* --dump says where a core goes; else --artifacts has a place for it. */
static int place_core(struct run *run, struct err *err)
{
	const char *core = run_record_core(run->record);

	if (run->cfg.vm.dump != NULL || core == NULL)
		return 0;
	run->cfg.vm.dump = strdup(core);
	return run->cfg.vm.dump == NULL ? err_sys(err, ENOMEM, "the core's place") : 0;
}

/* Everything that is needed to build the VM. */
static int prepare(struct run *run, struct err *err)
{
	if (run->cfg.vm.verbose)
		log_set_level(LOG_INFO);
	run->record = run_record_new(&run->cfg, err);
	if (run->record == NULL || place_core(run, err) < 0)
		return -err->code;
	run->log = run_log_new(run_record_log(run->record), run->cfg.fail_on, err);
	if (run->log == NULL || run_steps_make(&run->cfg, &run->steps, err) < 0 ||
	    make_cmdline(run, err) < 0 || run_job_initramfs(&run->cfg, &run->cpio, err) < 0)
		return -err->code;
	run->cfg.vm.machine.initrd_fd = run->cpio.fd;
	run->ch = run_channel_new(&run->events, err);
	if (run->ch == NULL)
		return -err->code;
	connect_port(run);
	return 0;
}

/* What it came to, for a person and the report. */
__attribute__((format(printf, 2, 3))) static void say(struct run *run, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	vsnprintf(run->sentence, sizeof(run->sentence), format, ap);
	va_end(ap);
	log_error("%s", run->sentence);
}

/* Times in ms since the program began, of what was reached. */
static void log_times(const struct run *run)
{
	const uint64_t at[] = { run->booted_ns, run->hello_ns, run->started_ns, run->exited_ns };
	double ms[4] = { 0 };

	for (unsigned i = 0; i < 4; i++)
		ms[i] = at[i] > 0 ? (double)(at[i] - run->begin_ns) / 1e6 : 0;
	log_info("ms from start: guest %.1f, agent %.1f, command %.1f, its end %.1f", ms[0], ms[1],
		 ms[2], ms[3]);
}

/* The command has ended, with run->status. */
static int conclude_exited(struct run *run, bool tests_failed, const char *tests)
{
	const char *kind, *complaint = run_log_complaint(run->log, &kind);

	run->how = run->signal > 0 ? RUN_SIGNAL : RUN_EXITED;
	if (run->why[0] != '\0') {
		run->how = RUN_NOT_EXECUTED;
		say(run, "%s", run->why);
	}
	if (complaint != NULL)
		say(run, "the kernel complained (%s): %s", kind, complaint);
	else if (tests_failed)
		say(run, "%s", tests);
	if (run->status != 0)
		return run->status;
	if (complaint != NULL)
		run->how = RUN_COMPLAINED;
	else if (tests_failed)
		run->how = RUN_TESTS_FAILED;
	return complaint != NULL ? STATUS_COMPLAINED : tests_failed ? STATUS_TESTS_FAILED : 0;
}

/* The end of the kernel log, and what of it tells most. */
static void show_death(struct run *run)
{
	const char *panic = run_log_panic(run->log);
	char *const *line;
	unsigned n = run_record_tail(run->record, run->log, &line);

	for (unsigned i = 0; !run->cfg.vm.verbose && i < n; i++)
		log_error("  %s", line[i]);
	if (panic != NULL)
		say(run, "%s", panic);
	else if (run_log_lines(run->log) == 0)
		say(run, "the kernel said nothing; --verbose shows more");
	if (run->sentence[0] == '\0')
		snprintf(run->sentence, sizeof(run->sentence), "%s",
			 run->how == RUN_PANIC	? "the kernel panicked"
			 : run->how == RUN_HANG ? "no sign of life for --hang-timeout"
						: "the guest died");
}

/* What became of it, in one line where there is something to say. */
static int conclude(struct run *run, int status)
{
	char tests[384] = "";
	bool tests_failed;

	run_log_end(run->log);
	tests_failed = run_record_end(run->record, tests, sizeof(tests));
	log_times(run);
	if (run->exited)
		return conclude_exited(run, tests_failed, tests);
	if (run->why[0] != '\0') {
		say(run, "%s", run->why);
		return status;
	}
	switch (status) {
	case STATUS_POWEROFF:
		run->how = RUN_DIED;
		say(run, "the guest powered off before the command had ended");
		return STATUS_DIED;
	case STATUS_PANIC:
	case STATUS_HUNG:
	case STATUS_DIED:
		run->how = status == STATUS_PANIC  ? RUN_PANIC
			   : status == STATUS_HUNG ? RUN_HANG
						   : RUN_DIED;
		show_death(run);
		break;
	case STATUS_TIMEOUT:
		run->how = RUN_TIMEOUT; /* vm.c has said it */
		snprintf(run->sentence, sizeof(run->sentence), "--timeout is reached");
		break;
	case STATUS_CANNOT:
		break;
	default:
		run->how = RUN_STOPPED;
		break;
	}
	return status;
}

static double ms_between(uint64_t from, uint64_t to)
{
	return from > 0 && to > 0 ? (double)(to - from) / 1e6 : -1;
}

/* The reports. The status, which is another one when they cannot be written. */
static int report(struct run *run, int status, const struct err *err)
{
	struct run_result result = {
		.how = run->how,
		.status = status,
		.signal = run->signal,
		.sentence = err->code != 0	     ? err->msg
			    : *run->sentence != '\0' ? run->sentence
						     : NULL,
		.ms = { ms_between(run->begin_ns, run->booted_ns),
			ms_between(run->booted_ns, run->hello_ns),
			ms_between(run->hello_ns, run->started_ns),
			ms_between(run->started_ns, run->exited_ns),
			ms_between(run->exited_ns, run->ended_ns) },
		.total_ms = ms_between(run->begin_ns, loop_now_ns()),
	};
	struct err mine = ERR_INIT;

	if (run->log != NULL) {
		result.log_lines = run_log_lines(run->log);
		result.complaint = run_log_complaint(run->log, &result.complaint_kind);
		result.panic = run_log_panic(run->log);
	}
	if (run_record_write(run->record, &result, run->cfg.vm.machine.cmdline, &mine) == 0)
		return status;
	log_error("%s", mine.msg);
	return status == 0 ? STATUS_CANNOT : status;
}

/* --dry-run: the effective configuration, for --config. */
static int print_config(const struct run *run)
{
	return puts(run->cfg.asked) < 0 || fflush(stdout) != 0 ? STATUS_CANNOT : 0;
}

/* One run. The configuration is there. */
static int run_one(struct run *run, void (*running)(struct vm *vm), struct err *err)
{
	int status = STATUS_CANNOT;

	if (prepare(run, err) < 0)
		return status;
	run->vm = vm_build(&run->cfg.vm, &run->user, NULL, err);
	if (run->vm == NULL)
		return status;
	if (run->cfg.vm.dry_run) {
		status = print_config(run);
		vm_free(run->vm);
		return status;
	}
	running(run->vm);
	run->booted_ns = loop_now_ns();
	status = vm_run(run->vm);
	running(NULL);
	vm_free(run->vm);
	run->ended_ns = loop_now_ns();
	return conclude(run, status);
}

int run_main(int argc, char **argv, void (*running)(struct vm *vm))
{
	struct run *run = calloc(1, sizeof(*run));
	struct err err = ERR_INIT;
	int status = STATUS_CANNOT;

	if (run == NULL) {
		log_error("no memory");
		return STATUS_CANNOT;
	}
	run->begin_ns = loop_now_ns();
	run->cpio.fd = -1;
	run->user = (struct vm_user){ attach, detach, printed, signalled, resized };
	run->events = (struct run_events){ on_hello, on_failed, on_started, on_exited,
					   on_alive, on_klog,	on_broken,  on_output };
	if (run_config_parse(&run->cfg, argc, argv, &err) < 0)
		goto out;
	if (run->cfg.vm.help) {
		status = RUN_HELP;
		goto out;
	}
	if (run_matrix_wanted(&run->cfg)) {
		int all = run_matrix(&run->cfg, &err);

		if (all >= 0)
			status = all;
		if (all >= 0 || err.code != 0)
			goto out;
		run->begin_ns = loop_now_ns(); /* one of them */
	}
	status = run_one(run, running, &err);
out:
	if (err.code != 0)
		log_error("%s", err.msg);
	if (run->record != NULL)
		status = report(run, status, &err);
	run_channel_free(run->ch);
	run_log_free(run->log);
	run_record_free(run->record);
	run_steps_free(&run->steps);
	cpio_fini(&run->cpio);
	run_config_free(&run->cfg);
	free(run);
	return status;
}
