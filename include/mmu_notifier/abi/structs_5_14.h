/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What kernels 5.14 to 6.2 lay out in a way of their own.
 * Generated from the Rust sources: change them, then run `make headers`.
 */

#ifndef MMU_NOTIFIER_ABI_STRUCTS_5_14_H
#define MMU_NOTIFIER_ABI_STRUCTS_5_14_H

#include <mmu_notifier/kernel.h>

#if MMU_NOTIFIER_KERNEL < 0x060300

#include <mmu_notifier/abi/notifier.h>

struct vm_area_struct;

/**
 * A change of `[start, end)` of an address space.
 */
struct mmu_notifier_range {
	/**
	 * The mapping concerned, as the producer gave it, or NULL.
	 */
	struct vm_area_struct *vma;
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
	 * A TLB that shares the CPU's page table must drop `[start, end)`. Called at the end of every range, too. Must not sleep.
	 */
	void (*invalidate_range)(struct mmu_notifier *subscription,
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

#endif

#endif  /* MMU_NOTIFIER_ABI_STRUCTS_5_14_H */
