/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * libmmu_notifier_debug.so, to be preloaded: what a callback of an event must not call, is reported and does not hang.
 *
 * Owns: wrappers of functions that take a lock of the allocator or of the program, or wait for a thread. Outside callbacks
 * they go on to the next one of their name.
 *
 * Invariants
 * - Inside a callback nothing here takes a lock. Memory comes from a static reserve, which is never given back; what is
 *   freed there is kept, and freed by the next call outside.
 * - What would wait for another thread waits for a second, then fails with EDEADLK; a thread is not created at all (EAGAIN).
 * - What the report's handler calls is not reported.
 * - Words of a thread lie in its static block: to look at them allocates nothing.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>
#include <mmu_notifier/report.h>

#define TLS static __thread __attribute__((tls_model("initial-exec")))

/* Reports are being handled on this thread. */
TLS bool reporting;
/* The next function of a name is being looked up, for which the dynamic linker may allocate. */
TLS bool resolving;

/* Is the thread inside a callback? If so, that is reported. */
static bool inside_callback(const char *function)
{
	bool inside;

	if (reporting)
		return true;
	reporting = true;
	inside = mmu_notifier_check_call(function);
	reporting = false;
	return inside;
}

/* ------------------------------------------------------------------------------------------------------------- the reserve */

enum { RESERVE = 4 << 20, ALIGN = 16 };

static unsigned char reserve[RESERVE] __attribute__((aligned(4096)));
static size_t reserved;

/* A block of the reserve, behind a word that holds its size. NULL when all is used up. */
static void *reserve_block(size_t align, size_t size)
{
	size_t at, start, old = __atomic_load_n(&reserved, __ATOMIC_RELAXED);

	if (align < ALIGN)
		align = ALIGN;
	if (size > RESERVE || align > RESERVE)
		goto none;
	do {
		at = (old + ALIGN + align - 1) & ~(align - 1);
		start = at + size;
		if (start > RESERVE)
			goto none;
	} while (!__atomic_compare_exchange_n(&reserved, &old, start, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
	memcpy(reserve + at - sizeof(size), &size, sizeof(size));
	return reserve + at;
none:
	errno = ENOMEM;
	return NULL;
}

static bool is_reserved(const void *block)
{
	return (uintptr_t)block - (uintptr_t)reserve < RESERVE;
}

static size_t size_of_block(void *block)
{
	size_t size;

	if (!is_reserved(block))
		return malloc_usable_size(block);
	memcpy(&size, (unsigned char *)block - sizeof(size), sizeof(size));
	return size;
}

/* What was freed inside callbacks, linked through the blocks. */
static void *kept;

static void keep(void *block)
{
	void *next = __atomic_load_n(&kept, __ATOMIC_RELAXED);

	do
		*(void **)block = next;
	while (!__atomic_compare_exchange_n(&kept, &next, block, false, __ATOMIC_RELEASE, __ATOMIC_RELAXED));
}

/* ----------------------------------------------------------------------------------------------------- the next functions */

static struct {
	void *(*malloc)(size_t);
	void *(*calloc)(size_t, size_t);
	void *(*realloc)(void *, size_t);
	void (*free)(void *);
	int (*posix_memalign)(void **, size_t, size_t);
	void *(*aligned_alloc)(size_t, size_t);
	void *(*memalign)(size_t, size_t);
	int (*pthread_mutex_lock)(pthread_mutex_t *);
	int (*pthread_rwlock_rdlock)(pthread_rwlock_t *);
	int (*pthread_rwlock_wrlock)(pthread_rwlock_t *);
	int (*pthread_create)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
	int (*pthread_join)(pthread_t, void **);
} next;
static bool resolved;

__attribute__((constructor)) static void resolve(void)
{
	if (__atomic_load_n(&resolved, __ATOMIC_ACQUIRE) || resolving)
		return;
	resolving = true;
#define NEXT(name) next.name = (__typeof__(next.name))dlsym(RTLD_NEXT, #name)
	NEXT(malloc);
	NEXT(calloc);
	NEXT(realloc);
	NEXT(free);
	NEXT(posix_memalign);
	NEXT(aligned_alloc);
	NEXT(memalign);
	NEXT(pthread_mutex_lock);
	NEXT(pthread_rwlock_rdlock);
	NEXT(pthread_rwlock_wrlock);
	NEXT(pthread_create);
	NEXT(pthread_join);
#undef NEXT
	__atomic_store_n(&resolved, true, __ATOMIC_RELEASE);
	resolving = false;
}

/* Has the call to stay here: inside a callback, or while the next functions are not known? */
static bool stays(const char *function)
{
	if (!__atomic_load_n(&resolved, __ATOMIC_ACQUIRE)) {
		if (resolving)
			return true;
		resolve();
	}
	return inside_callback(function);
}

/* -------------------------------------------------------------------------------------------------------------- memory */

static void free_kept(void)
{
	void *block = __atomic_exchange_n(&kept, NULL, __ATOMIC_ACQUIRE);

	while (block) {
		void *following = *(void **)block;

		next.free(block);
		block = following;
	}
}

void *malloc(size_t size)
{
	if (stays("malloc"))
		return reserve_block(ALIGN, size);
	return next.malloc(size);
}

void *calloc(size_t number, size_t size)
{
	size_t all;

	if (!stays("calloc"))
		return next.calloc(number, size);
	if (__builtin_mul_overflow(number, size, &all)) {
		errno = ENOMEM;
		return NULL;
	}
	/* Never used before: zeroes. */
	return reserve_block(ALIGN, all);
}

void free(void *block)
{
	if (!block || is_reserved(block))
		return;
	if (stays("free")) {
		keep(block);
		return;
	}
	if (__atomic_load_n(&kept, __ATOMIC_RELAXED))
		free_kept();
	next.free(block);
}

void *realloc(void *old, size_t size)
{
	bool stay = stays("realloc");
	void *fresh;
	size_t had;

	if (!stay && !is_reserved(old))
		return next.realloc(old, size);
	fresh = stay ? reserve_block(ALIGN, size) : next.malloc(size);
	if (fresh && old) {
		had = size_of_block(old);
		memcpy(fresh, old, had < size ? had : size);
		if (!is_reserved(old))
			keep(old);
	}
	return fresh;
}

int posix_memalign(void **place, size_t align, size_t size)
{
	if (!stays("posix_memalign"))
		return next.posix_memalign(place, align, size);
	*place = reserve_block(align, size);
	return *place ? 0 : ENOMEM;
}

void *aligned_alloc(size_t align, size_t size)
{
	if (stays("aligned_alloc"))
		return reserve_block(align, size);
	return next.aligned_alloc(align, size);
}

void *memalign(size_t align, size_t size)
{
	if (stays("memalign"))
		return reserve_block(align, size);
	return next.memalign(align, size);
}

/* ------------------------------------------------------------------------------------------------------ locks, threads */

static struct timespec in_a_second(void)
{
	struct timespec when;

	clock_gettime(CLOCK_REALTIME, &when);
	when.tv_sec++;
	return when;
}

/* Waits no longer than a second. */
#define BOUNDED(call) ({						\
	struct timespec deadline = in_a_second();			\
	int result_ = (call);						\
	result_ == ETIMEDOUT ? EDEADLK : result_;			\
})

int pthread_mutex_lock(pthread_mutex_t *mutex)
{
	if (stays("pthread_mutex_lock"))
		return BOUNDED(pthread_mutex_timedlock(mutex, &deadline));
	return next.pthread_mutex_lock(mutex);
}

int pthread_rwlock_rdlock(pthread_rwlock_t *lock)
{
	if (stays("pthread_rwlock_rdlock"))
		return BOUNDED(pthread_rwlock_timedrdlock(lock, &deadline));
	return next.pthread_rwlock_rdlock(lock);
}

int pthread_rwlock_wrlock(pthread_rwlock_t *lock)
{
	if (stays("pthread_rwlock_wrlock"))
		return BOUNDED(pthread_rwlock_timedwrlock(lock, &deadline));
	return next.pthread_rwlock_wrlock(lock);
}

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *argument)
{
	if (stays("pthread_create"))
		return EAGAIN;
	return next.pthread_create(thread, attributes, run, argument);
}

int pthread_join(pthread_t thread, void **result)
{
	if (stays("pthread_join"))
		return BOUNDED(pthread_timedjoin_np(thread, result, &deadline));
	return next.pthread_join(thread, result);
}
