/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * <linux/rcupdate.h>: RCU read sections, and waiting for them.
 *
 * Guard: MMU_NOTIFIER_LINUX_RCUPDATE_H.  Define it first to bring your own.
 *
 * Different from the kernel: there is one domain for the process, in which a
 * reader may sleep.  kfree_rcu() hands the object to the program's function
 * kfree(), or to free() if the program has none.
 */
#ifndef MMU_NOTIFIER_LINUX_RCUPDATE_H
#define MMU_NOTIFIER_LINUX_RCUPDATE_H

#include <asm/barrier.h>
#include <linux/compiler.h>
#include <linux/types.h>
#include <mmu_notifier/abi/rcu.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * The program's kfree(), if it has one.  By the linker's name only: C knows
 * just the declaration (or macro) that the program itself has.
 */
extern void mmu_notifier_user_kfree(const void *object)
	__asm__("kfree") __attribute__((__weak__));

#ifdef __cplusplus
}
#endif

static inline void rcu_read_lock(void)
{
	mmu_notifier_rcu_read_lock();
}

static inline void rcu_read_unlock(void)
{
	mmu_notifier_rcu_read_unlock();
}

/* Waits for the sections that are open now.  Never inside of one of them. */
#ifndef synchronize_rcu
#define synchronize_rcu	mmu_notifier_synchronize_rcu
#endif

/* Calls @function(@head) when the sections that are open now are over. */
#ifndef call_rcu
#define call_rcu	mmu_notifier_call_rcu
#endif

static inline void mmu_notifier_kfree(void *object)
{
	if (mmu_notifier_user_kfree)
		mmu_notifier_user_kfree(object);
	else
		__builtin_free(object);
}

/* @head is there to be a rcu_head: the library needs no room in the object. */
static inline void __mmu_notifier_kfree_rcu(struct rcu_head *head, void *object)
{
	(void)head;
	mmu_notifier_free_rcu(object, mmu_notifier_kfree);
}

/* Frees *@pointer, whose rcu_head is @member, after a grace period. */
#define kfree_rcu(pointer, member) \
	do { \
		__typeof__(pointer) __object = (pointer); \
		if (__object) \
			__mmu_notifier_kfree_rcu(&__object->member, __object); \
	} while (0)

/* Publishes @value, which is complete, in the pointer @pointer. */
#define rcu_assign_pointer(pointer, value) \
	smp_store_release(&(pointer), (value))
#define RCU_INIT_POINTER(pointer, value)	WRITE_ONCE(pointer, value)

/* The same for a writer, and returns what was there. */
#define rcu_replace_pointer(pointer, value, condition) \
	__extension__ ({ \
		__typeof__(pointer) __old = READ_ONCE(pointer); \
		rcu_assign_pointer(pointer, value); \
		__old; \
	})

/* Reads a published pointer, inside of a read section. */
#define rcu_dereference(pointer)	smp_load_acquire(&(pointer))
#define rcu_dereference_check(pointer, condition) \
	rcu_dereference(pointer)
#define rcu_dereference_raw(pointer)	rcu_dereference(pointer)

/* Reads it where no writer can be, or where it is not followed. */
#define rcu_dereference_protected(pointer, condition)	READ_ONCE(pointer)
#define rcu_access_pointer(pointer)	READ_ONCE(pointer)

/* For assertions only: nothing keeps track. */
#define rcu_read_lock_held()		1

#endif
