/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What a page fault costs by what comes behind it: M9 of docs/performance.md. Nothing of the library is in this program.
 *
 * In turns of 50: mmap, touch 16 pages, munmap, by plain `syscall` instructions, with K instructions between the last touch and munmap's
 * `syscall`, K from 0 to 27; and with a `ret` there that goes elsewhere than its processor foresees, and one that does not. It prints
 * the cycles of the counter that the touches took, the lowest tenth of 1000: a turn without the kernel's other work.
 *
 * Build and run: cc -O2 ahead.c && ./a.out
 */
#define _GNU_SOURCE
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <x86intrin.h>

#define SIZE	(16UL * 4096)
#define ROUNDS	1000
#define TURN	50

static char *place;

static inline long call(long number, long first, long size, long protection, long flags)
{
	register long r10 asm("r10") = flags, r8 asm("r8") = -1, r9 asm("r9") = 0;
	long result;

	asm volatile("syscall" : "=a"(result) : "a"(number), "D"(first), "S"(size), "d"(protection), "r"(r10), "r"(r8), "r"(r9)
		     : "rcx", "r11", "memory");
	return result;
}

#define CASE(name, between)									\
	static __attribute__((noinline)) void name(unsigned int *took)				\
	{											\
		unsigned int aux;								\
												\
		for (int i = 0; i < TURN; i++) {						\
			volatile char *at = (char *)call(SYS_mmap, (long)place, SIZE, PROT_READ | PROT_WRITE, \
							 MAP_PRIVATE | MAP_ANONYMOUS);		\
			unsigned long long start = __rdtscp(&aux);				\
												\
			for (unsigned long offset = 0; offset < SIZE; offset += 4096)		\
				at[offset] = 1;							\
			took[i] = __rdtscp(&aux) - start;					\
			/* Beyond the red zone. */						\
			asm volatile("sub $128, %%rsp\n" between "\nadd $128, %%rsp" ::: "rax", "memory", "cc"); \
			call(SYS_munmap, (long)at, SIZE, 0, 0);					\
		}										\
	}
#define MORE(k)	CASE(more_##k, ".rept " #k "\nlea (%%rax), %%rax\n.endr")
#define EACH(X)	X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14) X(15) X(16) X(17) X(18) X(19) \
		X(20) X(21) X(22) X(23) X(24) X(25) X(26) X(27)

EACH(MORE)
CASE(foreseen, "call 2f\njmp 3f\n2: ret\n3:")
CASE(unforeseen, "lea 2f(%%rip), %%rax\npush %%rax\nret\nint3\n2:")

static const struct {
	const char *name;
	void (*run)(unsigned int *took);
} cases[] = {
#define ROW(k) { #k, more_##k },
	EACH(ROW)
	{ "a call and its ret", foreseen },
	{ "a ret without call", unforeseen },
};

#define CASES (sizeof(cases) / sizeof(cases[0]))

static int by_size(const void *left, const void *right)
{
	unsigned int a = *(const unsigned int *)left, b = *(const unsigned int *)right;

	return (a > b) - (a < b);
}

int main(void)
{
	static unsigned int took[CASES][ROUNDS];
	cpu_set_t cpus;

	CPU_ZERO(&cpus);
	CPU_SET(0, &cpus);
	sched_setaffinity(0, sizeof(cpus), &cpus);
	place = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	munmap(place, SIZE);
	for (int round = 0; round < ROUNDS; round += TURN)
		for (size_t i = 0; i < CASES; i++)
			cases[i].run(took[i] + round);
	for (size_t i = 0; i < CASES; i++) {
		qsort(took[i], ROUNDS, sizeof(took[i][0]), by_size);
		printf("%-20s %6u\n", cases[i].name, took[i][ROUNDS / 10]);
	}
	return 0;
}
