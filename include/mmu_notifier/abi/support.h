/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What inlines of linux/ need from the library. Not for programs.
 * Generated from the Rust sources: change them, then run `make headers`.
 */

#ifndef MMU_NOTIFIER_ABI_SUPPORT_H
#define MMU_NOTIFIER_ABI_SUPPORT_H

#include <linux/types.h>

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * The inline `function` got NULL where the contract wants an object: a BUG. Rule: DV-14.
 */
void mmu_notifier_null_argument(const char *function) __attribute__((__noreturn__));

/**
 * A driver's WARN_ON (`bug` 0) or BUG_ON. After a BUG this does not return. Rule: DV-3.
 */
void mmu_notifier_driver_report(int bug,
				const char *file,
				int line,
				const char *function,
				const char *condition);

/**
 * The slow path of spin_lock(): sleeps until the lock in `word` is the caller's.
 */
void mmu_notifier_spin_lock_slow(unsigned int *word);

/**
 * The slow path of spin_unlock(): wakes one sleeper of the lock in `word`, which was just released.
 */
void mmu_notifier_spin_unlock_slow(unsigned int *word);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* MMU_NOTIFIER_ABI_SUPPORT_H */
