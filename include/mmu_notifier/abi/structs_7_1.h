/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What kernels from 7.1 on lay out in a way of their own.
 * Generated from the Rust sources: change them, then run `make headers`.
 */

#ifndef MMU_NOTIFIER_ABI_STRUCTS_7_1_H
#define MMU_NOTIFIER_ABI_STRUCTS_7_1_H

#include <mmu_notifier/kernel.h>

#if MMU_NOTIFIER_KERNEL >= 0x070100

#include <linux/llist.h>
#include <mmu_notifier/abi/structs_range.h>

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
	bool (*clear_flush_young)(struct mmu_notifier *subscription,
				  struct mm_struct *mm,
				  unsigned long start,
				  unsigned long end);
	/**
	 * Tests and clears the accessed state of `[start, end)`. Must not sleep.
	 */
	bool (*clear_young)(struct mmu_notifier *subscription,
			    struct mm_struct *mm,
			    unsigned long start,
			    unsigned long end);
	/**
	 * Tests the accessed state of the page at `address`. Must not sleep.
	 */
	bool (*test_young)(struct mmu_notifier *subscription,
			   struct mm_struct *mm,
			   unsigned long address);
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
 * What `invalidate_start` leaves to be done once every start of the range has run.
 */
struct mmu_interval_notifier_finish {
	/**
	 * The library's: a queue.
	 */
	struct llist_node link;
	/**
	 * The notifier; set by the library.
	 */
	struct mmu_interval_notifier *notifier;
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
	/**
	 * Called instead of `invalidate`, if set: begins, and may leave the rest to `invalidate_finish` by storing into
	 * `finish`, which is NULL on entry.
	 */
	bool (*invalidate_start)(struct mmu_interval_notifier *interval_sub,
				 const struct mmu_notifier_range *range,
				 unsigned long cur_seq,
				 struct mmu_interval_notifier_finish **finish);
	/**
	 * Ends what `invalidate_start` began. Called in the order of the starts, after the last of them.
	 */
	void (*invalidate_finish)(struct mmu_interval_notifier_finish *finish);
};

#endif

#endif  /* MMU_NOTIFIER_ABI_STRUCTS_7_1_H */
