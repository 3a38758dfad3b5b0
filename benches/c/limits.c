// SPDX-License-Identifier: MIT OR Apache-2.0
/* What the machine allows: loops of one primitive each, `n` times.  src/limits.rs names them. */
#define _GNU_SOURCE
#include <linux/futex.h>
#include <linux/membarrier.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

typedef unsigned long ulong_t;

/* A line of its own, and the next, which the prefetcher takes along. */
static struct {
	volatile ulong_t word;
	char room[120];
} line __attribute__((__aligned__(128)));

static void called(void)
{
	line.word++;
}

static void (*volatile callback)(void) = called;

void limit_call(ulong_t n)
{
	while (n--)
		callback();
}

void limit_increment(ulong_t n)
{
	while (n--)
		line.word++;
}

void limit_fence(ulong_t n)
{
	while (n--)
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

void limit_add(ulong_t n)
{
	while (n--)
		__atomic_fetch_add(&line.word, 1, __ATOMIC_SEQ_CST);
}

void limit_compare_exchange(ulong_t n)
{
	ulong_t old = line.word;

	while (n--)
		__atomic_compare_exchange_n(&line.word, &old, old + 1, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}

/* Compare-and-exchange in, plain store out, as x86 kernels lock. */
void limit_spin_lock(ulong_t n)
{
	static unsigned int lock __attribute__((__aligned__(128)));

	while (n--) {
		unsigned int free = 0;

		while (!__atomic_compare_exchange_n(&lock, &free, 1, 0, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
			free = 0;
		__atomic_store_n(&lock, 0, __ATOMIC_RELEASE);
	}
}

void limit_mutex(ulong_t n)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

	while (n--) {
		pthread_mutex_lock(&lock);
		pthread_mutex_unlock(&lock);
	}
}

void limit_rwlock(ulong_t n)
{
	static pthread_rwlock_t lock = PTHREAD_RWLOCK_INITIALIZER;

	while (n--) {
		pthread_rwlock_rdlock(&lock);
		pthread_rwlock_unlock(&lock);
	}
}

void limit_syscall(ulong_t n)
{
	while (n--)
		syscall(SYS_getppid);
}

void limit_futex_wake(ulong_t n)
{
	static int word;

	while (n--)
		syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

/* Has the process said that it wants them?  Returns 0 if there are none here. */
int limit_membarrier_ready(void)
{
	return syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0) == 0;
}

void limit_membarrier(ulong_t n)
{
	while (n--)
		syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0);
}

/* A word that two threads pass to and fro: even is the one's turn, odd the other's. */
static volatile ulong_t ball __attribute__((__aligned__(128)));

void limit_ping(ulong_t n)
{
	for (ulong_t i = 0; i < n; i++) {
		ball = 2 * i + 1;
		while (ball != 2 * i + 2)
			;
	}
	ball = 0;
}

void limit_pong(ulong_t n)
{
	for (ulong_t i = 0; i < n; i++) {
		while (ball != 2 * i + 1)
			;
		ball = 2 * i + 2;
	}
}

/* A cycle through all lines of so much memory, in random order. */
void *limit_chase_new(ulong_t bytes)
{
	ulong_t lines = bytes / 64, state = 7;
	uint32_t *order = malloc(lines * sizeof(*order));
	void **at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (!order || at == MAP_FAILED)
		abort();
	madvise(at, bytes, MADV_HUGEPAGE);
	for (ulong_t i = 0; i < lines; i++) {
		ulong_t other;

		state = state * 6364136223846793005ul + 1442695040888963407ul;
		other = ((state >> 32) * (i + 1)) >> 32;
		order[i] = order[other];
		order[other] = i;
	}
	for (ulong_t i = 0; i < lines; i++)
		at[order[i] * 8ul] = &at[order[(i + 1) % lines] * 8ul];
	free(order);
	return at;
}

void limit_chase_free(void *at, ulong_t bytes)
{
	munmap(at, bytes);
}

void *limit_chase(void *at, ulong_t n)
{
	while (n--)
		at = *(void **)at;
	return at;
}
