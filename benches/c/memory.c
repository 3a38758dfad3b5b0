// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * What the library takes from the heap for one object: linked with --wrap for
 * the functions below, which count.  Memory that this program, or libc inside
 * of itself, allocates is not the library's; mapped memory counts as far as it
 * has been touched.
 *
 * Usage: memory; prints lines KIND COUNT BYTES-PER-OBJECT
 */
#define _GNU_SOURCE
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <linux/mmu_notifier.h>
#include "rename.h"
#include "subject.h"

extern const struct subject static_subject;

/* What is measured makes its own allocations with the real functions. */
static atomic_long heap;
static struct { void *at; size_t bytes; } maps[4096];
static atomic_int map_count;

static void *counted(void *pointer, long sign)
{
	atomic_fetch_add(&heap, pointer ? sign * (long)malloc_usable_size(pointer) : 0);
	return pointer;
}

void *__real_malloc(size_t bytes);
void *__real_calloc(size_t count, size_t bytes);
void *__real_realloc(void *old, size_t bytes);
void __real_free(void *pointer);
int __real_posix_memalign(void **pointer, size_t alignment, size_t bytes);
void *__real_aligned_alloc(size_t alignment, size_t bytes);
void *__real_mmap(void *at, size_t bytes, int prot, int flags, int fd, off_t offset);
int __real_munmap(void *at, size_t bytes);

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

void *__wrap_mmap(void *at, size_t bytes, int prot, int flags, int fd, off_t offset)
{
	int i;

	at = __real_mmap(at, bytes, prot, flags, fd, offset);
	if (at != MAP_FAILED) {
		i = atomic_fetch_add(&map_count, 1);
		if (i >= (int)(sizeof(maps) / sizeof(maps[0])))
			abort();
		maps[i].at = at;
		maps[i].bytes = bytes;
	}
	return at;
}

/* All of a map, its beginning or its end: a map that is to be aligned is made wider, and cut. */
int __wrap_munmap(void *at, size_t bytes)
{
	for (int i = 0; i < map_count; i++) {
		char *begin = maps[i].at, *end = begin + maps[i].bytes;

		if (!begin || (char *)at < begin || (char *)at >= end)
			continue;
		if (at != begin)
			maps[i].bytes = (char *)at - begin;
		else if (bytes < maps[i].bytes)
			maps[i].at = begin + bytes, maps[i].bytes -= bytes;
		else
			maps[i].at = NULL;
	}
	return __real_munmap(at, bytes);
}

/* Bytes in use; of maps, pages that were touched. */
static long used(void)
{
	long bytes = heap, page = sysconf(_SC_PAGESIZE);

	for (int i = 0; i < map_count; i++) {
		size_t pages = (maps[i].bytes + page - 1) / page;
		unsigned char *in = maps[i].at ? __real_malloc(pages) : NULL;

		if (in && mincore(maps[i].at, maps[i].bytes, in) == 0)
			for (size_t p = 0; p < pages; p++)
				bytes += in[p] & 1 ? page : 0;
		__real_free(in);
	}
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
	pthread_attr_t attributes;
	long before;

	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, 64 << 10);
	pthread_barrier_init(&started, NULL, count + 1);
	pthread_barrier_init(&attached, NULL, count + 1);
	pthread_barrier_init(&over, NULL, count + 1);
	space = static_subject.mm_new(1);
	for (long i = 0; i < count; i++)
		if (pthread_create(&all[i], &attributes, attach, NULL)) {
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
	__real_free(all);
}

int main(void)
{
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
