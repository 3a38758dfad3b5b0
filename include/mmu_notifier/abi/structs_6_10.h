/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What kernels 6.10 to 7.0 lay out in a way of their own.
 * Generated from the Rust sources: change them, then run `make headers`.
 */

#ifndef MMU_NOTIFIER_ABI_STRUCTS_6_10_H
#define MMU_NOTIFIER_ABI_STRUCTS_6_10_H

#include <mmu_notifier/kernel.h>

#if MMU_NOTIFIER_KERNEL >= 0x060a00 && MMU_NOTIFIER_KERNEL < 0x070100

#include <mmu_notifier/abi/structs_range.h>
#include <mmu_notifier/abi/structs_interval.h>

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

#endif

#endif  /* MMU_NOTIFIER_ABI_STRUCTS_6_10_H */
