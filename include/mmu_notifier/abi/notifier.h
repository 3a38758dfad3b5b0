/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The notifiers, as far as all kernels agree. Included by <linux/mmu_notifier.h>, which has the inlines.
 * Generated from the Rust sources: change them, then run `make headers`.
 */

#ifndef MMU_NOTIFIER_ABI_NOTIFIER_H
#define MMU_NOTIFIER_ABI_NOTIFIER_H

#include <linux/interval_tree.h>
#include <mmu_notifier/abi/mm.h>

struct mmu_interval_notifier_ops;
struct mmu_notifier_ops;
struct mmu_notifier_range;

/**
 * Flag of `mmu_notifier_range.flags`: callbacks may sleep.
 */
#define MMU_NOTIFIER_RANGE_BLOCKABLE 1

/**
 * Why a range of an address space changes.
 */
enum mmu_notifier_event {
	/**
	 * The range is unmapped: munmap, the old range of mremap, exit.
	 */
	MMU_NOTIFY_UNMAP = 0,
	/**
	 * Page table entries are removed or replaced for any other reason.
	 */
	MMU_NOTIFY_CLEAR = 1,
	/**
	 * Permissions change for the whole range, as mprotect does.
	 */
	MMU_NOTIFY_PROTECTION_VMA = 2,
	/**
	 * Permissions change page by page.
	 */
	MMU_NOTIFY_PROTECTION_PAGE = 3,
	/**
	 * Soft-dirty tracking starts over.
	 */
	MMU_NOTIFY_SOFT_DIRTY = 4,
	/**
	 * The address space ends; made by the library for interval notifiers only (RL-1).
	 */
	MMU_NOTIFY_RELEASE = 5,
	/**
	 * Pages migrate to or from device memory; look at `owner`.
	 */
	MMU_NOTIFY_MIGRATE = 6,
	/**
	 * Pages become exclusive to a device; look at `owner`.
	 */
	MMU_NOTIFY_EXCLUSIVE = 7,
};

/**
 * A subscriber to a whole address space.
 */
struct mmu_notifier {
	/**
	 * Link of the mm's list.
	 */
	struct hlist_node hlist;
	/**
	 * Callbacks; set by the caller before it registers.
	 */
	const struct mmu_notifier_ops *ops;
	/**
	 * The address space; set by register.
	 */
	struct mm_struct *mm;
	/**
	 * The library's, once the last put was made.
	 */
	struct callback_head rcu;
	/**
	 * Gets (and the registration), less puts.
	 */
	unsigned int users;
};

/**
 * A subscriber to an interval of an address space.
 */
struct mmu_interval_notifier {
	/**
	 * The interval and its links.
	 */
	struct interval_tree_node interval_tree;
	/**
	 * Callbacks; set by insert.
	 */
	const struct mmu_interval_notifier_ops *ops;
	/**
	 * The address space; set by insert.
	 */
	struct mm_struct *mm;
	/**
	 * Link of the deferred list.
	 */
	struct hlist_node deferred_item;
	/**
	 * Sequence number of the last change of the interval; always odd (ST-7).
	 */
	unsigned long invalidate_seq;
};

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * Ends a registration: calls ops->release unless the end of the address space did, waits until every callback of every
 * notifier that is running now is over, and drops the reference to `mm`. Afterwards the memory is the caller's.
 *
 * Sleeps. Not from a callback of a notifier (DV-7), nor under a lock that a callback takes. Rules: UN-1 to UN-7.
 */
void mmu_notifier_unregister(struct mmu_notifier *subscription,
			     struct mm_struct *mm);

/**
 * Gives back a get, or the registration. The last one stops the callbacks and has ops->free_notifier called, on another
 * thread, once all callbacks of now are over; then the reference to the address space is dropped.
 *
 * Never sleeps; legal from every callback. Never calls ops->release. Rules: GP-5 to GP-10.
 */
void mmu_notifier_put(struct mmu_notifier *subscription);

/**
 * Waits until every free_notifier that mmu_notifier_put() owes now has returned and its reference to the address space
 * was dropped, and until every callback of a notifier that is running now, on any address space, is over.
 *
 * Sleeps. Not from a callback of a notifier, nor from what runs on the library's worker (DV-7). Call it before the code of the ops goes away (dlclose). Rules: SY-1,
 * DV-5.
 */
void mmu_notifier_synchronize(void);

/**
 * Begins a read of what the interval covers; the number goes to mmu_interval_read_retry(), under the lock that the
 * invalidate callback takes, after the pages were looked at.
 *
 * Sleeps until no change of the interval is under way. Not from a callback (DV-7), nor under that lock. Always odd.
 * Rules: RB-1 to RB-6, MO-2.
 */
unsigned long mmu_interval_read_begin(struct mmu_interval_notifier *interval_sub);

/**
 * Removes a notifier and drops its reference to the address space. Afterwards no callback of it runs and its memory is
 * the caller's.
 *
 * Sleeps while a change that may concern the interval is under way. Not from a callback of the same address space (DV-7),
 * nor under a lock that a callback takes. Rules: IR-1 to IR-10.
 */
void mmu_interval_notifier_remove(struct mmu_interval_notifier *interval_sub);

/**
 * Behind mmu_notifier_release(). Rules: RL-1 to RL-7.
 */
void __mmu_notifier_release(struct mm_struct *mm);

/**
 * Behind mmu_notifier_clear_flush_young(), on bytes `[start, end)`. Rules: YG-1, YG-4.
 */
int __mmu_notifier_clear_flush_young(struct mm_struct *mm, unsigned long start, unsigned long end);

/**
 * Behind mmu_notifier_clear_young(), on bytes `[start, end)`. Rules: YG-1, YG-4.
 */
int __mmu_notifier_clear_young(struct mm_struct *mm, unsigned long start, unsigned long end);

/**
 * Behind mmu_notifier_test_young(). Rules: YG-2, YG-4.
 */
int __mmu_notifier_test_young(struct mm_struct *mm, unsigned long address);

/**
 * Behind mmu_notifier_change_pte(). Rules: YG-3, YG-4.
 */
void __mmu_notifier_change_pte(struct mm_struct *mm, unsigned long address, pte_t pte);

/**
 * Behind mmu_notifier_arch_invalidate_secondary_tlbs(), on bytes `[start, end)`. Rules: YG-3, YG-4.
 */
void __mmu_notifier_arch_invalidate_secondary_tlbs(struct mm_struct *mm,
						   unsigned long start,
						   unsigned long end);

/**
 * Behind mmu_notifier_subscriptions_destroy(), which mmdrop() calls by itself. Rules: DS-1.
 */
void __mmu_notifier_subscriptions_destroy(struct mm_struct *mm);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* MMU_NOTIFIER_ABI_NOTIFIER_H */
