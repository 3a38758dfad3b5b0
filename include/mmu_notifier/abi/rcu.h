/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Grace periods for drivers. Included by <linux/srcu.h> and <linux/rcupdate.h>.
 * Generated from the Rust sources: change them, then run `make headers`.
 */

#ifndef MMU_NOTIFIER_ABI_RCU_H
#define MMU_NOTIFIER_ABI_RCU_H

#include <linux/types.h>

struct srcu_struct;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * Makes a domain usable; zeroed memory is one already. Returns 0. Domains are independent of each other and of the one
 * that the notifiers use.
 */
int init_srcu_struct(struct srcu_struct *domain);

/**
 * Ends a domain; its memory is the caller's afterwards. A warning if it still has readers or callbacks.
 */
void cleanup_srcu_struct(struct srcu_struct *domain);

/**
 * Enters a read section, which may sleep and nest. srcu_read_unlock() takes what this returns. Callable from callbacks.
 */
int srcu_read_lock(struct srcu_struct *domain);

/**
 * Leaves the read section for which srcu_read_lock() returned `index`.
 */
void srcu_read_unlock(struct srcu_struct *domain, int index);

/**
 * Waits until all read sections that are open now are over. Sleeps; not inside one of them. Callable from callbacks of
 * notifiers, whose domain is another one.
 */
void synchronize_srcu(struct srcu_struct *domain);

/**
 * Calls `function(head)`, on the library's worker, once all read sections that are open now are over. Never sleeps. The
 * function must not sleep.
 */
void call_srcu(struct srcu_struct *domain,
	       struct callback_head *head,
	       void (*function)(struct callback_head *head));

/**
 * Waits until the functions of all earlier call_srcu() on this domain have returned. Sleeps; not from such a function.
 */
void srcu_barrier(struct srcu_struct *domain);

/**
 * Behind rcu_read_lock(): a read section of the process's own domain, which may sleep and nest.
 */
void mmu_notifier_rcu_read_lock(void);

/**
 * Behind rcu_read_unlock().
 */
void mmu_notifier_rcu_read_unlock(void);

/**
 * Behind synchronize_rcu(): waits until all sections of rcu_read_lock() that are open now are over. Not inside one.
 */
void mmu_notifier_synchronize_rcu(void);

/**
 * Behind call_rcu(). Never sleeps.
 */
void mmu_notifier_call_rcu(struct callback_head *head,
			   void (*function)(struct callback_head *head));

/**
 * Behind kfree_rcu(): calls `function(object)` after a grace period of rcu_read_lock(). Never sleeps.
 */
void mmu_notifier_free_rcu(void *object,
			   void (*function)(void *object));

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* MMU_NOTIFIER_ABI_RCU_H */
