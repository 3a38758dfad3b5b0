/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * <asm/barrier.h>: memory barriers between threads.
 *
 * Guard: MMU_NOTIFIER_ASM_BARRIER_H.  Define it first to bring your own.
 *
 * Different from the kernel: they are the C11 fences and accesses, which also
 * order ordinary memory between the threads of a process; there is no device
 * memory, hence no mb(), rmb() and wmb().
 */
#ifndef MMU_NOTIFIER_ASM_BARRIER_H
#define MMU_NOTIFIER_ASM_BARRIER_H

#define smp_mb()	__atomic_thread_fence(__ATOMIC_SEQ_CST)
#define smp_rmb()	__atomic_thread_fence(__ATOMIC_ACQUIRE)
#define smp_wmb()	__atomic_thread_fence(__ATOMIC_RELEASE)

#define smp_load_acquire(pointer) \
	__atomic_load_n((pointer), __ATOMIC_ACQUIRE)
#define smp_store_release(pointer, value) \
	do { \
		__typeof__(*(pointer)) __value = (value); \
		__atomic_store((pointer), &__value, __ATOMIC_RELEASE); \
	} while (0)

#endif
