// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * early - calls that were in the kernel before live events were enabled. A thread is held inside munmap(), after its instruction and
 * before its end: a userfaultfd has asked for UNMAP events, and nobody reads them. enable() has to wait for it; not for ever;
 * and as long as it is there no epoch may be good for more than one look. Each case is a child.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <linux/mmu_notifier.h>
#include <linux/sched/mm.h>
#include <mmu_notifier/live.h>

enum { LENGTH = 1 << 16, DEADLINE = 60, SKIPPED = 77, HOLD_MS = 300, BOUND_MS = 1000 };

__attribute__((noreturn)) static void fail(const char *what, int line)
{
	dprintf(STDOUT_FILENO, "early: line %d: not so: %s (%s)\n", line, what, strerror(errno));
	_exit(1);
}
#define MUST(condition) ((condition) ? (void)0 : fail(#condition, __LINE__))

__attribute__((noreturn)) static void cannot(const char *what)
{
	dprintf(STDOUT_FILENO, "SKIP %s: %s\n", what, strerror(errno));
	_exit(SKIPPED);
}

static unsigned long now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000UL + now.tv_nsec / 1000000;
}

static void sleep_ms(unsigned long ms)
{
	struct timespec time = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000 };

	while (nanosleep(&time, &time) && errno == EINTR)
		;
}

static struct mmu_notifier_live_status status(void)
{
	struct mmu_notifier_live_status status = { .size = sizeof(status) };

	MUST(!mmu_notifier_live_status(&status));
	return status;
}

/* ---- a thread that is held inside munmap() ---- */

static int uffd = -1;
static char *place;
static _Atomic int thread_id;
static _Atomic bool returned;

static void *unmap_place(void *unused)
{
	(void)unused;
	thread_id = (int)syscall(SYS_gettid);
	MUST(!munmap(place, LENGTH));
	returned = true;
	for (;;)
		pause();
}

/* Does the kernel say that the thread is in this call? */
static bool is_in_call(int number)
{
	char name[64], text[32] = "", wanted[16];
	int fd;

	snprintf(name, sizeof(name), "/proc/self/task/%d/syscall", thread_id);
	snprintf(wanted, sizeof(wanted), "%d ", number);
	fd = open(name, O_RDONLY | O_CLOEXEC);
	MUST(fd >= 0 && read(fd, text, sizeof(text) - 1) > 0);
	close(fd);
	return !strncmp(text, wanted, strlen(wanted));
}

static void hold_in_munmap(void)
{
	struct uffdio_api api = { .api = UFFD_API, .features = UFFD_FEATURE_EVENT_UNMAP };
	struct uffdio_register range = { .mode = UFFDIO_REGISTER_MODE_MISSING };
	pthread_t thread;

	uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);
	if (uffd < 0 || ioctl(uffd, UFFDIO_API, &api))
		cannot("a thread that is held in munmap(): userfaultfd");
	place = mmap(NULL, LENGTH, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	range.range.start = (unsigned long)place;
	range.range.len = LENGTH;
	MUST(place != MAP_FAILED && !ioctl(uffd, UFFDIO_REGISTER, &range));
	MUST(!pthread_create(&thread, NULL, unmap_place, NULL));
	while (!thread_id || !is_in_call(SYS_munmap))
		sleep_ms(1);
}

static void let_go(void)
{
	struct uffd_msg message;

	MUST(read(uffd, &message, sizeof(message)) == sizeof(message) && message.event == UFFD_EVENT_UNMAP);
	while (!returned)
		sleep_ms(1);
}

static void *let_go_later(void *unused)
{
	sleep_ms(HOLD_MS);
	let_go();
	return unused;
}

static bool invalidate(struct mmu_interval_notifier *sub, const struct mmu_notifier_range *event, unsigned long seq)
{
	(void)event;
	mmu_interval_set_seq(sub, seq);
	return true;
}

static void insert(struct mmu_interval_notifier *sub)
{
	static const struct mmu_interval_notifier_ops ops = { .invalidate = invalidate };
	char *at = mmap(NULL, LENGTH, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	MUST(at != MAP_FAILED && !mmu_interval_notifier_insert(sub, current->mm, (unsigned long)at, LENGTH, &ops));
}

static bool epoch_stands_still(void)
{
	unsigned long epoch = mmu_notifier_live_epoch();

	return mmu_notifier_live_epoch() == epoch && mmu_notifier_live_epoch() == epoch;
}

static bool says(const char *what)
{
	struct mmu_notifier_live_status now = status();

	return strstr(now.reason, what) != NULL;
}

/* ---- cases ---- */

static void case_waits(void)
{
	unsigned long before;
	pthread_t thread;

	hold_in_munmap();
	MUST(!pthread_create(&thread, NULL, let_go_later, NULL));
	before = now_ms();
	MUST(!mmu_notifier_live_enable());
	MUST(returned && now_ms() - before < BOUND_MS);
	MUST(!*status().reason && !status().missed && epoch_stands_still());
}

static void case_does_not_wait_for_ever(void)
{
	struct mmu_interval_notifier sub;
	unsigned long before = now_ms(), missed, epoch;

	hold_in_munmap();
	MUST(!mmu_notifier_live_enable());
	MUST(!returned && now_ms() - before >= BOUND_MS);
	/* Nobody watched: nothing was missed yet. But nobody may trust what he sees from now on. */
	MUST(status().enabled && says("a thread may be in a call") && !status().missed);
	MUST(!epoch_stands_still());
	/* Who subscribes now cannot be sure either. */
	missed = status().missed;
	insert(&sub);
	MUST(status().missed == missed + 1);
	MUST(!epoch_stands_still());
	/* What was validated before the call came back is not good afterwards; then all is well. */
	epoch = mmu_notifier_live_epoch();
	let_go();
	while (says("a thread may be in a call"))
		sleep_ms(1);
	MUST(mmu_notifier_live_epoch() != epoch && epoch_stands_still() && !*status().reason);
	missed = status().missed;
	mmu_interval_notifier_remove(&sub);
	insert(&sub);
	MUST(status().missed == missed && epoch_stands_still());
}

/* Who watched before is told that he may have missed it. */
static void case_watched_before(void)
{
	struct mmu_interval_notifier sub;

	insert(&sub);
	hold_in_munmap();
	MUST(!mmu_notifier_live_enable());
	MUST(!returned && status().missed == 1);
	MUST(!epoch_stands_still());
	let_go();
	while (!epoch_stands_still())
		sleep_ms(1);
	mmu_interval_notifier_remove(&sub);
}

/* Enabled again, while the thread is still held: the same. */
static void case_again(void)
{
	hold_in_munmap();
	MUST(!mmu_notifier_live_enable() && !mmu_notifier_live_disable() && !mmu_notifier_live_enable());
	MUST(!returned && says("a thread may be in a call") && !epoch_stands_still());
	let_go();
	while (!epoch_stands_still())
		sleep_ms(1);
}

/* The child of fork has not got that thread. */
static void case_fork(void)
{
	int status;
	pid_t child;

	hold_in_munmap();
	MUST(!mmu_notifier_live_enable() && !epoch_stands_still());
	child = fork();
	if (!child)
		_exit(!epoch_stands_still() || mmu_notifier_live_enable() || !epoch_stands_still());
	MUST(child > 0 && waitpid(child, &status, 0) == child && !status);
	let_go();
}

static void *read_pipe(void *data)
{
	char byte;

	thread_id = (int)syscall(SYS_gettid);
	MUST(read(*(int *)data, &byte, 1) == 1);
	return NULL;
}

static void case_sleeps_elsewhere(void)
{
	unsigned long before;
	pthread_t thread;
	int ends[2];

	MUST(!pipe(ends) && !pthread_create(&thread, NULL, read_pipe, &ends[0]));
	while (!thread_id || !is_in_call(SYS_read))
		sleep_ms(1);
	before = now_ms();
	MUST(!mmu_notifier_live_enable());
	MUST(now_ms() - before < BOUND_MS / 2);
	MUST(!*status().reason && !status().missed && epoch_stands_still());
	MUST(write(ends[1], "", 1) == 1 && !pthread_join(thread, NULL));
}

static _Atomic bool enough;

static void *compute(void *unused)
{
	while (!enough)
		;
	return unused;
}

/* Nothing says where a thread is that only computes; it is found out by what it has spent. */
static void case_computes(void)
{
	unsigned long before = now_ms();
	pthread_t thread;

	MUST(!pthread_create(&thread, NULL, compute, NULL));
	MUST(!mmu_notifier_live_enable());
	MUST(now_ms() - before < BOUND_MS * 10);
	while (!epoch_stands_still())
		sleep_ms(10);
	MUST(!*status().reason);
	enough = true;
	MUST(!pthread_join(thread, NULL));
}

static void without_proc(void)
{
	char folder[] = "/tmp/mmu-notifier-XXXXXX";

	MUST(mkdtemp(folder));
	if (chroot(folder) || chdir("/"))
		cannot("/proc that is not there: chroot");
}

static void case_no_proc(void)
{
	MUST(!mmu_notifier_live_enable() && !mmu_notifier_live_disable());
	without_proc();
	MUST(!mmu_notifier_live_enable());
	MUST(status().enabled && says("/proc") && status().missed == 1);
	MUST(epoch_stands_still());
}

static void case_never_any_proc(void)
{
	without_proc();
	MUST(!mmu_notifier_live_enable());
	MUST(status().enabled && says("/proc") && status().missed == 1 && epoch_stands_still());
}

struct one { const char *name; void (*run)(void); };

static const struct one cases[] = {
	{ "enable() waits for a munmap() that has begun before", case_waits },
	{ "enable() does not wait for ever, and no epoch is good", case_does_not_wait_for_ever },
	{ "who watched before has missed it", case_watched_before },
	{ "enabled again while a munmap() is held", case_again },
	{ "a child of fork, while a munmap() is held", case_fork },
	{ "enable() does not wait for who sleeps elsewhere", case_sleeps_elsewhere },
	{ "enable() and a thread that computes", case_computes },
	{ "enabled again without /proc", case_no_proc },
	{ "never any /proc", case_never_any_proc },
};

int main(void)
{
	int passed = 0, skipped = 0, nr = sizeof(cases) / sizeof(cases[0]);

	setvbuf(stdout, NULL, _IONBF, 0);
	for (int i = 0; i < nr; i++) {
		int status = -1;
		pid_t child = fork();

		if (!child) {
			alarm(DEADLINE);
			cases[i].run();
			_exit(0);
		}
		if (child < 0 || waitpid(child, &status, 0) != child)
			return 3;
		passed += !status;
		skipped += WIFEXITED(status) && WEXITSTATUS(status) == SKIPPED;
		if (status && !(WIFEXITED(status) && WEXITSTATUS(status) == SKIPPED))
			printf("FAIL %s: wait status %#x\n", cases[i].name, status);
	}
	printf("%d passed, %d failed, %d skipped\n", passed, nr - passed - skipped, skipped);
	return passed + skipped != nr;
}
