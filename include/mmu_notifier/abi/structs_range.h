/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The range of kernels from 6.3 on.
 * Generated from the Rust sources: change them, then run `make headers`.
 */

#ifndef MMU_NOTIFIER_ABI_STRUCTS_RANGE_H
#define MMU_NOTIFIER_ABI_STRUCTS_RANGE_H

#include <mmu_notifier/kernel.h>

#if MMU_NOTIFIER_KERNEL >= 0x060300

#include <mmu_notifier/abi/notifier.h>

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

#endif

#endif  /* MMU_NOTIFIER_ABI_STRUCTS_RANGE_H */
