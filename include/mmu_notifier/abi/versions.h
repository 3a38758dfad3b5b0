/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Functions on structs that kernels lay out differently, for any kernel. Not for programs.
 * Generated from the Rust sources: change them, then run `make headers`.
 */

#ifndef MMU_NOTIFIER_ABI_VERSIONS_H
#define MMU_NOTIFIER_ABI_VERSIONS_H

#include <mmu_notifier/abi/notifier.h>

/**
 * A kernel's binary interface, by the first kernel that has it.
 */
enum mmu_notifier_abi {
	/**
	 * Linux 5.14 to 6.2.
	 */
	MMU_NOTIFIER_ABI_5_14 = 1,
	/**
	 * Linux 6.3 to 6.5.
	 */
	MMU_NOTIFIER_ABI_6_3 = 2,
	/**
	 * Linux 6.6 to 6.9: the reference.
	 */
	MMU_NOTIFIER_ABI_6_6 = 3,
	/**
	 * Linux 6.10 to 7.0.
	 */
	MMU_NOTIFIER_ABI_6_10 = 4,
	/**
	 * Linux 7.1 and newer.
	 */
	MMU_NOTIFIER_ABI_7_1 = 5,
};

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * mmu_notifier_register() for ops of the layout `abi`.
 */
int mmu_notifier_abi_register(struct mmu_notifier *subscription,
			      struct mm_struct *mm,
			      unsigned int abi);

/**
 * __mmu_notifier_register() for ops of the layout `abi`.
 */
int mmu_notifier_abi_register_locked(struct mmu_notifier *subscription,
				     struct mm_struct *mm,
				     unsigned int abi);

/**
 * mmu_notifier_get_locked() for ops of the layout `abi`.
 */
struct mmu_notifier *mmu_notifier_abi_get_locked(const void *ops,
						 struct mm_struct *mm,
						 unsigned int abi);

/**
 * mmu_interval_notifier_insert() for ops of the layout `abi`.
 */
int mmu_notifier_abi_insert(struct mmu_interval_notifier *interval_sub,
			    struct mm_struct *mm,
			    unsigned long start,
			    unsigned long length,
			    const void *ops,
			    unsigned int abi);

/**
 * mmu_interval_notifier_insert_locked() for ops of the layout `abi`.
 */
int mmu_notifier_abi_insert_locked(struct mmu_interval_notifier *interval_sub,
				   struct mm_struct *mm,
				   unsigned long start,
				   unsigned long length,
				   const void *ops,
				   unsigned int abi);

/**
 * __mmu_notifier_invalidate_range_start() for a range of the layout `abi`.
 */
int mmu_notifier_abi_range_start(void *range, unsigned int abi);

/**
 * __mmu_notifier_invalidate_range_end() for a range of the layout `abi`. With `only_end`, subscribers of kernels before
 * 6.6 are not called for their secondary TLBs.
 */
void mmu_notifier_abi_range_end(void *range,
				unsigned int abi,
				bool only_end);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* MMU_NOTIFIER_ABI_VERSIONS_H */
