// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * hard - live events where it is hard to make them: huge pages, small stacks, no privileges, no /proc, filters of system calls, a
 * full address space, many threads, signals, and callbacks that do what they should not.
 *
 * Usage: hard [CASE...]
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <fenv.h>
#include <linux/filter.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <sys/time.h>

#include <linux/mmu_notifier.h>
#include <linux/sched/mm.h>
#include <mmu_notifier/live.h>
#include <mmu_notifier/stage.h>

#include "cases.h"

enum { PAGE = 4096, LENGTH = 16 * PAGE, SMALL_STACK = 16 << 10, NOBODY = 65534 };
#define HUGE_PAGE (2UL << 20)

/* ---- one watched place; invalidate does `more`, too ---- */

struct place {
	struct mmu_interval_notifier sub;
	char *at;
	_Atomic int told;
	void (*more)(void);
};

static struct place here, there;

static bool invalidate(struct mmu_interval_notifier *sub, const struct mmu_notifier_range *event, unsigned long seq)
{
	struct place *place = (struct place *)sub;

	(void)event;
	mmu_interval_set_seq(sub, seq);
	place->told++;
	if (place->more)
		place->more();
	return true;
}

static const struct mmu_interval_notifier_ops ops = { .invalidate = invalidate };

static char *map(size_t length)
{
	char *at = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	MUST(at != MAP_FAILED);
	*at = 1;
	return at;
}

/* An insert in the middle of other changes holds when they are over, which read_begin waits for. */
static void watch(struct place *place, char *at, size_t length)
{
	place->at = at;
	place->told = 0;
	MUST(!mmu_interval_notifier_insert(&place->sub, current->mm, (unsigned long)at, length, &ops));
	mmu_interval_read_begin(&place->sub);
}

static void enable(void)
{
	struct mmu_notifier_live_status status = { .size = sizeof(status) };
	int error = mmu_notifier_live_enable();

	mmu_notifier_live_status(&status);
	if (error)
		dprintf(STDOUT_FILENO, "mmu_notifier_live_enable: %s: %s\n", strerror(-error), status.reason);
	MUST(!error);
}

static struct mmu_notifier_live_status status_now(void)
{
	struct mmu_notifier_live_status status = { .size = sizeof(status) };

	MUST(!mmu_notifier_live_status(&status));
	return status;
}

/* Live events are on, and `here` is watched. */
static void begin(void)
{
	enable();
	watch(&here, map(LENGTH), LENGTH);
}

static void unmap_here(void) { MUST(!munmap(here.at, LENGTH)); }

static void must_be_told(void)
{
	unmap_here();
	MUST(here.told == 1);
}

/* ---- the stack that a told call takes: of a handler on an alternate stack, painted before ---- */

enum { ALTERNATE = 64 << 10, MOST_STACK = 5 << 10 };
static char *alternate, *in_handler;
static int kind_of_call;

static void change_here(int signal)
{
	char *at = here.at;

	(void)signal;
	in_handler = __builtin_frame_address(0);
	switch (kind_of_call) {
	case 0: MUST(!munmap(at, LENGTH)); break;
	case 1: MUST(!madvise(at, LENGTH, MADV_DONTNEED)); break;
	case 2: MUST(!mprotect(at, LENGTH, PROT_READ)); break;
	case 3: MUST(mremap(at, LENGTH, LENGTH, MREMAP_MAYMOVE | MREMAP_FIXED, at + LENGTH) == at + LENGTH); break;
	case 4: MUST(mmap(at, LENGTH, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == at); break;
	}
}

static void case_stack_of_a_told_call(void)
{
	struct sigaction action = { .sa_handler = change_here, .sa_flags = SA_ONSTACK };
	stack_t stack = { .ss_sp = alternate = map(ALTERNATE), .ss_size = ALTERNATE };

	MUST(!sigaltstack(&stack, NULL) && !sigaction(SIGUSR1, &action, NULL));
	enable();
	for (kind_of_call = 0; kind_of_call < 5; kind_of_call++) {
		char *lowest = alternate;

		watch(&here, map(2 * LENGTH), LENGTH);
		memset(alternate, 0x5a, ALTERNATE);
		MUST(!raise(SIGUSR1) && here.told == 1);
		while (*lowest == 0x5a)
			lowest++;
		if (in_handler - lowest > MOST_STACK)
			dprintf(STDOUT_FILENO, "call %d: %td bytes\n", kind_of_call, in_handler - lowest);
		MUST(in_handler - lowest <= MOST_STACK);
		mmu_interval_notifier_remove(&here.sub);
	}
}

/* The same for the calls that take a look at /proc. */
static void files_must_be_told(void)
{
	int fd = memfd_create("hard", MFD_CLOEXEC), id = shmget(IPC_PRIVATE, LENGTH, IPC_CREAT | 0600);
	char *file, *segment = shmat(id, NULL, 0);

	MUST(fd >= 0 && !ftruncate(fd, LENGTH) && segment != (void *)-1 && !shmctl(id, IPC_RMID, NULL));
	file = mmap(NULL, LENGTH, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	MUST(file != MAP_FAILED);
	watch(&there, file, LENGTH);
	MUST(!ftruncate(fd, 0) && there.told == 1);
	mmu_interval_notifier_remove(&there.sub);
	watch(&there, segment, LENGTH);
	MUST(!shmdt(segment) && there.told == 1);
	mmu_interval_notifier_remove(&there.sub);
}

/* ---- threads that map, watch and unmap; one that is not told ends the process ---- */

enum { HAMMERS = 3 };
static pthread_t threads[HAMMERS];
static _Atomic bool stop;

static void *hammer(void *unused)
{
	struct place own = { 0 };

	(void)unused;
	while (!stop) {
		watch(&own, map(LENGTH), LENGTH);
		MUST(!munmap(own.at, LENGTH) && own.told >= 1);
		mmu_interval_notifier_remove(&own.sub);
	}
	return NULL;
}

static void hammers_start(void)
{
	for (int i = 0; i < HAMMERS; i++)
		MUST(!pthread_create(&threads[i], NULL, hammer, NULL));
}

static void hammers_end(void)
{
	stop = true;
	for (int i = 0; i < HAMMERS; i++)
		MUST(!pthread_join(threads[i], NULL));
}

static void *call_it(void *function)
{
	((void (*)(void))function)();
	return NULL;
}

/* ---- huge pages: more goes than was said ---- */

static char *huge_place(void)
{
	char *at = map(4 * HUGE_PAGE);

	return (char *)(((unsigned long)at + HUGE_PAGE - 1) & -HUGE_PAGE);
}

/* The page in the middle of a huge one, which a mapping of one small page takes away. */
static void map_over(int flags, int fd)
{
	char *at = huge_place(), *middle = at + HUGE_PAGE / 2;

	enable();
	*middle = 1;
	watch(&here, middle, PAGE);
	if (mmap(at, PAGE, PROT_READ | PROT_WRITE, flags | MAP_FIXED, fd, 0) == MAP_FAILED)
		skip("no huge pages");
	MUST(!*middle && here.told == 1);
}

static void case_huge_map(void) { map_over(MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1); }
static void case_huge_file(void)
{
	int fd = memfd_create("huge", MFD_HUGETLB | MFD_CLOEXEC);

	if (fd < 0)
		skip("no huge pages");
	map_over(MAP_SHARED, fd);
}

static void case_huge_move(void)
{
	char *from = mmap(NULL, HUGE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);
	char *to = huge_place();

	if (from == MAP_FAILED)
		skip("no huge pages");
	enable();
	from[HUGE_PAGE / 2] = 7;
	watch(&here, from + HUGE_PAGE / 2, PAGE);
	watch(&there, to + HUGE_PAGE / 2, PAGE);
	if (mremap(from, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to) != to)
		skip("this kernel moves whole huge pages only");
	MUST(to[HUGE_PAGE / 2] == 7 && here.told == 1 && there.told == 1);
}

/* ---- stacks ---- */

static void case_small_stack(void)
{
	pthread_attr_t attr;

	begin();
	MUST(!pthread_attr_init(&attr) && !pthread_attr_setstacksize(&attr, SMALL_STACK));
	MUST(!pthread_create(&threads[0], &attr, call_it, files_must_be_told) && !pthread_join(threads[0], NULL));
}

/* ---- privileges, /proc, filters ---- */

static void case_nobody(void)
{
	MUST(!prctl(PR_SET_DUMPABLE, 0, 0, 0, 0));
	if (setresuid(NOBODY, NOBODY, NOBODY))
		skip("not root");
	begin();
	files_must_be_told();
	must_be_told();
	MUST(!mmu_notifier_live_disable());
}

static void case_setuid_with_threads(void)
{
	begin();
	hammers_start();
	for (int i = 0; i < 50; i++)
		if (seteuid(i % 2 ? 0 : NOBODY))
			skip("not root");
	hammers_end();
	must_be_told();
}

static void case_chroot(void)
{
	char folder[] = "/tmp/hard-XXXXXX";

	MUST(mkdtemp(folder));
	if (chroot(folder))
		skip("not root");
	begin();
	must_be_told();
	files_must_be_told();
}

static void refuse(unsigned int number)
{
	struct sock_filter rules[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { sizeof(rules) / sizeof(rules[0]), rules };

	MUST(!prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) && !prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program));
}

static void case_no_mprotect(void)
{
	refuse(SYS_mprotect);
	begin();
	must_be_told();
	MUST(!mmu_notifier_live_disable() && !status_now().sites);
}

static void case_no_membarrier_before(void)
{
	refuse(SYS_membarrier);
	MUST(mmu_notifier_live_enable() == -ENOTSUP && *status_now().reason);
}

static void case_no_membarrier_afterwards(void)
{
	begin();
	refuse(SYS_membarrier);
	hammers_start();
	usleep(100000);
	hammers_end();
	must_be_told();
}

/* No mapping is left: neither the events nor the way back need one. */
static void case_full(void)
{
	begin();
	for (int i = 0; mmap(NULL, PAGE, i % 2 ? PROT_READ : PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED; i++)
		;
	must_be_told();
	MUST(!mmu_notifier_live_disable() && !status_now().sites);
}

/* ---- processes ---- */

static void wait_for(long child)
{
	int status;

	MUST(child > 0 && waitpid((pid_t)child, &status, 0) == child && !status);
}

static void case_clone3(void)
{
	struct clone_args args = { .exit_signal = SIGCHLD };
	long child;

	begin();
	child = syscall(SYS_clone3, &args, sizeof(args));
	if (!child)
		_exit(munmap(here.at, LENGTH));
	wait_for(child);
	MUST(here.told == 1 && *here.at == 1);
}

static void case_vfork_among_threads(void)
{
	enable();
	hammers_start();
	for (int i = 0; i < 100; i++) {
		pid_t child;

		watch(&there, map(LENGTH), LENGTH);
		child = vfork();
		if (!child)
			_exit(munmap(there.at, LENGTH));
		wait_for(child);
		MUST(there.told >= 1);
		mmu_interval_notifier_remove(&there.sub);
	}
	hammers_end();
}

/* Not fork(): its handlers do not run. */
static void case_bare_fork_among_threads(void)
{
	enable();
	hammers_start();
	for (int i = 0; i < 100; i++) {
		pid_t child = _Fork();

		if (!child)
			_exit(munmap(map(LENGTH), LENGTH));
		wait_for(child);
	}
	hammers_end();
}

static void case_children_enable(void)
{
	enable();
	hammers_start();
	for (int i = 0; i < 50; i++) {
		pid_t child = fork();

		if (!child) {
			alarm(DEADLINE);
			begin();
			must_be_told();
			_exit(mmu_notifier_live_disable());
		}
		wait_for(child);
	}
	hammers_end();
}

/* ---- on and off by several threads ---- */

static pthread_barrier_t barrier;

static void *on_and_off(void *unused)
{
	(void)unused;
	pthread_barrier_wait(&barrier);
	for (int i = 0; i < 10; i++) {
		enable();
		MUST(!mmu_notifier_live_disable());
	}
	return NULL;
}

/* In a fresh process each time, where nobody has looked for sites yet. */
static void several_switch(void)
{
	pthread_barrier_init(&barrier, NULL, HAMMERS);
	for (int i = 0; i < HAMMERS; i++)
		MUST(!pthread_create(&threads[i], NULL, on_and_off, NULL));
	for (int i = 0; i < HAMMERS; i++)
		MUST(!pthread_join(threads[i], NULL));
	begin();
	must_be_told();
	MUST(!mmu_notifier_live_disable() && !status_now().sites);
}

static void case_several_switch(void)
{
	for (int i = 0; i < 20; i++)
		MUST(!status_of(several_switch));
}

/* ---- signals ---- */

static _Atomic bool inside, leave;

static void stay(void)
{
	for (inside = true; !leave;)
		usleep(1000);
}

static void unmap_there(int signal)
{
	(void)signal;
	MUST(leave && !munmap(there.at, LENGTH));
}

/* A handler waits until the callbacks are done. */
static void case_signal_in_callback(void)
{
	begin();
	watch(&there, map(LENGTH), LENGTH);
	here.more = stay;
	signal(SIGUSR1, unmap_there);
	MUST(!pthread_create(&threads[0], NULL, call_it, unmap_here));
	while (!inside)
		usleep(1000);
	pthread_kill(threads[0], SIGUSR1);
	usleep(20000);
	leave = true;
	MUST(!pthread_join(threads[0], NULL) && here.told == 1 && there.told == 1);
	MUST(!mmu_notifier_live_epoch() && !status_now().nested);
}

/* Handlers everywhere. One that meets its thread inside the library is not announced: the epoch says so. */
static _Atomic int handled;

static void map_and_unmap(int signal)
{
	int error = errno;

	(void)signal;
	handled++;
	MUST(!munmap(map(LENGTH), LENGTH));
	errno = error;
}

static void case_signals(void)
{
	struct itimerval often = { { 0, 500 }, { 0, 500 } }, never = { 0 };
	struct sigaction action = { .sa_handler = map_and_unmap, .sa_flags = SA_RESTART };
	struct mmu_notifier_live_status status;

	enable();
	watch(&there, NULL, ~0UL);
	MUST(!sigaction(SIGALRM, &action, NULL));
	hammers_start();
	setitimer(ITIMER_REAL, &often, NULL);
	while (handled < 300)
		usleep(1000);
	setitimer(ITIMER_REAL, &never, NULL);
	hammers_end();
	status = status_now();
	MUST(there.told > 300 && status.missed == status.epoch && status.missed <= (unsigned long)handled);
	MUST(!status.nested);	/* no handler runs inside a callback */
}

/* ---- callbacks that leave traces, and those that do what they should not ---- */

static void spoil(void)
{
	errno = ENOTTY;
	fesetround(FE_UPWARD);
}

static void case_errno(void)
{
	begin();
	here.more = spoil;
	errno = EXDEV;
	must_be_told();
	MUST(errno == EXDEV && fegetround() == FE_TONEAREST);
}

static void fork_inside(void)
{
	pid_t child = fork();

	if (!child)
		_exit(0);
	wait_for(child);
}

/* It is made, and reported; its own event would end up here again. */
static void case_fork_in_callback(void)
{
	begin();
	here.more = fork_inside;
	must_be_told();
	MUST(status_now().nested == 1 && status_now().missed == 1);
}

static struct mmu_notifier chain;

static void unregister_inside(void) { mmu_notifier_unregister(&chain, current->mm); }

/* DV-7: the call would wait for the pair that this callback is a part of. */
static void case_unregister_in_callback(void)
{
	static const struct mmu_notifier_ops none;

	begin();
	chain.ops = &none;
	MUST(!mmu_notifier_register(&chain, current->mm));
	here.more = unregister_inside;
	unmap_here();
}

static int answer;

static void disable_inside(void) { answer = mmu_notifier_live_disable(); }

static void case_disable_in_callback(void)
{
	begin();
	here.more = disable_inside;
	must_be_told();
	MUST(answer == -EDEADLK && status_now().enabled);
}

/* ---- ranges with two stages ---- */

static struct mmu_notifier_live_range range;
static _Atomic bool hold;
static _Atomic int released;

static bool invalidate_range(struct mmu_notifier_live_range *r, const struct mmu_notifier_range *event, unsigned long seq)
{
	(void)event;
	mmu_interval_set_seq(&r->interval, seq);
	return true;
}

static void release_range(struct mmu_notifier_live_range *r)
{
	(void)r;
	while (hold)
		usleep(1000);
	MUST(!munmap(map(LENGTH), LENGTH));
	released++;
}

static const struct mmu_notifier_live_range_ops range_ops = { .invalidate = invalidate_range, .release = release_range };

static void begin_range(unsigned int timeout_ms)
{
	hold = timeout_ms != ~0U;
	enable();
	here.at = map(LENGTH);
	MUST(!mmu_notifier_live_range_insert(&range, current->mm, (unsigned long)here.at, LENGTH, &range_ops, timeout_ms));
	unmap_here();
}

static void end_range(unsigned long timeouts)
{
	MUST(status_now().release_timeouts == timeouts && mmu_notifier_live_epoch() == timeouts);
	hold = false;
	MUST(!mmu_notifier_live_range_remove(&range) && released == 1);
}

static void case_release_not_awaited(void) { begin_range(0), end_range(0); }
static void case_release_late(void) { begin_range(1), end_range(1); }
static void case_release_awaited(void)
{
	begin_range(~0U);
	MUST(released == 1);
	end_range(0);
}

static void exit_owing(void)
{
	begin_range(0);
	exit(0);
}

static void case_exit_owing(void) { MUST(!status_of(exit_owing)); }

/* The child owes nothing, and its own ranges work. */
static void case_fork_owing(void)
{
	pid_t child;

	begin_range(0);
	child = fork();
	if (!child) {
		alarm(DEADLINE);
		memset(&range, 0, sizeof(range));
		begin_range(~0U);
		MUST(released == 1 && !mmu_notifier_live_range_remove(&range));
		exit(0);
	}
	wait_for(child);
	end_range(0);
}

struct one { const char *name; void (*run)(void); int signal; };

static const struct one cases[] = {
	{ "a mapping of huge pages takes more than it says", case_huge_map, 0 },
	{ "so does one of a file of huge pages", case_huge_file, 0 },
	{ "so does mremap", case_huge_move, 0 },
	{ "files and segments on a stack of 16 KiB", case_small_stack, 0 },
	{ "the stack that a told call takes", case_stack_of_a_told_call, 0 },
	{ "nobody, and not dumpable", case_nobody, 0 },
	{ "setuid with threads", case_setuid_with_threads, 0 },
	{ "no /proc", case_chroot, 0 },
	{ "mprotect is refused", case_no_mprotect, 0 },
	{ "membarrier is refused", case_no_membarrier_before, 0 },
	{ "membarrier is refused later", case_no_membarrier_afterwards, 0 },
	{ "no mapping is left", case_full, 0 },
	{ "fork by clone3", case_clone3, 0 },
	{ "vfork among threads", case_vfork_among_threads, 0 },
	{ "_Fork among threads", case_bare_fork_among_threads, 0 },
	{ "children that enable, among threads", case_children_enable, 0 },
	{ "several threads switch on and off", case_several_switch, 0 },
	{ "a signal during a callback", case_signal_in_callback, 0 },
	{ "signals everywhere", case_signals, 0 },
	{ "errno and rounding after a callback", case_errno, 0 },
	{ "fork in a callback", case_fork_in_callback, 0 },
	{ "unregister in a callback of an interval", case_unregister_in_callback, SIGABRT },
	{ "disable in a callback", case_disable_in_callback, 0 },
	{ "a release that is not waited for", case_release_not_awaited, 0 },
	{ "a release that takes too long", case_release_late, 0 },
	{ "a release that is waited for", case_release_awaited, 0 },
	{ "exit with a release to come", case_exit_owing, 0 },
	{ "fork with a release to come", case_fork_owing, 0 },
};

static bool is_asked_for(const char *name, char *const names[])
{
	bool all = !*names;

	for (; *names; names++)
		all |= !strcmp(*names, name);
	return all;
}

int main(int argc, char **argv)
{
	int passed = 0, failed = 0, skipped = 0;

	(void)argc;
	setvbuf(stdout, NULL, _IONBF, 0);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const struct one *one = &cases[i];
		int status = is_asked_for(one->name, argv + 1) ? status_of(one->run) : -2;

		if (status == -2)
			continue;
		if (ended_by(status, one->signal)) {
			passed++;
		} else if (WIFEXITED(status) && WEXITSTATUS(status) == SKIPPED) {
			skipped++;
		} else {
			failed++;
			printf("FAIL %s: wait status %#x\n", one->name, status);
		}
	}
	printf("%d passed, %d failed, %d skipped\n", passed, failed, skipped);
	return failed != 0;
}
