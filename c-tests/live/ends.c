// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * ends - what becomes of live events at the end of a process, at execve(), and in the child of fork(). Each case is a child;
 * what its subscriber is told goes to a page that both share.
 *
 * `release` of a notifier on the process's own address space is called by mmu_notifier_unregister() and by nothing else: the
 * library has no part in exit and execve, where the kernel takes the whole address space away at once (docs/live.md).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdlib.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include <linux/mmu_notifier.h>
#include <linux/sched/mm.h>
#include <mmu_notifier/live.h>

#include "cases.h"

enum { LENGTH = 1 << 16 };

struct told { _Atomic int starts, ends, invalidates, releases; };

static struct told *told;
static char *range;

static int on_start(struct mmu_notifier *sub, const struct mmu_notifier_range *event)
{
	(void)sub;
	told->starts += event->start <= (unsigned long)range && event->end > (unsigned long)range;
	return 0;
}

static void on_end(struct mmu_notifier *sub, const struct mmu_notifier_range *event)
{
	(void)sub;
	told->ends += event->start <= (unsigned long)range && event->end > (unsigned long)range;
}

static void on_release(struct mmu_notifier *sub, struct mm_struct *mm)
{
	(void)sub;
	(void)mm;
	told->releases++;
}

static bool invalidate(struct mmu_interval_notifier *sub, const struct mmu_notifier_range *event, unsigned long seq)
{
	(void)event;
	mmu_interval_set_seq(sub, seq);
	told->invalidates++;
	return true;
}

static const struct mmu_notifier_ops ops = {
	.invalidate_range_start = on_start, .invalidate_range_end = on_end, .release = on_release,
};
static const struct mmu_interval_notifier_ops interval_ops = { .invalidate = invalidate };
static struct mmu_notifier chain = { .ops = &ops };
static struct mmu_interval_notifier interval;

static void subscribe(void)
{
	MUST(!mmu_notifier_live_enable());
	range = mmap(NULL, LENGTH, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	MUST(range != MAP_FAILED);
	*range = 1;
	MUST(!mmu_notifier_register(&chain, current->mm));
	MUST(!mmu_interval_notifier_insert(&interval, current->mm, (unsigned long)range, LENGTH, &interval_ops));
}

static bool nothing_told(void)
{
	return !told->starts && !told->ends && !told->invalidates && !told->releases;
}

/* ---- cases: what the child does, and what is told of it ---- */

static void case_exit(void) { exit(0); }
static void case__exit(void) { _exit(0); }
static void case_exec(void) { _exit(execl("/bin/true", "true", NULL)); }
static void case_abort(void) { abort(); }

static void *exit_elsewhere(void *unused)
{
	(void)unused;
	exit(0);
}

static void case_exit_in_thread(void)
{
	pthread_t thread;

	MUST(!pthread_create(&thread, NULL, exit_elsewhere, NULL));
	pthread_join(thread, NULL);
}

static void case_unregister(void)
{
	mmu_notifier_unregister(&chain, current->mm);
	_exit(told->releases != 1);
}

/* The child of fork: nothing of it is told to anybody, and what it unmaps is its own. */
static void case_fork_is_inert(void)
{
	int status;
	pid_t child = fork();

	if (!child)
		_exit(munmap(range, LENGTH));
	MUST(child > 0 && waitpid(child, &status, 0) == child && !status);
	MUST(told->starts == 1 && told->ends == 1);	/* fork's own event, in the parent */
	MUST(*range == 1);
	MUST(!munmap(range, LENGTH) && told->starts == 2 && told->ends == 2);
	_exit(0);
}

/* A child that wants live events of its own asks for them. */
static void case_fork_enables_again(void)
{
	int status;
	pid_t child = fork();

	if (!child) {
		alarm(DEADLINE);
		while (told->ends < told->starts)	/* the end of fork's own event, which the parent is told */
			usleep(100);
		memset(told, 0, sizeof(*told));
		memset(&chain, 0, sizeof(chain));
		chain.ops = &ops;
		subscribe();
		MUST(!munmap(range, LENGTH));
		_exit(told->starts != 1 || told->ends != 1 || told->invalidates != 1);
	}
	MUST(child > 0 && waitpid(child, &status, 0) == child && !status);
	_exit(0);
}

/* fork() while a callback runs in another thread: the child neither hangs nor believes that it still runs. */
static _Atomic int entered, leave;

static bool wait_inside(struct mmu_interval_notifier *sub, const struct mmu_notifier_range *event, unsigned long seq)
{
	mmu_interval_set_seq(sub, seq);
	if (event->event == MMU_NOTIFY_UNMAP)
		for (entered = 1; !leave;)
			usleep(1000);
	return true;
}

static void *unmap_range(void *unused)
{
	(void)unused;
	MUST(!munmap(range, LENGTH));
	return NULL;
}

static void case_fork_during_callback(void)
{
	static const struct mmu_interval_notifier_ops waiting = { .invalidate = wait_inside };
	static struct mmu_interval_notifier second;
	pthread_t thread;
	int status;
	pid_t child;

	MUST(!mmu_interval_notifier_insert(&second, current->mm, (unsigned long)range, LENGTH, &waiting));
	MUST(!pthread_create(&thread, NULL, unmap_range, NULL));
	while (!entered)
		usleep(1000);
	child = fork();
	if (!child) {
		alarm(DEADLINE);
		_exit(munmap(range, LENGTH) || mmu_notifier_live_enable() || munmap(range, LENGTH));
	}
	leave = 1;
	MUST(child > 0 && waitpid(child, &status, 0) == child && !status);
	MUST(!pthread_join(thread, NULL));
	_exit(0);
}

/*
 * fork() takes malloc's locks after the library's; free() changes the address space while it holds malloc's. Nobody may want a
 * lock of the library there that fork holds, whatever subscribers come and go meanwhile, and whatever their callbacks put.
 */
struct freeing {
	struct mmu_interval_notifier sub;
	struct mmu_notifier_ops ops;
	struct mmu_notifier *_Atomic held;	/* put by the callback */
	bool holds;
};

static _Atomic bool enough;
static _Atomic int given, freed, put_inside;

static struct mmu_notifier *alloc_notifier(struct mm_struct *mm)
{
	struct mmu_notifier *fresh = calloc(1, sizeof(*fresh));

	(void)mm;
	given += fresh != NULL;
	return fresh ? fresh : ERR_PTR(-ENOMEM);
}

static void free_notifier(struct mmu_notifier *sub)
{
	freed++;
	free(sub);
}

static bool invalidate_and_put(struct mmu_interval_notifier *sub, const struct mmu_notifier_range *event, unsigned long seq)
{
	struct mmu_notifier *held = atomic_exchange(&container_of(sub, struct freeing, sub)->held, NULL);

	if (held) {
		usleep(500);		/* let fork() get to malloc's locks, which this thread holds */
		mmu_notifier_put(held);
		put_inside++;
	}
	return invalidate(sub, event, seq);
}

static void *free_and_watch(void *data)
{
	static const struct mmu_interval_notifier_ops putting = { .invalidate = invalidate_and_put };
	struct freeing *self = data;
	const size_t size = 1 << 20;

	while (!enough) {
		char *volatile first, *volatile second;

		if (self->holds) {
			self->held = mmu_notifier_get(&self->ops, current->mm);
			MUST(!IS_ERR(self->held));
		}
		first = malloc(size);
		second = malloc(size);
		MUST(first && second);
		MUST(!mmu_interval_notifier_insert(&self->sub, current->mm, (unsigned long)first & -4096UL, 2 * size, &putting));
		free(second);		/* the end of the arena: it shrinks */
		free(first);
		mmu_interval_notifier_remove(&self->sub);
		if (self->held)		/* nothing was given back */
			mmu_notifier_put(atomic_exchange(&self->held, NULL));
	}
	return NULL;
}

static void fork_while_others_free(bool they_put)
{
	enum { THREADS = 3, FORKS = 300 };
	static struct freeing freeing[THREADS];
	pthread_t threads[THREADS];
	int status;

	mallopt(M_MMAP_THRESHOLD, 32 << 20);
	mallopt(M_TRIM_THRESHOLD, 64 << 10);
	for (int i = 0; i < THREADS; i++) {
		freeing[i].holds = they_put;
		freeing[i].ops = (struct mmu_notifier_ops){ .alloc_notifier = alloc_notifier, .free_notifier = free_notifier };
		MUST(!pthread_create(&threads[i], NULL, free_and_watch, &freeing[i]));
	}
	for (int i = 0; i < FORKS; i++) {
		pid_t child = fork();

		if (!child) {
			alarm(DEADLINE);
			mmu_notifier_unregister(&chain, current->mm);	/* inherited: ends in silence */
			_exit(told->releases != 0);
		}
		MUST(child > 0 && waitpid(child, &status, 0) == child && !status);
	}
	enough = true;
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	MUST(told->invalidates > FORKS);
	mmu_notifier_synchronize();
	MUST(given == freed && put_inside <= given && (put_inside > THREADS) == they_put);
	_exit(0);
}

static void case_fork_while_others_free(void) { fork_while_others_free(false); }
static void case_fork_while_others_put(void) { fork_while_others_free(true); }

/*
 * Ways to fork that run no handlers: _Fork() and a bare clone(). The child may do what POSIX lets it do, which is no function of the
 * library. Its memory is its own, nothing of it is told, and it hangs on nothing that another thread held.
 */
static pid_t bare_clone(void)
{
	return (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
}

static void *watch_and_unmap(void *unused)
{
	struct mmu_interval_notifier sub;

	while (!enough) {
		char *place = mmap(NULL, LENGTH, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		MUST(place != MAP_FAILED);
		MUST(!mmu_interval_notifier_insert(&sub, current->mm, (unsigned long)place, LENGTH, &interval_ops));
		MUST(!munmap(place, LENGTH));
		mmu_interval_notifier_remove(&sub);
	}
	return unused;
}

static void fork_without_handlers(pid_t (*way)(void))
{
	enum { THREADS = 2, FORKS = 1000 };
	int status, starts = told->starts;
	pthread_t threads[THREADS];

	for (int i = 0; i < THREADS; i++)
		MUST(!pthread_create(&threads[i], NULL, watch_and_unmap, NULL));
	for (int i = 0; i < FORKS; i++) {
		pid_t child = way();

		if (!child) {
			int before = told->starts;

			alarm(DEADLINE);
			_exit(munmap(range, LENGTH) || mprotect(told, sizeof(*told), PROT_READ) || told->starts < before);
		}
		MUST(child > 0 && waitpid(child, &status, 0) == child && !status);
	}
	enough = true;
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	MUST(told->starts == starts + FORKS && told->starts == told->ends);	/* of the parent's fork, and no other */
	MUST(*range == 1);
	_exit(0);
}

static void case__Fork(void) { fork_without_handlers(_Fork); }
static void case_clone(void) { fork_without_handlers(bare_clone); }

/* A process with one thread may go on in such a child. Live events are off there, until they are asked for. */
static void case_clone_enables_again(void)
{
	struct mmu_notifier_live_status state = { .size = sizeof(state) };
	int status;
	pid_t child = bare_clone();

	if (!child) {
		alarm(DEADLINE);
		MUST(!mmu_notifier_live_status(&state) && !state.enabled);
		MUST(!mmu_notifier_live_enable());
		MUST(!mmu_notifier_live_status(&state) && state.enabled);
		_exit(0);
	}
	MUST(child > 0 && waitpid(child, &status, 0) == child && !status);
	_exit(0);
}

struct one {
	const char *name;
	void (*run)(void);
	int signal;		/* it ends by */
	bool tells_nothing;	/* nothing is told on the way out */
};

static const struct one cases[] = {
	{ "exit() tells nobody", case_exit, 0, true },
	{ "_exit() tells nobody", case__exit, 0, true },
	{ "exit() in another thread tells nobody", case_exit_in_thread, 0, true },
	{ "execve() tells nobody", case_exec, 0, true },
	{ "abort() tells nobody", case_abort, SIGABRT, true },
	{ "unregister calls release", case_unregister, 0, false },
	{ "a child of fork is not heard", case_fork_is_inert, 0, false },
	{ "a child of fork enables again", case_fork_enables_again, 0, false },
	{ "fork while others free", case_fork_while_others_free, 0, false },
	{ "fork while others free, and callbacks put", case_fork_while_others_put, 0, false },
	{ "_Fork() while others subscribe", case__Fork, 0, false },
	{ "clone() while others subscribe", case_clone, 0, false },
	{ "a child of clone enables again", case_clone_enables_again, 0, false },
	{ "fork while a callback runs", case_fork_during_callback, 0, false },
};

static const struct one *the_case;

static void subscribe_and_run(void)
{
	subscribe();
	the_case->run();
	_exit(2);
}

static bool run(const struct one *one)
{
	int status;

	memset(told, 0, sizeof(*told));
	the_case = one;
	status = status_of(subscribe_and_run);
	if (!ended_by(status, one->signal))
		return printf("FAIL %s: wait status %#x\n", one->name, status), false;
	if (one->tells_nothing && !nothing_told())
		return printf("FAIL %s: starts %d, ends %d, invalidates %d, releases %d\n", one->name, told->starts, told->ends,
			      told->invalidates, told->releases), false;
	return true;
}

int main(void)
{
	int passed = 0, nr = sizeof(cases) / sizeof(cases[0]);

	setvbuf(stdout, NULL, _IONBF, 0);
	told = mmap(NULL, sizeof(*told), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	MUST(told != MAP_FAILED);
	for (int i = 0; i < nr; i++)
		passed += run(&cases[i]);
	printf("%d passed, %d failed, 0 skipped\n", passed, nr - passed);
	return passed != nr;
}
