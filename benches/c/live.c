/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What system calls cost with live events off and on, and with UCX's hooks: a process that does as it is told. A line
 * `STATE CALL COUNT` on stdin is answered by the nanoseconds of CPU that COUNT calls took. src/live.rs is at the other end.
 *
 * States: off; on (a range below and one above all memory is watched); watched (the memory of the call is watched, too); net, netted: as
 * these two, with the net. The callbacks do next to nothing. They are counted, and have to be as many as they should, or the process ends.
 *
 * Usage: live [many | LIBUCS]: many: 100000 more ranges are watched; LIBUCS: UCX's hooks are installed. Both for good.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <linux/mmu_notifier.h>
#include <linux/sched.h>
#include <mmu_notifier/live.h>

#define SIZE		(64UL << 10)
#define LARGE		(1UL << 20)
#define MANY		100000
#define LOW		0x200000000000UL	/* below what anybody maps */
#define HIGH		0x7fffffffc000UL	/* above it, but for the stack perhaps */

static void must(bool ok, const char *what)
{
	if (!ok) {
		fprintf(stderr, "live: %s: %s\n", what, strerror(errno));
		exit(1);
	}
}

/* ---- the calls ---- */

static int zero;
static char *page, *place;

static char *map(void)
{
	return mmap(place, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

static void call_getppid(void)
{
	getppid();
}

static void call_read(void)
{
	char byte;

	must(read(zero, &byte, 1) == 1, "read");
}

/* Of nothing: there is no cheaper call. */
static void call_munmap(void)
{
	munmap(place, SIZE);
}

static void call_pair(void)
{
	munmap(map(), SIZE);
}

static void call_touched(void)
{
	char *at = map();

	for (unsigned long i = 0; i < SIZE; i += PAGE_SIZE)
		at[i] = 1;
	munmap(at, SIZE);
}

static void call_mprotect(void)
{
	mprotect(page, PAGE_SIZE, PROT_READ);
	mprotect(page, PAGE_SIZE, PROT_READ | PROT_WRITE);
}

static void call_dontneed(void)
{
	*page = 1;
	madvise(page, PAGE_SIZE, MADV_DONTNEED);
}

static char *chunk;

static void call_malloc(void)
{
	chunk = malloc(LARGE);
	*(volatile char *)chunk = 1;
	free(chunk);
}

static void *no_thread(void *data)
{
	return data;
}

static void call_thread(void)
{
	pthread_t thread;

	must(!(errno = pthread_create(&thread, NULL, no_thread, NULL)), "pthread_create");
	pthread_join(thread, NULL);
}

/* Its memory, and how many events the memory has of it. */
static const struct call {
	const char *name;
	void (*call)(void);
	char **memory;
	unsigned long size, events;
} calls[] = {
	{ "getppid", call_getppid, &page, PAGE_SIZE, 0 },
	{ "read", call_read, &page, PAGE_SIZE, 0 },
	{ "munmap", call_munmap, &place, SIZE, 1 },
	{ "pair", call_pair, &place, SIZE, 1 },
	{ "touched", call_touched, &place, SIZE, 1 },
	{ "mprotect", call_mprotect, &page, PAGE_SIZE, 2 },
	{ "dontneed", call_dontneed, &page, PAGE_SIZE, 1 },
	{ "malloc", call_malloc, &chunk, LARGE, 1 },
	{ "thread", call_thread, &page, PAGE_SIZE, 0 },
};

static const struct call *find(const char *name)
{
	for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++)
		if (!strcmp(calls[i].name, name))
			return &calls[i];
	must(false, name);
	return NULL;
}

/* ---- who is told ---- */

static unsigned long told, told_ucx;

static bool invalidate(struct mmu_interval_notifier *sub, const struct mmu_notifier_range *range, unsigned long seq)
{
	(void)range;
	mmu_interval_set_seq(sub, seq);
	told++;
	return true;
}

static void watch(struct mmu_interval_notifier *sub, unsigned long start, unsigned long size)
{
	static const struct mmu_interval_notifier_ops ops = { .invalidate = invalidate };

	must(!mmu_interval_notifier_insert(sub, current->mm, start & PAGE_MASK, size, &ops), "insert");
}

/* On both sides of everything: so a look at the first and the last of them is not enough to leave a call alone. */
static void watch_around(unsigned long count)
{
	struct mmu_interval_notifier *subs = calloc(count, sizeof(*subs));

	must(subs, "calloc");
	for (unsigned long i = 0; i < count; i++)
		watch(&subs[i], i ? LOW + i * 16 * PAGE_SIZE : HIGH, PAGE_SIZE);
}

static void count_ucx(int type, void *event, void *data)
{
	(void)type;
	(void)event;
	(void)data;
	told_ucx++;
}

/* UCM_EVENT_VM_UNMAPPED; libucm needs libucs, and does not say so. */
static void hook_ucx(const char *libucs)
{
	void *handle = dlopen(libucs, RTLD_NOW | RTLD_GLOBAL);
	int (*set)(int, int, void (*)(int, void *, void *), void *) =
		handle ? (typeof(set))dlsym(handle, "ucm_set_event_handler") : NULL;

	must(set && !set(1 << 17, 0, count_ucx, NULL), "UCX");
	call_pair();
	must(told_ucx, "UCX tells of nothing");
}

/* ---- states ---- */

static void enable(const char *state, bool net)
{
	struct mmu_notifier_live_status status = { .size = sizeof(status) };

	must(!(errno = -mmu_notifier_live_enable_with(net ? MMU_NOTIFIER_LIVE_NET : 0)), state);
	mmu_notifier_live_status(&status);
	must(!net || status.mechanisms & MMU_NOTIFIER_LIVE_BY_NET, status.reason);
}

static bool go(const char *state, const struct call *call)
{
	static struct mmu_interval_notifier sub;
	static const struct call *now;
	static const char off[] = "", with_sites[] = "sites", with_net[] = "net", *is_on = off;
	const char *on = !strcmp(state, "off") ? off : strncmp(state, "net", 3) ? with_sites : with_net;
	bool watched = !strcmp(state, "watched") || !strcmp(state, "netted");

	if (now && (now != call || !watched)) {
		mmu_interval_notifier_remove(&sub);
		now = NULL;
	}
	if (on != is_on) {
		must(!(errno = -mmu_notifier_live_disable()), state);
		if (*on)
			enable(state, on == with_net);
	}
	is_on = on;
	if (watched && !now) {
		watch(&sub, (unsigned long)*call->memory, call->size);
		now = call;
	}
	return watched;
}

static double measure(const struct call *call, unsigned long count)
{
	struct timespec start, end;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &start);
	for (unsigned long i = 0; i < count; i++)
		call->call();
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &end);
	return (end.tv_sec - start.tv_sec) * 1e9 + (end.tv_nsec - start.tv_nsec);
}

static void answer(const char *state, const struct call *call, unsigned long count)
{
	bool watched = go(state, call);
	unsigned long before;
	double took;

	call->call();			/* the code was just written */
	before = told;
	took = measure(call, count);
	if (told - before != (watched ? call->events * count : 0)) {
		fprintf(stderr, "live: %s, %s: %lu callbacks of %lu calls\n", state, call->name, told - before, count);
		exit(1);
	}
	printf("%.0f\n", took);
}

static void *idle(void *data)
{
	for (;;)
		pause();
	return data;
}

int main(int argc, char **argv)
{
	char state[16], name[16];
	unsigned long count;
	cpu_set_t cpus;
	pthread_t thread;

	CPU_ZERO(&cpus);
	CPU_SET(0, &cpus);
	sched_setaffinity(0, sizeof(cpus), &cpus);
	must(!pthread_create(&thread, NULL, idle, NULL), "pthread_create");
	mallopt(M_MMAP_THRESHOLD, LARGE / 2);
	setvbuf(stdout, NULL, _IOLBF, 0);
	zero = open("/dev/zero", O_RDONLY);
	page = mmap(NULL, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	place = map();
	munmap(place, SIZE);
	watch_around(argc > 1 && !strcmp(argv[1], "many") ? MANY : 2);
	if (argc > 1 && strcmp(argv[1], "many"))
		hook_ucx(argv[1]);
	call_malloc();			/* to know where */
	while (scanf("%15s %15s %lu", state, name, &count) == 3)
		answer(state, find(name), count);
	return 0;
}
