/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The ops of an interval notifier of kernels from 6.3 to 7.0.
 * Generated from the Rust sources: change them, then run `make headers`.
 */

#ifndef MMU_NOTIFIER_ABI_STRUCTS_INTERVAL_H
#define MMU_NOTIFIER_ABI_STRUCTS_INTERVAL_H

#include <mmu_notifier/kernel.h>

#if MMU_NOTIFIER_KERNEL >= 0x060300 && MMU_NOTIFIER_KERNEL < 0x070100

#include <mmu_notifier/abi/notifier.h>

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

#endif  /* MMU_NOTIFIER_ABI_STRUCTS_INTERVAL_H */
