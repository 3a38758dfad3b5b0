/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Functions on structs that kernels lay out differently, for kernels 6.6 to 6.9.
 * Generated from the Rust sources: change them, then run `make headers`.
 */

#ifndef MMU_NOTIFIER_ABI_REFERENCE_H
#define MMU_NOTIFIER_ABI_REFERENCE_H

#include <mmu_notifier/kernel.h>

#if defined(MMU_NOTIFIER_ABI_IS_REFERENCE)

#include <mmu_notifier/abi/structs_6_6.h>

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
 * The notifier of `mm` that has these `ops`, counted once more; if there is none, ops->alloc_notifier makes it and it is
 * registered. mmap_lock is held for writing by the caller. Give it back with mmu_notifier_put().
 *
 * Returns the notifier or an ERR_PTR: -EOVERFLOW (UINT_MAX gets), -ENOMEM, -EINVAL, or what alloc_notifier returned.
 * Rules: GP-1 to GP-4.
 */
struct mmu_notifier *mmu_notifier_get_locked(const struct mmu_notifier_ops *ops,
					     struct mm_struct *mm);

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
 * Behind mmu_notifier_invalidate_range_start() and its _nonblock form, which set or clear the blockable flag first.
 * Returns 0, or a negative errno for which no end is owed if the range is not blockable. Rules: RS-1 to RS-9, HS-1 to
 * HS-11, DV-1.
 */
int __mmu_notifier_invalidate_range_start(struct mmu_notifier_range *range);

/**
 * Behind mmu_notifier_invalidate_range_end(). Rules: RE-1 to RE-7, DV-8.
 */
void __mmu_notifier_invalidate_range_end(struct mmu_notifier_range *range);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif

#endif  /* MMU_NOTIFIER_ABI_REFERENCE_H */
