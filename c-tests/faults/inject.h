/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The program's own malloc() and pthread_create(), which the library is bound to as well, whether it is shared or static.
 * A thread that is armed has its allocations counted, and those from number `from` to number `to` refused.
 */
#ifndef INJECT_H
#define INJECT_H

#include "../test.h"
#include <dlfcn.h>

extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t),
	*__libc_memalign(size_t, size_t);
extern void __libc_free(void *);

struct injection {
	int armed, count, frees, from, to, refused;
	/* Called, if it is set, by the next allocation or free of the armed thread. */
	void (*at_allocation)(void);
};

static __thread struct injection inject;
/* Blocks that exist. */
static long inject_live;
/* No thread can be created. */
static int inject_no_threads;
/* Called by a pthread_create() that is refused. */
static void (*inject_at_create)(void);

static void inject_act(void)
{
	void (*act)(void) = inject.at_allocation;

	inject.at_allocation = NULL;
	if (act)
		act();
}

static bool inject_refuses(void)
{
	if (!inject.armed)
		return false;
	inject.count++;
	inject_act();
	if (inject.count < inject.from || inject.count > inject.to)
		return false;
	inject.refused++;
	return true;
}

static void *inject_made(void *block)
{
	if (block)
		__atomic_fetch_add(&inject_live, 1, __ATOMIC_RELAXED);
	return block;
}

void *malloc(size_t size) { return inject_refuses() ? NULL : inject_made(__libc_malloc(size)); }
void *calloc(size_t number, size_t size) { return inject_refuses() ? NULL : inject_made(__libc_calloc(number, size)); }
void *aligned_alloc(size_t align, size_t size) { return inject_refuses() ? NULL : inject_made(__libc_memalign(align, size)); }
void *memalign(size_t align, size_t size) { return aligned_alloc(align, size); }

void *realloc(void *old, size_t size)
{
	void *block;

	if (inject_refuses())
		return NULL;
	block = __libc_realloc(old, size);
	return old ? block : inject_made(block);
}

int posix_memalign(void **place, size_t align, size_t size)
{
	void *block = aligned_alloc(align, size);

	if (block)
		*place = block;
	return block ? 0 : ENOMEM;
}

void free(void *block)
{
	if (!block)
		return;
	if (inject.armed) {
		inject.frees++;
		inject_act();
	}
	__atomic_fetch_sub(&inject_live, 1, __ATOMIC_RELAXED);
	__libc_free(block);
}

void *mmap(void *at, size_t size, int prot, int flags, int fd, off_t offset)
{
	return inject_refuses() ? MAP_FAILED : (void *)syscall(SYS_mmap, at, size, prot, flags, fd, offset);
}

int pthread_create(pthread_t *id, const pthread_attr_t *attributes, void *(*run)(void *), void *arg)
{
	static int (*next)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);

	if (LOAD(inject_no_threads)) {
		if (inject_at_create)
			inject_at_create();
		return EAGAIN;
	}
	if (!next)
		next = (__typeof__(next))dlsym(RTLD_NEXT, "pthread_create");
	return next(id, attributes, run, arg);
}

/* This thread's allocations from number `first` to number `last` are refused, until disarm(). */
static inline void arm(int first, int last)
{
	inject = (struct injection){ .armed = 1, .from = first, .to = last };
}

static inline void disarm(void) { inject.armed = 0; }

/* The statement neither allocates nor frees, nor would it mind if it could not. */
#define NO_ALLOCATION(...) do {						\
	arm(1, INT_MAX);						\
	__VA_ARGS__;							\
	disarm();							\
	if (inject.count || inject.frees)				\
		FAIL("%d allocations, %d frees in: %s", inject.count, inject.frees, #__VA_ARGS__); \
} while (0)

#endif
