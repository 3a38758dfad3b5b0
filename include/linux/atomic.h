/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * <linux/atomic.h>: operations on atomic_t.
 *
 * Guard: MMU_NOTIFIER_LINUX_ATOMIC_H.  Define it first to bring your own.  An
 * operation of which a macro is already defined stays as it is.
 *
 * As in the kernel, an operation that returns something of what it changed is
 * a full barrier, any other orders nothing.
 *
 * Different from the kernel: no atomic_fetch_*(), whose names belong to
 * <stdatomic.h> here.
 */
#ifndef MMU_NOTIFIER_LINUX_ATOMIC_H
#define MMU_NOTIFIER_LINUX_ATOMIC_H

#include <asm/barrier.h>
#include <linux/compiler.h>
#include <linux/types.h>

#define ATOMIC_INIT(value)	{ (value) }

static inline int atomic_read(const atomic_t *v)
{
	return __atomic_load_n(&v->counter, __ATOMIC_RELAXED);
}

static inline void atomic_set(atomic_t *v, int i)
{
	__atomic_store_n(&v->counter, i, __ATOMIC_RELAXED);
}

static inline void __mmu_notifier_atomic_add(int i, atomic_t *v)
{
	__atomic_fetch_add(&v->counter, i, __ATOMIC_RELAXED);
}

static inline void __mmu_notifier_atomic_sub(int i, atomic_t *v)
{
	__atomic_fetch_sub(&v->counter, i, __ATOMIC_RELAXED);
}

static inline void atomic_inc(atomic_t *v)
{
	__atomic_fetch_add(&v->counter, 1, __ATOMIC_RELAXED);
}

static inline void __mmu_notifier_atomic_dec(atomic_t *v)
{
	__atomic_fetch_sub(&v->counter, 1, __ATOMIC_RELAXED);
}

/* *_return: the new value. */
static inline int __mmu_notifier_atomic_add_return(int i, atomic_t *v)
{
	return __atomic_add_fetch(&v->counter, i, __ATOMIC_SEQ_CST);
}

static inline int __mmu_notifier_atomic_sub_return(int i, atomic_t *v)
{
	return __atomic_sub_fetch(&v->counter, i, __ATOMIC_SEQ_CST);
}

static inline int __mmu_notifier_atomic_inc_return(atomic_t *v)
{
	return __atomic_add_fetch(&v->counter, 1, __ATOMIC_SEQ_CST);
}

static inline int __mmu_notifier_atomic_dec_return(atomic_t *v)
{
	return __atomic_sub_fetch(&v->counter, 1, __ATOMIC_SEQ_CST);
}

/* *_and_test: is the new value 0? */
static inline bool __mmu_notifier_atomic_sub_and_test(int i, atomic_t *v)
{
	return __atomic_sub_fetch(&v->counter, i, __ATOMIC_SEQ_CST) == 0;
}

static inline bool __mmu_notifier_atomic_inc_and_test(atomic_t *v)
{
	return __atomic_add_fetch(&v->counter, 1, __ATOMIC_SEQ_CST) == 0;
}

static inline bool atomic_dec_and_test(atomic_t *v)
{
	return __atomic_sub_fetch(&v->counter, 1, __ATOMIC_SEQ_CST) == 0;
}

/* The value before. */
static inline int __mmu_notifier_atomic_xchg(atomic_t *v, int i)
{
	return __atomic_exchange_n(&v->counter, i, __ATOMIC_SEQ_CST);
}

/* Stores @i if the value is @expected; returns the value before. */
static inline int __mmu_notifier_atomic_cmpxchg(atomic_t *v, int expected,
						int i)
{
	__atomic_compare_exchange_n(&v->counter, &expected, i, false,
				    __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
	return expected;
}

/* Adds @i unless the value is @unless; was it added? */
static inline bool __mmu_notifier_atomic_add_unless(atomic_t *v, int i,
						    int unless)
{
	int value = atomic_read(v);

	do {
		if (value == unless)
			return false;
	} while (!__atomic_compare_exchange_n(&v->counter, &value, value + i,
					      true, __ATOMIC_SEQ_CST,
					      __ATOMIC_RELAXED));
	return true;
}

static inline bool __mmu_notifier_atomic_inc_not_zero(atomic_t *v)
{
	return __mmu_notifier_atomic_add_unless(v, 1, 0);
}

/*
 * A driver's environment may have these, as functions before this header or,
 * behind an #undef, after it, or as macros.
 */
#ifndef atomic_add
#define atomic_add	__mmu_notifier_atomic_add
#endif
#ifndef atomic_sub
#define atomic_sub	__mmu_notifier_atomic_sub
#endif
#ifndef atomic_dec
#define atomic_dec	__mmu_notifier_atomic_dec
#endif
#ifndef atomic_add_return
#define atomic_add_return	__mmu_notifier_atomic_add_return
#endif
#ifndef atomic_sub_return
#define atomic_sub_return	__mmu_notifier_atomic_sub_return
#endif
#ifndef atomic_inc_return
#define atomic_inc_return	__mmu_notifier_atomic_inc_return
#endif
#ifndef atomic_dec_return
#define atomic_dec_return	__mmu_notifier_atomic_dec_return
#endif
#ifndef atomic_sub_and_test
#define atomic_sub_and_test	__mmu_notifier_atomic_sub_and_test
#endif
#ifndef atomic_inc_and_test
#define atomic_inc_and_test	__mmu_notifier_atomic_inc_and_test
#endif
#ifndef atomic_xchg
#define atomic_xchg	__mmu_notifier_atomic_xchg
#endif
#ifndef atomic_cmpxchg
#define atomic_cmpxchg	__mmu_notifier_atomic_cmpxchg
#endif
#ifndef atomic_add_unless
#define atomic_add_unless	__mmu_notifier_atomic_add_unless
#endif
#ifndef atomic_inc_not_zero
#define atomic_inc_not_zero	__mmu_notifier_atomic_inc_not_zero
#endif

#endif
