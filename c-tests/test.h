/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A test harness for programs that see only the installed headers and library.
 *
 *	#include "test.h"
 *	TEST(RS_5_false_blockable_warns)
 *	{
 *		...
 *		expect_reports("RS-5");
 *	}
 *
 * Each case runs in a forked child with a deadline; test.h brings main(). What it offers, in this order: assertions; the log that
 * callbacks write and EXPECT_LOG() reads; waiting without clocks; reports; BUGs; threads and the wait hook; subscribers that
 * log; ranges that hold the lock that the contract wants; the runner.
 */
#ifndef TEST_H
#define TEST_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <sched.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <linux/futex.h>

#include <linux/mmu_notifier.h>
#include <linux/sched/mm.h>
#include <linux/mm.h>
#include <linux/kthread.h>
#include <mmu_notifier/mm.h>
#include <mmu_notifier/report.h>
#include <mmu_notifier/wait.h>

/* ------------------------------------------------------------- assertions */

/* Ends the case (or the forked child that a case waits for), from any thread. */
__attribute__((noreturn, format(printf, 3, 4), unused))
static void test_fail(const char *file, int line, const char *format, ...)
{
	char text[1024];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	dprintf(STDERR_FILENO, "%s:%d: %s\n", file, line, text);
	_exit(1);
}

#define FAIL(...) test_fail(__FILE__, __LINE__, __VA_ARGS__)

#define ASSERT(condition) do {						\
	if (!(condition))						\
		FAIL("not true: %s", #condition);			\
} while (0)

/* Integers, booleans, pointers. */
#define ASSERT_EQ(got, want) do {					\
	long got_ = (long)(got), want_ = (long)(want);			\
	if (got_ != want_)						\
		FAIL("%s is %ld (%#lx), want %s = %ld (%#lx)", #got,	\
		     got_, got_, #want, want_, want_);			\
} while (0)

#define ASSERT_NE(got, other) do {					\
	long got_ = (long)(got), other_ = (long)(other);		\
	if (got_ == other_)						\
		FAIL("%s is %ld (%#lx), which is %s", #got, got_, got_, #other); \
} while (0)

#define ASSERT_STR(got, want) do {					\
	const char *got_ = (got), *want_ = (want);			\
	if (!got_ || strcmp(got_, want_))				\
		FAIL("%s is \"%s\", want \"%s\"", #got, got_ ? got_ : "(null)", want_); \
} while (0)

/* Every byte of an object is 0x5a, as POISON() left it. */
#define POISON(object) memset(object, 0x5a, sizeof(*(object)))
#define ASSERT_POISON(object) do {					\
	const unsigned char *at_ = (const unsigned char *)(object);	\
	for (size_t n_ = 0; n_ < sizeof(*(object)); n_++)		\
		if (at_[n_] != 0x5a)					\
			FAIL("byte %zu of %s was written", n_, #object); \
} while (0)

/* ---------------------------------------------------- waiting, and the log */

/*
 * Whoever changes what another thread may wait for calls changed(); WAIT_FOR() looks again whenever somebody did. No lock, so it
 * works in hooks, in callbacks and across fork().
 */
static unsigned test_changes;

static inline void changed(void)
{
	__atomic_fetch_add(&test_changes, 1, __ATOMIC_SEQ_CST);
	syscall(SYS_futex, &test_changes, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

#define LOAD(variable) __atomic_load_n(&(variable), __ATOMIC_SEQ_CST)
#define STORE(variable, value) do {					\
	__atomic_store_n(&(variable), value, __ATOMIC_SEQ_CST);		\
	changed();							\
} while (0)
#define WAIT_FOR(condition) do {					\
	unsigned seen_ = LOAD(test_changes);				\
	if (condition)							\
		break;							\
	syscall(SYS_futex, &test_changes, FUTEX_WAIT_PRIVATE, seen_, NULL, NULL, 0); \
} while (1)

/* A place in a callback where its thread stands until the case lets it go on. */
struct gate { int arrived, open; };

static inline void gate_pass(struct gate *gate)
{
	STORE(gate->arrived, 1);
	WAIT_FOR(LOAD(gate->open));
}

static inline void gate_wait(struct gate *gate) { WAIT_FOR(LOAD(gate->arrived)); }
static inline void gate_open(struct gate *gate) { STORE(gate->open, 1); }

enum { TEST_LOG_MAX = 256 };
static char test_log[TEST_LOG_MAX][96];
static unsigned test_log_end;

/* Appends a line to the log of what happened. */
__attribute__((format(printf, 1, 2), unused))
static void note(const char *format, ...)
{
	unsigned at = __atomic_fetch_add(&test_log_end, 1, __ATOMIC_SEQ_CST);
	va_list args;

	if (at >= TEST_LOG_MAX)
		FAIL("more than %d lines in the log", TEST_LOG_MAX);
	va_start(args, format);
	vsnprintf(test_log[at], sizeof(test_log[at]), format, args);
	va_end(args);
}

static inline void test_expect_log(const char *file, int line, const char *const *want)
{
	unsigned at = 0, end = LOAD(test_log_end);

	while (at < end && want[at] && !strcmp(test_log[at], want[at]))
		at++;
	if (at < end || want[at]) {
		for (unsigned n = 0; n < end; n++)
			dprintf(STDERR_FILENO, "  log: %s\n", test_log[n]);
		test_fail(file, line, "line %u of the log is \"%s\", want \"%s\"", at,
			  at < end ? test_log[at] : "(end)", want[at] ? want[at] : "(end)");
	}
	STORE(test_log_end, 0);
}

/* The log since the last time holds exactly these lines. */
#define EXPECT_LOG(...) test_expect_log(__FILE__, __LINE__, (const char *const[]){ NULL, ##__VA_ARGS__, NULL } + 1)

/* Is the line in the log? For lines whose order nobody promises. */
static inline bool logged(const char *text)
{
	for (unsigned n = 0; n < LOAD(test_log_end); n++)
		if (!strcmp(test_log[n], text))
			return true;
	return false;
}

/* ---------------------------------------------------------------- reports */

struct test_report {
	enum mmu_notifier_report_kind kind;
	char rule[16], function[80], callback[40], message[200];
	const void *address;
	long value;
};

enum { TEST_REPORTS_MAX = 64 };
static struct test_report test_reports[TEST_REPORTS_MAX];
static unsigned test_reports_end, test_reports_seen;

static inline void test_on_report(const struct mmu_notifier_report *report, void *data)
{
	unsigned at = __atomic_fetch_add(&test_reports_end, 1, __ATOMIC_SEQ_CST);
	struct test_report *copy = &test_reports[at % TEST_REPORTS_MAX];

	(void)data;
	copy->kind = report->kind;
	snprintf(copy->rule, sizeof(copy->rule), "%s", report->rule);
	snprintf(copy->function, sizeof(copy->function), "%s", report->function);
	snprintf(copy->callback, sizeof(copy->callback), "%s", report->callback ? report->callback : "");
	snprintf(copy->message, sizeof(copy->message), "%s", report->message);
	copy->address = report->address;
	copy->value = report->value;
	if (report->kind == MMU_NOTIFIER_REPORT_BUG)
		dprintf(STDERR_FILENO, "bug: [%s] %s: %s\n", copy->rule, copy->function, copy->message);
}

/* The library's functions that inlines call bear two underscores: a report may name either. */
static inline const char *test_plain_name(const char *function)
{
	return strncmp(function, "__", 2) ? function : function + 2;
}

/* Does the report say what `want`, "RULE" or "RULE function", says? */
static inline bool test_report_is(const struct test_report *report, const char *want)
{
	size_t rule = strcspn(want, " ");

	return strlen(report->rule) == rule && !strncmp(report->rule, want, rule) &&
	       (!want[rule] || !strcmp(test_plain_name(report->function), test_plain_name(want + rule + 1)));
}

static inline const struct test_report *test_next_report(unsigned *at, bool info)
{
	unsigned end = LOAD(test_reports_end);

	for (; *at < end && *at < TEST_REPORTS_MAX; ++*at)
		if ((test_reports[*at].kind == MMU_NOTIFIER_REPORT_INFO) == info)
			return &test_reports[(*at)++];
	return NULL;
}

static inline void test_expect_reports(const char *file, int line, bool info, const char *const *want)
{
	unsigned at = test_reports_seen;
	const struct test_report *report;

	while ((report = test_next_report(&at, info))) {
		if (*want && test_report_is(report, *want)) {
			want++;
			continue;
		}
		test_fail(file, line, "report [%s] %s: %s (in %s), want \"%s\"", report->rule, report->function,
			  report->message, report->callback[0] ? report->callback : "no callback",
			  *want ? *want : "none");
	}
	if (*want)
		test_fail(file, line, "no report \"%s\"", *want);
	if (!info)
		test_reports_seen = LOAD(test_reports_end);
}

#define TEST_STRINGS(...) ((const char *const[]){ NULL, ##__VA_ARGS__, NULL } + 1)
/*
 * The WARNs since the last time are exactly these, in order, each "RULE" or "RULE function". A case ends with
 * expect_reports(): what it did not declare fails it.
 */
#define expect_reports(...) test_expect_reports(__FILE__, __LINE__, false, TEST_STRINGS(__VA_ARGS__))
/* The same for information reports, which need not be declared. To be called before expect_reports(). */
#define expect_infos(...) test_expect_reports(__FILE__, __LINE__, true, TEST_STRINGS(__VA_ARGS__))

/* The newest report of any kind. */
static inline const struct test_report *last_report(void)
{
	unsigned end = LOAD(test_reports_end);

	if (!end || end > TEST_REPORTS_MAX)
		FAIL("no report");
	return &test_reports[end - 1];
}

/* ------------------------------------------------------- children and BUGs */

/* What a forked child, with the default report handler, wrote to stderr and how it ended. */
struct capture { pid_t pid; int fd, status; char text[2048]; };

/* True in the child. */
static inline bool test_capture_fork(struct capture *capture)
{
	int fds[2];

	ASSERT_EQ(pipe(fds), 0);
	capture->pid = fork();
	ASSERT(capture->pid >= 0);
	if (capture->pid == 0) {
		struct rlimit no_core = { 0, 0 };

		setrlimit(RLIMIT_CORE, &no_core);
		dup2(fds[1], STDERR_FILENO);
		close(fds[0]);
		close(fds[1]);
		alarm(20);
		mmu_notifier_set_report_handler(NULL, NULL);
		return true;
	}
	close(fds[1]);
	capture->fd = fds[0];
	return false;
}

static inline void test_capture_wait(struct capture *capture)
{
	size_t size = 0;
	ssize_t got;

	while ((got = read(capture->fd, capture->text + size, sizeof(capture->text) - 1 - size)) > 0)
		size += got;
	capture->text[size] = 0;
	close(capture->fd);
	ASSERT_EQ(waitpid(capture->pid, &capture->status, 0), capture->pid);
}

#define CAPTURE(capture, ...) do {					\
	if (test_capture_fork(capture)) {				\
		__VA_ARGS__;						\
		_exit(0);						\
	}								\
	test_capture_wait(capture);					\
} while (0)

/* The statement, in a forked child, leaves with status 0 (or by a failed assertion, which the case then reports). */
#define IN_CHILD(...) do {						\
	pid_t pid_ = fork();						\
	int status_;							\
	ASSERT(pid_ >= 0);						\
	if (pid_ == 0) {						\
		alarm(20);						\
		__VA_ARGS__;						\
		expect_reports();					\
		_exit(0);						\
	}								\
	ASSERT_EQ(waitpid(pid_, &status_, 0), pid_);			\
	if (status_)							\
		FAIL("child ended with wait status %#x", status_);	\
} while (0)

/* Does one line of `text` read "mmu_notifier: KIND: [RULE] FUNCTION: ..." and contain `mention`? */
static inline bool test_has_line(const char *text, const char *kind, const char *rule, const char *function,
				 const char *mention)
{
	char copy[2048], head[128], *save = NULL;
	size_t length = strlen(test_plain_name(function));

	snprintf(copy, sizeof(copy), "%s", text);
	snprintf(head, sizeof(head), "mmu_notifier: %s: [%s] ", kind, rule);
	for (char *line = strtok_r(copy, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		const char *name;

		if (strncmp(line, head, strlen(head)))
			continue;
		name = test_plain_name(line + strlen(head));
		if (!strncmp(name, test_plain_name(function), length) && name[length] == ':' && strstr(line, mention))
			return true;
	}
	return false;
}

static inline void test_check_bug(const char *file, int line, const struct capture *capture, const char *rule,
				  const char *function, const char *mention, const char *statement)
{
	if (!WIFSIGNALED(capture->status) || WTERMSIG(capture->status) != SIGABRT)
		test_fail(file, line, "no abort (wait status %#x) from: %s\n%s", capture->status, statement,
			  capture->text);
	if (!test_has_line(capture->text, "bug", rule, function, mention))
		test_fail(file, line, "want a bug [%s] of %s that mentions \"%s\" from: %s\nstderr:\n%s", rule,
			  function, mention, statement, capture->text);
}

/* "mmu_notifier_put" of "mmu_notifier_put(NULL)". */
static inline const char *test_function_of(const char *statement)
{
	static char name[80];

	if (!strncmp(statement, "(void)!", 7))
		statement += 7;
	snprintf(name, sizeof(name), "%.*s", (int)strcspn(statement, "("), statement);
	return name;
}

/* The statement BUGs; the message names the rule, the function, and has `mention` in it. */
#define EXPECT_BUG_IN(rule, function, mention, ...) do {		\
	struct capture capture_;					\
	CAPTURE(&capture_, __VA_ARGS__);				\
	test_check_bug(__FILE__, __LINE__, &capture_, rule, function, mention, #__VA_ARGS__); \
} while (0)
/* The same where the statement is the call. */
#define EXPECT_BUG(rule, ...) EXPECT_BUG_IN(rule, test_function_of(#__VA_ARGS__), "", __VA_ARGS__)

/* ---------------------------------------------- threads and the wait hook */

enum { TEST_THREADS_MAX = 64, NOT_BLOCKED = -1 };

struct thread {
	pthread_t id;
	void *(*run)(void *);
	void *arg, *result;
	int reason;		/* enum mmu_notifier_wait_reason or NOT_BLOCKED */
	const void *queue;
	bool woken;		/* somebody woke the queue since it blocked */
	bool done;
};

static struct thread test_threads[TEST_THREADS_MAX];
static unsigned test_threads_end;
static __thread struct thread *test_self;
/* Threads that spawn() did not start: the case's first one, the library's worker. */
static int test_others_blocked[MMU_NOTIFIER_WAIT_EVENT + 1];

static inline void test_wait_begin(void *data, const void *queue, enum mmu_notifier_wait_reason reason)
{
	(void)data;
	if (!test_self) {
		__atomic_fetch_add(&test_others_blocked[reason], 1, __ATOMIC_SEQ_CST);
		changed();
		return;
	}
	__atomic_store_n(&test_self->woken, false, __ATOMIC_SEQ_CST);
	__atomic_store_n(&test_self->queue, queue, __ATOMIC_SEQ_CST);
	STORE(test_self->reason, (int)reason);
}

static inline void test_wait_end(void *data, const void *queue, enum mmu_notifier_wait_reason reason)
{
	(void)data;
	(void)queue;
	if (!test_self)
		__atomic_fetch_sub(&test_others_blocked[reason], 1, __ATOMIC_SEQ_CST);
	else
		STORE(test_self->reason, NOT_BLOCKED);
}

static inline void test_wake(void *data, const void *queue, enum mmu_notifier_wait_reason reason)
{
	(void)data;
	(void)reason;
	for (unsigned n = 0; n < LOAD(test_threads_end) && n < TEST_THREADS_MAX; n++)
		if (LOAD(test_threads[n].reason) != NOT_BLOCKED && LOAD(test_threads[n].queue) == queue)
			STORE(test_threads[n].woken, true);
}

static const struct mmu_notifier_wait_hook test_wait_hook = { test_wait_begin, test_wait_end, test_wake, NULL };

static inline void *test_thread_main(void *arg)
{
	test_self = arg;
	test_self->result = test_self->run(test_self->arg);
	STORE(test_self->done, true);
	return NULL;
}

static inline struct thread *spawn(void *(*run)(void *), void *arg)
{
	struct thread *thread = &test_threads[test_threads_end];

	ASSERT(test_threads_end < TEST_THREADS_MAX);
	*thread = (struct thread){ .run = run, .arg = arg, .reason = NOT_BLOCKED };
	STORE(test_threads_end, test_threads_end + 1);
	ASSERT_EQ(pthread_create(&thread->id, NULL, test_thread_main, thread), 0);
	return thread;
}

static inline void *join(struct thread *thread)
{
	ASSERT_EQ(pthread_join(thread->id, NULL), 0);
	return thread->result;
}

/* Returns when the thread sleeps, or is about to, for this reason. */
#define wait_until_blocked(thread, why) do {				\
	WAIT_FOR(LOAD((thread)->done) || LOAD((thread)->reason) == (int)(why)); \
	if (LOAD((thread)->done))					\
		FAIL("%s came back instead of blocking", #thread);	\
} while (0)
/* The same for a thread of the library. */
#define wait_until_worker_blocked(why) WAIT_FOR(LOAD(test_others_blocked[why]) > 0)

#define ASSERT_NOT_DONE(thread) ASSERT(!LOAD((thread)->done))
/* It blocked, and nobody has woken it since. */
#define ASSERT_NOT_WOKEN(thread) do {					\
	ASSERT(LOAD((thread)->reason) != NOT_BLOCKED);			\
	ASSERT(!LOAD((thread)->woken));					\
} while (0)

/* ------------------------------------------------------------- subscribers */

static inline int mm_users(struct mm_struct *mm) { return atomic_read(&mm->mm_users); }
static inline int mm_count(struct mm_struct *mm) { return atomic_read(&mm->mm_count); }

/* A subscriber to a whole mm: logs "NAME.OP". */
struct listener {
	struct mmu_notifier mn;
	const char *name;
	int returns;		/* by start and the young ops */
	void (*in)(struct listener *self, const char *op);	/* called inside each callback, after the log */
	void *arg;		/* for `in` */
	struct mmu_notifier_range seen;		/* copy of the last range; for other ops mm, start, end */
	unsigned long pte;
};

static inline int listener_called(struct mmu_notifier *mn, struct mm_struct *mm, const char *op)
{
	struct listener *self = container_of(mn, struct listener, mn);

	note("%s.%s", self->name, op);
	ASSERT_EQ(mm, mn->mm);
	if (self->in)
		self->in(self, op);
	return self->returns;
}

static inline int listener_called_at(struct mmu_notifier *mn, struct mm_struct *mm, const char *op,
				     unsigned long start, unsigned long end)
{
	struct listener *self = container_of(mn, struct listener, mn);

	self->seen = (struct mmu_notifier_range){ .mm = mm, .start = start, .end = end };
	return listener_called(mn, mm, op);
}

static inline void on_release(struct mmu_notifier *mn, struct mm_struct *mm)
{
	listener_called(mn, mm, "release");
}

static inline int on_clear_flush_young(struct mmu_notifier *mn, struct mm_struct *mm, unsigned long start,
				       unsigned long end)
{
	return listener_called_at(mn, mm, "clear_flush_young", start, end);
}

static inline int on_clear_young(struct mmu_notifier *mn, struct mm_struct *mm, unsigned long start, unsigned long end)
{
	return listener_called_at(mn, mm, "clear_young", start, end);
}

static inline int on_test_young(struct mmu_notifier *mn, struct mm_struct *mm, unsigned long address)
{
	return listener_called_at(mn, mm, "test_young", address, 0);
}

static inline void on_change_pte(struct mmu_notifier *mn, struct mm_struct *mm, unsigned long address, pte_t pte)
{
	container_of(mn, struct listener, mn)->pte = pte.pte;
	listener_called_at(mn, mm, "change_pte", address, 0);
}

static inline int on_start(struct mmu_notifier *mn, const struct mmu_notifier_range *range)
{
	container_of(mn, struct listener, mn)->seen = *range;
	return listener_called(mn, range->mm, "start");
}

static inline void on_end(struct mmu_notifier *mn, const struct mmu_notifier_range *range)
{
	container_of(mn, struct listener, mn)->seen = *range;
	listener_called(mn, range->mm, "end");
}

static inline void on_arch(struct mmu_notifier *mn, struct mm_struct *mm, unsigned long start, unsigned long end)
{
	listener_called_at(mn, mm, "arch", start, end);
}

__attribute__((unused)) static const struct mmu_notifier_ops ops_all = {
	.release = on_release, .clear_flush_young = on_clear_flush_young, .clear_young = on_clear_young,
	.test_young = on_test_young, .change_pte = on_change_pte,
	.invalidate_range_start = on_start, .invalidate_range_end = on_end,
};
__attribute__((unused)) static const struct mmu_notifier_ops ops_none = { .release = NULL };

/* Only `ops` of the notifier is set: register must not read the rest. */
static inline struct listener listener(const char *name, const struct mmu_notifier_ops *ops)
{
	struct listener self = { .name = name };

	POISON(&self.mn);
	self.mn.ops = ops;
	return self;
}

#define REGISTER(listener, mm) ASSERT_EQ(mmu_notifier_register(&(listener)->mn, mm), 0)
#define UNREGISTER(listener) mmu_notifier_unregister(&(listener)->mn, (listener)->mn.mm)

/* A listener from alloc_notifier(), for get and put. */
static int test_frees;
static inline struct mmu_notifier *on_alloc(struct mm_struct *mm)
{
	struct listener *self = malloc(sizeof(*self));

	(void)mm;
	*self = listener("got", NULL);
	note("alloc");
	return &self->mn;
}

static inline void on_free(struct mmu_notifier *mn)
{
	note("free");
	__atomic_fetch_add(&test_frees, 1, __ATOMIC_SEQ_CST);
	changed();
	free(container_of(mn, struct listener, mn));
}

__attribute__((unused)) static const struct mmu_notifier_ops ops_get = {
	.release = on_release, .test_young = on_test_young, .invalidate_range_start = on_start,
	.invalidate_range_end = on_end, .alloc_notifier = on_alloc, .free_notifier = on_free,
};

/* For a listener that register() and put() are used on: its memory is the case's. */
static inline void on_free_kept(struct mmu_notifier *mn)
{
	note("%s.free", container_of(mn, struct listener, mn)->name);
	__atomic_fetch_add(&test_frees, 1, __ATOMIC_SEQ_CST);
	changed();
}

__attribute__((unused)) static const struct mmu_notifier_ops ops_kept = {
	.release = on_release, .test_young = on_test_young, .invalidate_range_start = on_start,
	.invalidate_range_end = on_end, .free_notifier = on_free_kept,
};

/* `in` of a listener: stands at the gate `arg` in test_young. */
static inline void stand_at_gate(struct listener *self, const char *op)
{
	if (!strcmp(op, "test_young"))
		gate_pass(self->arg);
}

/* A subscriber to an interval: logs "NAME.inv SEQ". */
struct watch {
	struct mmu_interval_notifier sub;
	const char *name;
	bool refuse;		/* return false */
	bool keep_seq;		/* do not call set_seq */
	void (*in)(struct watch *self, const struct mmu_notifier_range *range, unsigned long seq);
	void *arg;		/* for `in` */
	struct mmu_notifier_range seen;
	pthread_mutex_t user_lock;
};

static inline bool on_invalidate(struct mmu_interval_notifier *sub, const struct mmu_notifier_range *range,
				 unsigned long seq)
{
	struct watch *self = container_of(sub, struct watch, sub);

	note("%s.inv %ld", self->name, (long)seq);
	self->seen = *range;
	if (self->in)
		self->in(self, range, seq);
	if (!self->keep_seq && !self->refuse) {
		pthread_mutex_lock(&self->user_lock);
		mmu_interval_set_seq(sub, seq);
		pthread_mutex_unlock(&self->user_lock);
	}
	return !self->refuse;
}

static const struct mmu_interval_notifier_ops watch_ops = { .invalidate = on_invalidate };

/* All of the subscription is 0x5a: insert must not read it. */
static inline struct watch watch(const char *name)
{
	struct watch self = { .name = name, .user_lock = PTHREAD_MUTEX_INITIALIZER };

	POISON(&self.sub);
	return self;
}

#define INSERT(watch, mm, start, length) \
	ASSERT_EQ(mmu_interval_notifier_insert(&(watch)->sub, mm, start, length, &watch_ops), 0)
#define REMOVE(watch) mmu_interval_notifier_remove(&(watch)->sub)
#define READ_BEGIN(watch) mmu_interval_read_begin(&(watch)->sub)
#define SEQ(watch) ((watch)->sub.invalidate_seq)

/* Things to spawn(). */
static inline void *do_unregister(void *listener) { UNREGISTER((struct listener *)listener); return NULL; }
static inline void *do_remove(void *watch) { REMOVE((struct watch *)watch); return NULL; }
static inline void *do_read_begin(void *watch) { return (void *)READ_BEGIN((struct watch *)watch); }
static inline void *do_synchronize(void *unused) { mmu_notifier_synchronize(); return unused; }
static inline void *do_mmput(void *mm) { mmput(mm); return NULL; }

/* ------------------------------------------------------------------ ranges */

/*
 * The contract wants a lock over each pair (DV-2). These take mmap_lock for reading with the thread's first range of
 * an mm and release it with the last one: mmap_lock is not recursive.
 */
static __thread struct { struct mm_struct *mm; int depth; } test_held[4];

static inline int *test_depth(struct mm_struct *mm)
{
	for (int n = 0; n < 4; n++)
		if (test_held[n].depth && test_held[n].mm == mm)
			return &test_held[n].depth;
	for (int n = 0; n < 4; n++)
		if (!test_held[n].depth) {
			test_held[n].mm = mm;
			return &test_held[n].depth;
		}
	FAIL("too many mms");
}

static inline void hold(struct mm_struct *mm)
{
	if ((*test_depth(mm))++ == 0)
		mmap_read_lock(mm);
}

static inline void let_go(struct mm_struct *mm)
{
	if (--*test_depth(mm) == 0)
		mmap_read_unlock(mm);
}

#define WITH_LOCK(mm, ...) do { hold(mm); __VA_ARGS__; let_go(mm); } while (0)

static inline struct mmu_notifier_range make_range(struct mm_struct *mm, unsigned long start, unsigned long end)
{
	struct mmu_notifier_range range;

	mmu_notifier_range_init_owner(&range, MMU_NOTIFY_CLEAR, 0, mm, start, end, NULL);
	return range;
}

static inline void range_start(struct mmu_notifier_range *range)
{
	hold(range->mm);
	mmu_notifier_invalidate_range_start(range);
}

static inline int range_start_nonblock(struct mmu_notifier_range *range)
{
	int result;

	hold(range->mm);
	result = mmu_notifier_invalidate_range_start_nonblock(range);
	if (result)
		let_go(range->mm);
	return result;
}

static inline void range_end(struct mmu_notifier_range *range)
{
	mmu_notifier_invalidate_range_end(range);
	let_go(range->mm);
}

/* A whole pair. */
static inline void invalidate(struct mm_struct *mm, unsigned long start, unsigned long end)
{
	struct mmu_notifier_range range = make_range(mm, start, end);

	range_start(&range);
	range_end(&range);
}

/* S.seq of an mm in which no range is active. Read off a probe; hangs if a range is active. */
static inline unsigned long idle_seq(struct mm_struct *mm)
{
	struct watch probe = watch("probe");
	unsigned long seq;

	INSERT(&probe, mm, 0x7fff00000000, 0x1000);
	seq = READ_BEGIN(&probe);
	ASSERT_EQ(seq, SEQ(&probe));
	REMOVE(&probe);
	return seq + 1;
}

/* A walk: logs "NAME.test_young" of those that have it. To spawn(). */
static inline void *do_walk(void *arg)
{
	struct mm_struct *mm = arg;
	int young;

	mmu_notifier_rmap_read_lock(mm);
	young = mmu_notifier_test_young(mm, 0x1000);
	mmu_notifier_rmap_read_unlock(mm);
	return (void *)(long)young;
}

/* ------------------------------------------------------------------ runner */

struct test_case { const char *name; void (*run)(void); struct test_case *next; };
static struct test_case *test_first, **test_last = &test_first;
/* Shared with the child. */
static struct { char skip[256]; } *test_shared;

#define TEST(title)							\
	static void title(void);					\
	__attribute__((constructor)) static void test_add_##title(void)	\
	{								\
		static struct test_case self = { #title, title, NULL };	\
		*test_last = &self;					\
		test_last = &self.next;					\
	}								\
	static void title(void)

#define SKIP(...) do {							\
	snprintf(test_shared->skip, sizeof(test_shared->skip), __VA_ARGS__); \
	_exit(77);							\
} while (0)

enum { TEST_DEADLINE = 30 };

__attribute__((noreturn)) static void test_child(const struct test_case *test)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	alarm(TEST_DEADLINE);
	mmu_notifier_set_wait_hook(&test_wait_hook);
	mmu_notifier_set_report_handler(test_on_report, NULL);
	test->run();
	test_expect_reports(test->name, 0, false, TEST_STRINGS());
	exit(0);
}

/* 0, 1 or 77; prints the case's line. */
static int test_run(const struct test_case *test)
{
	siginfo_t info;
	int status;
	pid_t pid;

	test_shared->skip[0] = 0;
	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		setpgid(0, 0);
		test_child(test);
	}
	if (pid < 0) {
		printf("FAIL %s: fork: %s\n", test->name, strerror(errno));
		return 1;
	}
	setpgid(pid, pid);
	/* While it is a zombie its group is still its own: end what it left behind. */
	waitid(P_PID, pid, &info, WEXITED | WNOWAIT);
	kill(-pid, SIGKILL);
	waitpid(pid, &status, 0);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		printf("PASS %s\n", test->name);
	else if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
		printf("SKIP %s: %s\n", test->name, test_shared->skip);
	else if (WIFEXITED(status))
		printf("FAIL %s\n", test->name);
	else if (WTERMSIG(status) == SIGALRM)
		printf("FAIL %s: timed out\n", test->name);
	else
		printf("FAIL %s: %s\n", test->name, strsignal(WTERMSIG(status)));
	fflush(stdout);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

/* Arguments: parts of the names of the cases to run; none: all of them. Or `-NAME=REASON': a case to leave out. */
static bool test_wanted(const struct test_case *test, char **wanted)
{
	bool all = true, named = false;

	for (; *wanted; wanted++) {
		if (**wanted == '-')
			continue;
		all = false;
		named |= strstr(test->name, *wanted) != NULL;
	}
	return all || named;
}

static bool test_left_out(const struct test_case *test, char **arguments)
{
	size_t length = strlen(test->name);

	for (; *arguments; arguments++)
		if (**arguments == '-' && !strncmp(*arguments + 1, test->name, length) && (*arguments)[1 + length] == '=') {
			printf("SKIP %s: %s\n", test->name, *arguments + 1 + length + 1);
			return true;
		}
	return false;
}

int main(int argc, char **argv)
{
	unsigned passed = 0, failed = 0, skipped = 0;

	(void)argc;
	test_shared = mmap(NULL, sizeof(*test_shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (test_shared == MAP_FAILED)
		return 1;
	for (struct test_case *test = test_first; test; test = test->next) {
		if (!test_wanted(test, argv + 1))
			continue;
		if (test_left_out(test, argv + 1)) {
			skipped++;
			continue;
		}
		switch (test_run(test)) {
		case 0: passed++; break;
		case 77: skipped++; break;
		default: failed++;
		}
	}
	printf("%u passed, %u failed, %u skipped\n", passed, failed, skipped);
	return failed ? 1 : passed ? 0 : skipped ? 77 : 1;
}

#endif
