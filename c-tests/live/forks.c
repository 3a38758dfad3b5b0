// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * forks - fork() while other threads are inside free(), in a callback that wants something of the library.
 *
 * Such a callback runs with malloc's locks held, and fork() takes these when its handlers have run. So fork() may not hold anything
 * that the callback waits for. Each case is a process of its own, which fork() would hang; the child uses what came along.
 */
#define _GNU_SOURCE
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include <linux/mmu_notifier.h>
#include <linux/rcupdate.h>
#include <linux/sched/mm.h>
#include <mmu_notifier/live.h>
#include <mmu_notifier/report.h>

#include "cases.h"

enum { THREADS = 3, FORKS = 60, ONE = 1 << 20, PAGE = 4096 };

/* A thread that frees, and what its callback is given: used once, inside free(). */
struct freeing {
	struct mmu_interval_notifier sub;
	struct rcu_head head;
	struct mm_struct *mm;
	struct mmu_interval_notifier other;	/* of `shared` */
	_Atomic bool owes_rcu;
	bool inserted, armed;
};

static struct freeing freeing[THREADS];
static __thread struct freeing *freeing_here;
static struct mm_struct *shared;		/* an address space that is not the process's own */
static _Atomic bool enough;
static _Atomic int wanted, reports, rcu_calls, other_calls;
static void (*want)(struct freeing *self);	/* what the callback wants */
static void (*give)(struct freeing *self);	/* before, outside of callbacks */

static bool on_other(struct mmu_interval_notifier *sub, const struct mmu_notifier_range *event, unsigned long seq)
{
	(void)event;
	mmu_interval_set_seq(sub, seq);
	other_calls++;
	return true;
}

static const struct mmu_interval_notifier_ops other_ops = { .invalidate = on_other };

static bool invalidate(struct mmu_interval_notifier *sub, const struct mmu_notifier_range *event, unsigned long seq)
{
	struct freeing *self = container_of(sub, struct freeing, sub);

	(void)event;
	mmu_interval_set_seq(sub, seq);
	if (self->armed && self == freeing_here) {		/* not fork()'s own event, in its thread */
		self->armed = false;
		usleep(500);		/* let fork() get to malloc's locks, which this thread holds */
		want(self);
		wanted++;
	}
	return true;
}

static void *free_and_watch(void *data)
{
	static const struct mmu_interval_notifier_ops ops = { .invalidate = invalidate };
	struct freeing *self = freeing_here = data;

	while (!enough) {
		char *volatile buffer;

		if (give)
			give(self);
		buffer = malloc(ONE);
		MUST(buffer);
		MUST(!mmu_interval_notifier_insert(&self->sub, current->mm, (unsigned long)buffer & -PAGE, ONE, &ops));
		self->armed = true;
		free(buffer);		/* at the end of the arena, that shrinks it; else the next call drops its pages, arena locked */
		malloc_trim(0);
		mmu_interval_notifier_remove(&self->sub);
	}
	return NULL;
}

/* An event of the other address space is told, once, to an interval that this thread inserts there. */
static void use_shared(void)
{
	struct mmu_notifier_range event;
	struct mmu_interval_notifier sub;
	int before = other_calls;

	MUST(!mmu_interval_notifier_insert(&sub, shared, 64 * PAGE, PAGE, &other_ops));
	mmu_notifier_range_init(&event, MMU_NOTIFY_UNMAP, 0, shared, 64 * PAGE, 65 * PAGE);
	mmu_notifier_invalidate_range_start(&event);
	mmu_notifier_invalidate_range_end(&event);
	MUST(other_calls == before + 1);
	mmu_interval_notifier_remove(&sub);
}

static void count_rcu(struct rcu_head *head)
{
	rcu_calls++;
	container_of(head, struct freeing, head)->owes_rcu = false;
}

static void wait_for_rcu(struct freeing *self)
{
	while (self->owes_rcu)		/* the deadline is the process's */
		usleep(50);
}

/* The child has the library as one thread leaves it: it asks, reports, and has the worker run something. */
static void child_goes_on(void)
{
	struct mmu_notifier_live_status status = { .size = sizeof(status) };
	static struct freeing own;
	int before = rcu_calls, reported = reports;

	alarm(DEADLINE);
	MUST(!mmu_notifier_live_status(&status) && !status.enabled);
	rcu_read_unlock();
	MUST(reports == reported + 1);
	own.owes_rcu = true;
	call_rcu(&own.head, count_rcu);
	wait_for_rcu(&own);
	MUST(rcu_calls > before);
	use_shared();
	MUST(!mmu_notifier_live_enable() && !mmu_notifier_live_status(&status) && status.enabled);
	_exit(0);
}

static void count_report(const struct mmu_notifier_report *report, void *unused)
{
	(void)report;
	(void)unused;
	reports++;
}

static void fork_while_others_free(void)
{
	pthread_t threads[THREADS];
	int status;

	mallopt(M_MMAP_THRESHOLD, 32 << 20);
	mallopt(M_TRIM_THRESHOLD, 64 << 10);
	mmu_notifier_set_report_handler(count_report, NULL);
	shared = mm_alloc();
	MUST(shared && !mmu_notifier_live_enable());
	for (int i = 0; i < THREADS; i++)
		MUST(!pthread_create(&threads[i], NULL, free_and_watch, &freeing[i]));
	for (int i = 0; i < FORKS; i++) {
		pid_t child = fork();

		if (!child)
			child_goes_on();
		MUST(child > 0 && waitpid(child, &status, 0) == child && !status);
	}
	enough = true;
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	MUST(wanted > THREADS);
}

/* ---- what callbacks want ---- */

static void want_status(struct freeing *self)
{
	struct mmu_notifier_live_status status = { .size = sizeof(status) };

	(void)self;
	MUST(!mmu_notifier_live_status(&status) && status.enabled && status.sites);
}

static void case_status(void)
{
	want = want_status;
	fork_while_others_free();
}

static void want_report(struct freeing *self)
{
	(void)self;
	rcu_read_unlock();
}

static void case_report(void)
{
	want = want_report;
	fork_while_others_free();
	MUST(reports == wanted);
}

static void want_handler(struct freeing *self)
{
	(void)self;
	mmu_notifier_set_report_handler(count_report, NULL);
}

static void case_handler(void)
{
	want = want_handler;
	fork_while_others_free();
}

static void want_rcu(struct freeing *self)
{
	self->owes_rcu = true;
	call_rcu(&self->head, count_rcu);
}

static void case_rcu(void)
{
	want = want_rcu;
	give = wait_for_rcu;
	fork_while_others_free();
	for (int i = 0; i < THREADS; i++)
		wait_for_rcu(&freeing[i]);
	MUST(rcu_calls == wanted);
}

static void want_put(struct freeing *self)
{
	mmput_async(self->mm);
	self->mm = NULL;
}

static void give_mm(struct freeing *self)
{
	if (!self->mm)
		self->mm = mm_alloc();
	MUST(self->mm);
}

static void case_put(void)
{
	want = want_put;
	give = give_mm;
	fork_while_others_free();
}

/* Another address space: its semaphore, an event, a reader, a removal. */
static void want_other(struct freeing *self)
{
	unsigned long at = PAGE * (1 + (unsigned long)(self - freeing));
	struct mmu_notifier_range event;
	unsigned long seq;

	mmap_read_lock(shared);
	mmu_notifier_range_init(&event, MMU_NOTIFY_UNMAP, 0, shared, at, at + PAGE);
	mmu_notifier_invalidate_range_start(&event);
	mmu_notifier_invalidate_range_end(&event);
	seq = mmu_interval_read_begin(&self->other);
	mmap_read_unlock(shared);
	mmu_interval_read_retry(&self->other, seq);
}

static void give_other(struct freeing *self)
{
	unsigned long at = PAGE * (1 + (unsigned long)(self - freeing));

	if (self->inserted)
		mmu_interval_notifier_remove(&self->other);
	MUST(!mmu_interval_notifier_insert(&self->other, shared, at, PAGE, &other_ops));
	self->inserted = true;
}

static void case_other(void)
{
	want = want_other;
	give = give_other;
	fork_while_others_free();
	MUST(other_calls == wanted);
}

/* While one thread forks and others free, one turns events off and on: who is in a callback then may still want something. */
static void *switch_off_and_on(void *unused)
{
	(void)unused;
	while (!enough) {
		MUST(!mmu_notifier_live_disable());
		MUST(!mmu_notifier_live_enable());
	}
	return NULL;
}

static void want_much(struct freeing *self)
{
	struct mmu_notifier_live_status status = { .size = sizeof(status) };

	MUST(!mmu_notifier_live_status(&status));
	want_report(self);
	want_other(self);
}

static void case_switched(void)
{
	pthread_t thread;

	want = want_much;
	give = give_other;
	MUST(!pthread_create(&thread, NULL, switch_off_and_on, NULL));
	fork_while_others_free();
	pthread_join(thread, NULL);
	MUST(reports == wanted && other_calls == wanted);
}

static const struct one { const char *name; void (*run)(void); } cases[] = {
	{ "the status", case_status },
	{ "a report", case_report },
	{ "another report handler", case_handler },
	{ "call_rcu()", case_rcu },
	{ "mmput_async()", case_put },
	{ "another address space", case_other },
	{ "much, while events are turned off and on", case_switched },
};

static const struct one *the_case;

static void run_the_case(void)
{
	the_case->run();
	_exit(0);
}

int main(void)
{
	int passed = 0, nr = sizeof(cases) / sizeof(cases[0]);

	setvbuf(stdout, NULL, _IONBF, 0);
	for (the_case = cases; the_case < cases + nr; the_case++) {
		int status = status_of(run_the_case);

		passed += !status;
		if (status)
			printf("FAIL fork while a callback inside free() wants %s: wait status %#x\n", the_case->name, status);
	}
	printf("%d passed, %d failed, 0 skipped\n", passed, nr - passed);
	return passed != nr;
}
