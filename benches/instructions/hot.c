// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * The hot paths for callgrind: each loop of c/loops.c runs twice, SHORT and
 * LONG operations, and the counts are dumped after each; what an operation
 * takes is the difference, in which the way in and out of the loop is not.
 * The first line of output is the level of the CPU that the library sees here.
 */
#include <linux/mmu_notifier.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <valgrind/callgrind.h>
#include "../c/subject.h"

extern const struct subject static_subject;
#define S (&static_subject)

#define SHORT	500
#define LONG	2500

#define COUNT(name, loop) \
	do { \
		for (unsigned long n = SHORT; n <= LONG; n += LONG - SHORT) { \
			CALLGRIND_ZERO_STATS; \
			loop; \
			CALLGRIND_DUMP_STATS_AT(name); \
		} \
	} while (0)

static const char *level(void)
{
#ifdef __x86_64__
	if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl"))
		return "x86-64-v4";
	if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("fma"))
		return "x86-64-v3";
	if (__builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("popcnt"))
		return "x86-64-v2";
	return "x86-64";
#else
	return "generic";
#endif
}

static void pairs(const char *name, unsigned long notifiers)
{
	void *mm = S->mm_new(notifiers);

	S->pairs(mm, 0, 10);
	COUNT(name, S->pairs(mm, 0, n));
	S->mm_free(mm);
}

static void intervals(unsigned long count, const char *const names[3], const char *update)
{
	static const unsigned long hits[3] = { 0, 1, 16 };
	void *set = S->set_new(count);

	for (int i = 0; i < 3; i++) {
		S->set_pairs(set, 0, hits[i], 0, 10);
		COUNT(names[i], S->set_pairs(set, 0, hits[i], 0, n));
	}
	COUNT(update, S->set_updates(set, 0, n));
	if (count == 100) {
		S->set_reads(set, 10);
		COUNT("read", S->set_reads(set, n));
	}
	S->set_free(set);
}

/*
 * Puts, while a callback of another mm's notifier is running: the worker waits
 * for its end, and does not come between.
 */
static sem_t inside, over;

static int stay(struct mmu_notifier *notifier, const struct mmu_notifier_range *range)
{
	(void)notifier;
	(void)range;
	sem_post(&inside);
	sem_wait(&over);
	return 0;
}

static void *hold(void *mm)
{
	struct mmu_notifier_range range;

	mmu_notifier_range_init(&range, MMU_NOTIFY_CLEAR, 0, mm, 0, 4096);
	mmu_notifier_invalidate_range_start(&range);
	mmu_notifier_invalidate_range_end(&range);
	return NULL;
}

static void put(unsigned long n)
{
	static const struct mmu_notifier_ops ops = { .invalidate_range_start = stay };
	struct mmu_notifier notifier = { .ops = &ops };
	struct mm_struct *mm = mm_alloc();
	void *burst = S->burst_new(n), *first = S->burst_new(1);
	pthread_t holder;

	if (mmu_notifier_register(&notifier, mm) || pthread_create(&holder, NULL, hold, mm))
		abort();
	sem_wait(&inside);
	S->burst_puts(first);
	usleep(300000);
	CALLGRIND_ZERO_STATS;
	S->burst_puts(burst);
	CALLGRIND_DUMP_STATS_AT("put");
	sem_post(&over);
	pthread_join(holder, NULL);
	S->burst_settle(first);
	S->burst_settle(burst);
	S->burst_free(first);
	S->burst_free(burst);
	mmu_notifier_unregister(&notifier, mm);
	mmput(mm);
}

int main(void)
{
	printf("%s %d\n", level(), LONG - SHORT);
	fflush(stdout);
	pairs("pair-0", 0);
	pairs("pair-1", 1);
	pairs("pair-8", 8);
	S->section_call(10);
	COUNT("section", S->section_call(n));
	COUNT("section-nested", S->section_nested(n));
	intervals(100, (const char *const[3]){ "interval-1e2-k0", "interval-1e2-k1", "interval-1e2-k16" }, "update-1e2");
	intervals(10000, (const char *const[3]){ "interval-1e4-k0", "interval-1e4-k1", "interval-1e4-k16" }, "update-1e4");
	sem_init(&inside, 0, 0);
	sem_init(&over, 0, 0);
	put(SHORT);
	put(LONG);
	return 0;
}
