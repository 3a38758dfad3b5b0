/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The notifiers. Included by <linux/mmu_notifier.h>, which has the inlines.
 * Generated from the Rust sources: change them, then run `make headers`.
 */

#ifndef MMU_NOTIFIER_ABI_NOTIFIER_H
#define MMU_NOTIFIER_ABI_NOTIFIER_H

#include <linux/interval_tree.h>
#include <mmu_notifier/abi/mm.h>

struct mmu_interval_notifier;
struct mmu_notifier;

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
 * A change of `[start, end)` of an address space.
 */
struct mmu_notifier_range {
	/**
	 * The address space.
	 */
	struct mm_struct *mm;
	/**
	 * First byte.
	 */
	unsigned long start;
	/**
	 * One past the last byte.
	 */
	unsigned long end;
	/**
	 * `MMU_NOTIFIER_RANGE_BLOCKABLE` or 0; set by the start call.
	 */
	unsigned int flags;
	/**
	 * Why.
	 */
	enum mmu_notifier_event event;
	/**
	 * Who makes the change, for MIGRATE and EXCLUSIVE; indeterminate after a plain range_init.
	 */
	void *owner;
};

/**
 * Callbacks of a subscriber to a whole address space. A NULL member is skipped.
 */
struct mmu_notifier_ops {
	/**
	 * The address space ends, or the subscriber is being unregistered. May sleep; may run twice (RL-6).
	 */
	void (*release)(struct mmu_notifier *subscription, struct mm_struct *mm);
	/**
	 * Tests and clears the accessed state of `[start, end)` and flushes it. Must not sleep.
	 */
	int (*clear_flush_young)(struct mmu_notifier *subscription,
				 struct mm_struct *mm,
				 unsigned long start,
				 unsigned long end);
	/**
	 * Tests and clears the accessed state of `[start, end)`. Must not sleep.
	 */
	int (*clear_young)(struct mmu_notifier *subscription,
			   struct mm_struct *mm,
			   unsigned long start,
			   unsigned long end);
	/**
	 * Tests the accessed state of the page at `address`. Must not sleep.
	 */
	int (*test_young)(struct mmu_notifier *subscription,
			  struct mm_struct *mm,
			  unsigned long address);
	/**
	 * The entry of `address` is replaced by `pte`, inside a start/end pair. Must not sleep.
	 */
	void (*change_pte)(struct mmu_notifier *subscription,
			   struct mm_struct *mm,
			   unsigned long address,
			   pte_t pte);
	/**
	 * The range is about to change. 0, or -EAGAIN for a non-blockable range.
	 */
	int (*invalidate_range_start)(struct mmu_notifier *subscription,
				      const struct mmu_notifier_range *range);
	/**
	 * The range has changed.
	 */
	void (*invalidate_range_end)(struct mmu_notifier *subscription,
				     const struct mmu_notifier_range *range);
	/**
	 * A TLB that shares the CPU's page table must drop `[start, end)`. Must not sleep.
	 */
	void (*arch_invalidate_secondary_tlbs)(struct mmu_notifier *subscription,
					       struct mm_struct *mm,
					       unsigned long start,
					       unsigned long end);
	/**
	 * Allocates the subscriber that mmu_notifier_get() registers; an ERR_PTR on failure.
	 */
	struct mmu_notifier *(*alloc_notifier)(struct mm_struct *mm);
	/**
	 * Frees a subscriber after its last mmu_notifier_put(). Must not sleep.
	 */
	void (*free_notifier)(struct mmu_notifier *subscription);
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
 * Callbacks of a subscriber to an interval.
 */
struct mmu_interval_notifier_ops {
	/**
	 * The interval is touched by `range`. Takes the user lock, calls mmu_interval_set_seq() with `cur_seq`, and drops
	 * its copies. False refuses a non-blockable range.
	 */
	bool (*invalidate)(struct mmu_interval_notifier *interval_sub,
			   const struct mmu_notifier_range *range,
			   unsigned long cur_seq);
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
 * Registers a notifier on an address space.
 *
 * `subscription->ops` is set by the caller; the rest of the struct may be uninitialised. It stays the library's until
 * mmu_notifier_unregister() returns, or until its free_notifier is called after mmu_notifier_put().
 * The caller holds a user of `mm` and no lock of it: mmap_lock is taken for writing. May sleep. Not from a callback.
 *
 * Returns 0, -ENOMEM, or -EINVAL: arch_invalidate_secondary_tlbs together with a range op (RG-2), or registered already
 * (DV-9). Rules: RG-1 to RG-10.
 */
int mmu_notifier_register(struct mmu_notifier *subscription,
			  struct mm_struct *mm);

/**
 * As mmu_notifier_register(), with mmap_lock held for writing by the caller (otherwise a warning, RG-1).
 */
int __mmu_notifier_register(struct mmu_notifier *subscription,
			    struct mm_struct *mm);

/**
 * Ends a registration: calls ops->release unless the end of the address space did, waits until every callback of every
 * notifier that is running now is over, and drops the reference to `mm`. Afterwards the memory is the caller's.
 *
 * Sleeps. Not from a callback of a notifier (DV-7), nor under a lock that a callback takes. Rules: UN-1 to UN-7.
 */
void mmu_notifier_unregister(struct mmu_notifier *subscription,
			     struct mm_struct *mm);

/**
 * The notifier of `mm` that has these `ops`, counted once more; if there is none, ops->alloc_notifier makes it and it is
 * registered. mmap_lock is held for writing by the caller. Give it back with mmu_notifier_put().
 *
 * Returns the notifier or an ERR_PTR: -EOVERFLOW (UINT_MAX gets), -ENOMEM, -EINVAL, or what alloc_notifier returned.
 * Rules: GP-1 to GP-4.
 */
struct mmu_notifier *mmu_notifier_get_locked(const struct mmu_notifier_ops *ops,
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
 * Sleeps. Not from a callback of a notifier (DV-7). Call it before the code of the ops goes away (dlclose). Rules: SY-1,
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
 * Inserts a notifier for `length` bytes from `start` (bytes; no alignment is needed; `start + length` may be 2^64).
 *
 * The struct may be uninitialised; it is the library's until mmu_interval_notifier_remove() returns. The caller holds a
 * user of `mm`. Takes mmap_lock for writing if `mm` has had no interval notifier yet, so no lock of it may be held then.
 *
 * Returns 0, -EOVERFLOW (`length` is 0 or too long), -ENOMEM, -EINVAL (no users, II-4; inserted already, DV-9). While a
 * change is under way the notifier becomes active at its end; mmu_interval_read_begin() waits for that. Rules: II-1 to
 * II-11.
 */
int mmu_interval_notifier_insert(struct mmu_interval_notifier *interval_sub,
				 struct mm_struct *mm,
				 unsigned long start,
				 unsigned long length,
				 const struct mmu_interval_notifier_ops *ops);

/**
 * As mmu_interval_notifier_insert(), with mmap_lock held for writing by the caller (otherwise a warning, II-1).
 */
int mmu_interval_notifier_insert_locked(struct mmu_interval_notifier *interval_sub,
					struct mm_struct *mm,
					unsigned long start,
					unsigned long length,
					const struct mmu_interval_notifier_ops *ops);

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
 * Behind mmu_notifier_invalidate_range_start() and its _nonblock form, which set or clear the blockable flag first.
 * Returns 0, or a negative errno for which no end is owed if the range is not blockable. Rules: RS-1 to RS-9, HS-1 to
 * HS-11, DV-1.
 */
int __mmu_notifier_invalidate_range_start(struct mmu_notifier_range *range);

/**
 * Behind mmu_notifier_invalidate_range_end(). Rules: RE-1 to RE-7, DV-8.
 */
void __mmu_notifier_invalidate_range_end(struct mmu_notifier_range *range);

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
