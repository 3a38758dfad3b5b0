/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * <linux/spinlock.h>: spinlock_t.
 *
 * Guard: MMU_NOTIFIER_LINUX_SPINLOCK_H.  Define it first to bring your own.
 *
 * Different from the kernel: a waiter sleeps, as there is nothing else to keep
 * the holder running; there are no interrupts, so the _irq, _bh and _irqsave
 * forms are the plain ones (the flags are set to 0).
 */
#ifndef MMU_NOTIFIER_LINUX_SPINLOCK_H
#define MMU_NOTIFIER_LINUX_SPINLOCK_H

#include <asm/barrier.h>
#include <linux/bug.h>
#include <linux/compiler.h>
#include <linux/lockdep.h>
#include <linux/types.h>
#include <mmu_notifier/abi/support.h>

/* 0: free, 1: held, 2: held and perhaps waited for. */
typedef struct {
	unsigned int word;
} spinlock_t;

#define __SPIN_LOCK_UNLOCKED(name)	{ 0 }
#define DEFINE_SPINLOCK(name)	spinlock_t name = __SPIN_LOCK_UNLOCKED(name)

static inline void spin_lock_init(spinlock_t *lock)
{
	lock->word = 0;
}

static inline int __mmu_notifier_spin_is_locked(const spinlock_t *lock)
{
	return __atomic_load_n(&lock->word, __ATOMIC_RELAXED) != 0;
}
#ifndef spin_is_locked
#define spin_is_locked	__mmu_notifier_spin_is_locked
#endif

static inline bool __mmu_notifier_spin_try(spinlock_t *lock)
{
	unsigned int expected = 0;

	return __atomic_compare_exchange_n(&lock->word, &expected, 1, false,
					   __ATOMIC_ACQUIRE, __ATOMIC_RELAXED);
}

static inline int __mmu_notifier_spin_trylock(spinlock_t *lock)
{
	bool taken;

	__mmu_notifier_point(TRYLOCK, lock);
	taken = __mmu_notifier_spin_try(lock);
	if (taken)
		__mmu_notifier_point(TAKEN, lock);
	return taken;
}
#ifndef spin_trylock
#define spin_trylock	__mmu_notifier_spin_trylock
#endif

static inline void spin_lock(spinlock_t *lock) __acquires(lock)
{
	__mmu_notifier_point(LOCK, lock);
	if (unlikely(!__mmu_notifier_spin_try(lock)))
		mmu_notifier_spin_lock_slow(&lock->word);
}

static inline void spin_unlock(spinlock_t *lock) __releases(lock)
{
	if (unlikely(__atomic_exchange_n(&lock->word, 0, __ATOMIC_RELEASE) > 1))
		mmu_notifier_spin_unlock_slow(&lock->word);
	__mmu_notifier_point(UNLOCK, lock);
}

static inline void spin_unlock_irqrestore(spinlock_t *lock,
					  unsigned long flags) __releases(lock)
{
	(void)flags;
	spin_unlock(lock);
}

/* @flags: a variable of type unsigned long. */
#define spin_lock_irqsave(lock, flags) \
	do { (flags) = 0; spin_lock(lock); } while (0)
#define spin_trylock_irqsave(lock, flags) \
	((flags) = 0, spin_trylock(lock))

#define spin_lock_irq(lock)			spin_lock(lock)
#define spin_lock_bh(lock)			spin_lock(lock)
#define spin_lock_nested(lock, subclass)	spin_lock(lock)
#define spin_trylock_irq(lock)			spin_trylock(lock)
#define spin_trylock_bh(lock)			spin_trylock(lock)
#define spin_unlock_irq(lock)			spin_unlock(lock)
#define spin_unlock_bh(lock)			spin_unlock(lock)

#define assert_spin_locked(lock)	BUG_ON(!spin_is_locked(lock))

#endif
