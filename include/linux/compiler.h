/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * <linux/compiler.h>: hints to the compiler, annotations, READ_ONCE() and
 * WRITE_ONCE().
 *
 * Guard: MMU_NOTIFIER_LINUX_COMPILER_H.  Define it first to bring your own.  A
 * macro that is already defined stays as it is.
 *
 * Different from the kernel: READ_ONCE() and WRITE_ONCE() take objects of any
 * small type, structs included, not scalars only.
 */
#ifndef MMU_NOTIFIER_LINUX_COMPILER_H
#define MMU_NOTIFIER_LINUX_COMPILER_H

#ifndef likely
#define likely(condition)	__builtin_expect(!!(condition), 1)
#endif
#ifndef unlikely
#define unlikely(condition)	__builtin_expect(!!(condition), 0)
#endif

/* Keeps the compiler from moving memory accesses across. */
#ifndef barrier
#define barrier()		__asm__ __volatile__("" : : : "memory")
#endif

#ifndef __must_check
#define __must_check		__attribute__((__warn_unused_result__))
#endif
#ifndef __maybe_unused
#define __maybe_unused		__attribute__((__unused__))
#endif

/* Annotations for static checkers; they mean nothing to the compiler. */
#ifndef __user
#define __user
#endif
#ifndef __iomem
#define __iomem
#endif
#ifndef __rcu
#define __rcu
#endif
#ifndef __force
#define __force
#endif
#ifndef __acquires
#define __acquires(lock)
#endif
#ifndef __releases
#define __releases(lock)
#endif
#ifndef __must_hold
#define __must_hold(lock)
#endif

/*
 * A schedule point, in drivers that are compiled to be explored
 * (<mmu_notifier/explore.h>).  KIND is the end of a constant's name.
 */
#ifdef MMU_NOTIFIER_EXPLORE
#include <mmu_notifier/explore.h>
#define __mmu_notifier_point(KIND, address) \
	mmu_notifier_explore_point(MMU_NOTIFIER_EXPLORE_##KIND, (address))
#else
#define __mmu_notifier_point(KIND, address) \
	((void)sizeof(address))
#endif

/*
 * READ_ONCE(x) loads the object x, WRITE_ONCE(x, value) stores to it: exactly
 * once, whole if it is no larger than a word, ordered against nothing else.
 * Both are schedule points; the forms with underscores are not.  The point of
 * a store comes when the value is known: it may have been loaded just before.
 */
#ifndef __cplusplus

#ifndef __READ_ONCE
#define __READ_ONCE(x) \
	__extension__ ({ *(const volatile __typeof__(x) *)&(x); })
#endif
#ifndef __WRITE_ONCE
#define __WRITE_ONCE(x, value) \
	do { *(volatile __typeof__(x) *)&(x) = (value); } while (0)
#endif

#else /* C++ does not copy a volatile struct */

extern "C++" {
template <typename T>
static inline T mmu_notifier_read_once(const volatile T &x)
{
	T value;

	__atomic_load(const_cast<volatile T *>(&x), &value, __ATOMIC_RELAXED);
	return value;
}

/* The object alone decides on T, so that NULL can be stored to a pointer. */
template <typename T>
struct mmu_notifier_same {
	typedef T type;
};

template <typename T>
static inline void mmu_notifier_write_once(volatile T &x,
		typename mmu_notifier_same<T>::type value)
{
	__atomic_store(&x, &value, __ATOMIC_RELAXED);
}
}

#ifndef __READ_ONCE
#define __READ_ONCE(x)		mmu_notifier_read_once(x)
#endif
#ifndef __WRITE_ONCE
#define __WRITE_ONCE(x, value)	mmu_notifier_write_once(x, value)
#endif

#endif

#ifndef READ_ONCE
#ifdef MMU_NOTIFIER_EXPLORE
#define READ_ONCE(x) \
	__extension__ ({ \
		const __typeof__(x) *__place = &(x); \
		__mmu_notifier_point(LOAD, __place); \
		__READ_ONCE(*__place); \
	})
#else
#define READ_ONCE(x)		__READ_ONCE(x)
#endif
#endif
#ifndef WRITE_ONCE
#ifdef MMU_NOTIFIER_EXPLORE
#define WRITE_ONCE(x, value) \
	do { \
		__typeof__(x) *__place = &(x); \
		__typeof__(x) __stored = (value); \
		__mmu_notifier_point(STORE, __place); \
		__WRITE_ONCE(*__place, __stored); \
	} while (0)
#else
#define WRITE_ONCE(x, value)	__WRITE_ONCE(x, value)
#endif
#endif

#endif
