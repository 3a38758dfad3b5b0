// SPDX-License-Identifier: MIT OR Apache-2.0
/* Changes that start inside libc and the loader: the heap, the stacks of threads, dlclose(). */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <malloc.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "rows.h"

enum { MiB = 1 << 20, CHUNK = 100 << 10 };

static char *page_up(void *at) { return (char *)(((uintptr_t)at + PAGE - 1) & -(uintptr_t)PAGE); }
static char *page_down(void *at) { return (char *)((uintptr_t)at & -(uintptr_t)PAGE); }

/* Room for what others allocate from now on, so that the end of the heap is left to the row. */
static void leave_room(size_t room)
{
	char *gap = malloc(room), *after;

	MUST(gap);
	do {	/* what comes from below does not keep the gap from being the end */
		after = malloc(PAGE);
		MUST(after);
	} while (after < gap);
	free(gap);
}

/* ---- the break ---- */

static char *break_before;

static void prepare_break(struct watch *watch)
{
	char *volatile room;	/* volatile: compilers leave out what is freed at once */

	mallopt(M_TRIM_THRESHOLD, 64 * MiB);
	room = malloc(CHUNK);
	free(room);
	break_before = sbrk(0);
	MUST(sbrk(2 * MiB) == break_before);
	watch_all(watch, page_up(break_before + MiB + PAGE), MiB / 2);
}

static void change_sbrk(struct watch *watch)
{
	(void)watch;
	MUST(sbrk(-MiB) == break_before + 2 * MiB);
}

static void change_brk(struct watch *watch)
{
	(void)watch;
	MUST(!brk(break_before + MiB));
}

static void change_brk_syscall(struct watch *watch)
{
	(void)watch;
	MUST(syscall(SYS_brk, break_before + MiB) == (long)(break_before + MiB));
}

/* ---- malloc ---- */

static char *block;

/* The pages of a block of its own mapping, without the first and the last one. */
static void watch_block(struct watch *watch, size_t length)
{
	watch_all(watch, page_up(block), (size_t)(page_down(block + length) - page_up(block)));
}

static void prepare_large(struct watch *watch)
{
	block = malloc(8 * MiB);
	MUST(block);
	watch_block(watch, 8 * MiB);
}

static void prepare_shrinking(struct watch *watch)
{
	prepare_large(watch);
	watch_part(watch, page_up(block + 2 * MiB), 4 * MiB);
}

static void prepare_hemmed(struct watch *watch)
{
	prepare_large(watch);
	/* Whether it was free or not, now something is right behind the block. */
	mmap(page_up(block + 8 * MiB), PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
}

static void change_free(struct watch *watch)
{
	(void)watch;
	free(block);
}

static void change_realloc_down(struct watch *watch)
{
	(void)watch;
	MUST(realloc(block, MiB) == block);
}

static void change_realloc_up(struct watch *watch)
{
	char *moved = realloc(block, 24 * MiB);

	(void)watch;
	MUST(moved && moved != block);
}

/* Free memory in the middle of the heap, which only malloc_trim() gives back. */
static void prepare_hole(struct watch *watch)
{
	char *after;

	mallopt(M_MMAP_THRESHOLD, 16 * MiB);
	mallopt(M_TRIM_THRESHOLD, 64 * MiB);
	leave_room(CHUNK);
	block = malloc(4 * MiB);
	after = malloc(2 * CHUNK);	/* more than the gap has */
	MUST(block && after > block);
	watch_all(watch, page_up(block + MiB), 2 * MiB);
	free(block);
}

static void change_trim(struct watch *watch)
{
	(void)watch;
	malloc_trim(0);
}

static void prepare_top(struct watch *watch)
{
	mallopt(M_MMAP_THRESHOLD, 16 * MiB);
	leave_room(MiB);	/* whoever inserts may look at all sites again, if another patcher has come */
	block = malloc(4 * MiB);
	MUST(block && block + 4 * MiB < (char *)sbrk(0));
	watch_all(watch, page_up(block + MiB), 2 * MiB);
}

/* ---- threads ---- */

static sem_t ready, go;
static struct watch *threads_watch;
static __thread unsigned long thread_local_word;

static pthread_t start_thread(void *(*run)(void *), size_t stack, struct watch *watch)
{
	pthread_attr_t attr;
	pthread_t thread;

	sem_init(&ready, 0, 0);
	sem_init(&go, 0, 0);
	threads_watch = watch;
	MUST(!pthread_attr_init(&attr) && !pthread_attr_setstacksize(&attr, stack));
	MUST(!pthread_create(&thread, &attr, run, NULL));
	sem_wait(&ready);
	return thread;
}

static void wait_for_go(void)
{
	sem_post(&ready);
	sem_wait(&go);
}

static pthread_t the_thread;

static void change_join(struct watch *watch)
{
	(void)watch;
	sem_post(&go);
	MUST(!pthread_join(the_thread, NULL));
}

/* Pages of the stack far below what the thread uses. */
static void *deep_thread(void *unused)
{
	char here;

	(void)unused;
	watch_all(threads_watch, page_down(&here) - 4 * MiB, LENGTH);
	wait_for_go();
	return NULL;
}

static void prepare_stack_kept(struct watch *watch)
{
	the_thread = start_thread(deep_thread, 8 * MiB, watch);
}

/* The thread's own block is at the end of its stack, and stays until that is unmapped. */
static void *local_thread(void *unused)
{
	(void)unused;
	thread_local_word = SENTINEL;
	watch_only(threads_watch, page_down(&thread_local_word), PAGE);
	threads_watch->probe = (char *)&thread_local_word;
	wait_for_go();
	return NULL;
}

static void prepare_stack_unmapped(struct watch *watch)
{
	the_thread = start_thread(local_thread, 96 * MiB, watch);
}

/* A thread's arena: heaps of their own, which shrink when their end is free. */
static void *arena_thread(void *unused)
{
	char *first = malloc(64), *large;

	(void)unused;
	large = malloc(4 * MiB);
	MUST(first && large && (char *)sbrk(0) < first);
	watch_all(threads_watch, page_up(large + MiB), 2 * MiB);
	wait_for_go();
	free(large);
	return NULL;
}

static void prepare_arena(struct watch *watch)
{
	mallopt(M_MMAP_THRESHOLD, 16 * MiB);
	the_thread = start_thread(arena_thread, 8 * MiB, watch);
}

/* ---- the loader ---- */

static void *library;

static char *find_in_library(const char *name)
{
	char *at;

	library = dlopen("./victim.so", RTLD_NOW);
	MUST(library);
	at = dlsym(library, name);
	MUST(at);
	return at;
}

static void prepare_bss(struct watch *watch)
{
	watch_all(watch, page_up(find_in_library("victim_bss")), LENGTH);
}

static void prepare_data(struct watch *watch)
{
	watch_all(watch, page_up(find_in_library("victim_data")), LENGTH);
}

static void change_dlclose(struct watch *watch)
{
	(void)watch;
	MUST(!dlclose(library));
}

const struct row rows_libc[] = {
	{ "sbrk(-1M)", prepare_break, change_sbrk, CONTENTS, BAW, EVENT_UNMAP, ANCHOR },
	{ "brk(lower)", prepare_break, change_brk, CONTENTS, BAW, EVENT_UNMAP, ANCHOR },
	{ "syscall(SYS_brk, lower)", prepare_break, change_brk_syscall, CONTENTS, BAW, EVENT_UNMAP, ANCHOR },
	{ "free() of 8M", prepare_large, change_free, CONTENTS, BAW, EVENT_UNMAP, ANCHOR },
	{ "free() at the end of the heap", prepare_top, change_free, CONTENTS, BAW, EVENT_UNMAP, ANCHOR },
	{ "free() that shrinks a thread's arena", prepare_arena, change_join, CONTENTS, BAW, EVENT_CLEAR, ANCHOR },
	{ "realloc(8M to 1M): the tail", prepare_shrinking, change_realloc_down, CONTENTS, BAW, EVENT_UNMAP, ANCHOR },
	{ "realloc(8M to 24M) that moves", prepare_hemmed, change_realloc_up, CONTENTS, BAW, EVENT_UNMAP, ANCHOR },
	{ "malloc_trim(): a hole in the heap", prepare_hole, change_trim, CONTENTS, BAW, EVENT_CLEAR, ANCHOR },
	{ "exit of a thread, 8M stack kept", prepare_stack_kept, change_join, CONTENTS, BAW, EVENT_CLEAR, ANCHOR },
	{ "exit of a thread, 96M stack unmapped", prepare_stack_unmapped, change_join, CONTENTS, BAW, EVENT_UNMAP, ANCHOR },
	{ "dlclose(): .bss of the library", prepare_bss, change_dlclose, CONTENTS, BAW, EVENT_UNMAP, ANCHOR },
	{ "dlclose(): .data of the library", prepare_data, change_dlclose, CONTENTS, BAW, EVENT_UNMAP, ANCHOR },
	{ 0 },
};
