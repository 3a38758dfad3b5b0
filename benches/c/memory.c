// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * What the library takes for one object, of the heap and of mapped memory.  It
 * is linked with --wrap for the functions below, which count; memory that this
 * program, or libc inside of itself, allocates is not the library's.  That all
 * comes from the heap that grows by brk(), stacks of threads included, so the
 * pages of every mapping without a name are the library's, however it maps
 * them; they count as far as they have been touched.
 *
 * Usage: memory; prints lines KIND COUNT BYTES-PER-OBJECT
 */
#define _GNU_SOURCE
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>
#include <linux/mmu_notifier.h>
#include "rename.h"
#include "subject.h"

extern const struct subject static_subject;

static atomic_long heap;

static void *counted(void *pointer, long sign)
{
	atomic_fetch_add(&heap, pointer ? sign * (long)malloc_usable_size(pointer) : 0);
	return pointer;
}

/* What is measured makes its own allocations with the real functions. */
void *__real_malloc(size_t bytes);
void *__real_calloc(size_t count, size_t bytes);
void *__real_realloc(void *old, size_t bytes);
void __real_free(void *pointer);
int __real_posix_memalign(void **pointer, size_t alignment, size_t bytes);
void *__real_aligned_alloc(size_t alignment, size_t bytes);

void *__wrap_malloc(size_t bytes)
{
	return counted(__real_malloc(bytes), 1);
}

void *__wrap_calloc(size_t count, size_t bytes)
{
	return counted(__real_calloc(count, bytes), 1);
}

void *__wrap_realloc(void *old, size_t bytes)
{
	counted(old, -1);
	return counted(__real_realloc(old, bytes), 1);
}

void __wrap_free(void *pointer)
{
	counted(pointer, -1);
	__real_free(pointer);
}

int __wrap_posix_memalign(void **pointer, size_t alignment, size_t bytes)
{
	int error = __real_posix_memalign(pointer, alignment, bytes);

	if (!error)
		counted(*pointer, 1);
	return error;
}

void *__wrap_aligned_alloc(size_t alignment, size_t bytes)
{
	return counted(__real_aligned_alloc(alignment, bytes), 1);
}

/* Bytes of the pages from @begin to @end that were touched. */
static long touched(unsigned long begin, unsigned long end)
{
	static unsigned char in[4096];
	long bytes = 0, page = sysconf(_SC_PAGESIZE);

	for (; begin < end; begin += sizeof(in) * page) {
		unsigned long rest = (end - begin) / page;
		size_t pages = rest < sizeof(in) ? rest : sizeof(in);

		if (mincore((void *)begin, pages * page, in))
			abort();
		for (size_t p = 0; p < pages; p++)
			bytes += in[p] & 1 ? page : 0;
	}
	return bytes;
}

/* Bytes in use. */
static long used(void)
{
	FILE *maps = fopen("/proc/self/maps", "r");
	unsigned long begin, end, inode;
	char line[512], name[2];
	long bytes = heap;

	if (!maps)
		abort();
	while (fgets(line, sizeof(line), maps)) {
		int words = sscanf(line, "%lx-%lx %*s %*s %*s %lu %1s", &begin, &end, &inode, name);

		if (words == 3 && inode == 0)
			bytes += touched(begin, end);
	}
	fclose(maps);
	return bytes;
}

static void report(const char *kind, long count, long bytes)
{
	printf("%s %ld %.1f\n", kind, count, (double)bytes / count);
}

/* ------------------------------------------------------------------------ objects */

static bool invalidate(struct mmu_interval_notifier *sub, const struct mmu_notifier_range *range, unsigned long seq)
{
	(void)range;
	mmu_interval_set_seq(sub, seq);
	return true;
}

static const struct mmu_interval_notifier_ops interval_ops = { .invalidate = invalidate };
static const struct mmu_notifier_ops notifier_ops = { 0 };

/* Random order, as drivers come; the mm has had an interval before, so that what an mm costs is not counted. */
static void intervals(long count)
{
	struct mmu_interval_notifier *subs = __real_calloc(count + 1, sizeof(*subs));
	struct mm_struct *mm = mm_alloc();
	unsigned long state = 3;
	unsigned int *order = __real_malloc(count * sizeof(*order));
	long before;

	mmu_interval_notifier_insert(&subs[count], mm, 0, 4096, &interval_ops);
	for (long i = 0; i < count; i++) {
		long other;

		state = state * 6364136223846793005ul + 1442695040888963407ul;
		other = ((state >> 32) * (i + 1)) >> 32;
		order[i] = order[other];
		order[other] = i;
	}
	before = used();
	for (long i = 0; i < count; i++)
		if (mmu_interval_notifier_insert(&subs[i], mm, (order[i] + 1) * 131072ul, 65536, &interval_ops))
			abort();
	report("interval", count, used() - before);
	for (long i = 0; i <= count; i++)
		mmu_interval_notifier_remove(&subs[i]);
	mmput(mm);
	__real_free(order);
	__real_free(subs);
}

static void notifiers(long count)
{
	struct mmu_notifier *all = __real_calloc(count + 1, sizeof(*all));
	struct mm_struct *mm = mm_alloc();
	long before;

	all[count].ops = &notifier_ops;
	mmu_notifier_register(&all[count], mm);
	before = used();
	for (long i = 0; i < count; i++) {
		all[i].ops = &notifier_ops;
		mmu_notifier_register(&all[i], mm);
	}
	report("notifier", count, used() - before);
	for (long i = 0; i <= count; i++)
		mmu_notifier_unregister(&all[i], mm);
	mmput(mm);
	__real_free(all);
}

static void mms(long count)
{
	struct mmu_notifier *all = __real_calloc(count, sizeof(*all));
	struct mm_struct **mm = __real_malloc(count * sizeof(*mm));
	long before = used();

	for (long i = 0; i < count; i++) {
		mm[i] = mm_alloc();
		all[i].ops = &notifier_ops;
		mmu_notifier_register(&all[i], mm[i]);
	}
	report("mm", count, used() - before);
	for (long i = 0; i < count; i++) {
		mmu_notifier_unregister(&all[i], mm[i]);
		mmput(mm[i]);
	}
	__real_free(mm);
	__real_free(all);
}

/* ------------------------------------------------------------------------ threads */

static pthread_barrier_t started, attached, over;
static void *space;

enum { STACK = 64 << 10 };

/* Its first walk and its first read section attach a thread. */
static void *attach(void *nothing)
{
	pthread_barrier_wait(&started);
	static_subject.pairs(space, 0, 1);
	static_subject.section_empty(1);
	pthread_barrier_wait(&attached);
	pthread_barrier_wait(&over);
	return nothing;
}

static void threads(long count)
{
	pthread_t *all = __real_malloc(count * sizeof(*all));
	char *stacks = __real_aligned_alloc(64, count * STACK);
	pthread_attr_t attributes;
	long before;

	pthread_attr_init(&attributes);
	pthread_barrier_init(&started, NULL, count + 1);
	pthread_barrier_init(&attached, NULL, count + 1);
	pthread_barrier_init(&over, NULL, count + 1);
	space = static_subject.mm_new(1);
	for (long i = 0; i < count; i++)
		if (pthread_attr_setstack(&attributes, stacks + i * STACK, STACK) ||
		    pthread_create(&all[i], &attributes, attach, NULL)) {
			fprintf(stderr, "memory: no more than %ld threads here\n", i);
			exit(1);
		}
	before = used();
	pthread_barrier_wait(&started);
	pthread_barrier_wait(&attached);
	report("thread", count, used() - before);
	pthread_barrier_wait(&over);
	for (long i = 0; i < count; i++)
		pthread_join(all[i], NULL);
	static_subject.mm_free(space);
	__real_free(stacks);
	__real_free(all);
}

int main(void)
{
	if (!mallopt(M_MMAP_MAX, 0) || !mallopt(M_ARENA_MAX, 1))
		return 1;
	for (long n = 100; n <= 1000000; n *= 10)
		intervals(n);
	for (long n = 1; n <= 64; n *= 4)
		notifiers(n);
	for (long n = 1; n <= 10000; n *= 10)
		mms(n);
	for (long n = 1; n <= 4096; n *= 4)
		threads(n);
	return 0;
}
