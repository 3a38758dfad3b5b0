/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Which kernel's interface the headers offer: compile with
 * -DMMU_NOTIFIER_KERNEL=0x060c00 for 6.12 (two hexadecimal digits each for
 * major, minor and patch).  5.14 and newer; 6.6 if nothing is said.
 *
 * It decides the layouts of ops and ranges, the arguments of
 * mmu_notifier_range_init(), and which functions there are.  Objects that were
 * compiled for different kernels may be used in one process.
 */
#ifndef MMU_NOTIFIER_KERNEL_H
#define MMU_NOTIFIER_KERNEL_H

#ifndef MMU_NOTIFIER_KERNEL
#define MMU_NOTIFIER_KERNEL 0x060600
#endif

#include <mmu_notifier/abi/notifier.h>

/* The layouts, as enum mmu_notifier_abi of <mmu_notifier/abi/versions.h>. */
#if MMU_NOTIFIER_KERNEL < 0x050e00
#error "MMU_NOTIFIER_KERNEL: kernels before 5.14 (0x050e00) are not supported"
#elif MMU_NOTIFIER_KERNEL < 0x060300
#define MMU_NOTIFIER_ABI MMU_NOTIFIER_ABI_5_14
#include <mmu_notifier/abi/structs_5_14.h>
#elif MMU_NOTIFIER_KERNEL < 0x060600
#define MMU_NOTIFIER_ABI MMU_NOTIFIER_ABI_6_3
#include <mmu_notifier/abi/structs_6_3.h>
#elif MMU_NOTIFIER_KERNEL < 0x060a00
#define MMU_NOTIFIER_ABI MMU_NOTIFIER_ABI_6_6
#define MMU_NOTIFIER_ABI_IS_REFERENCE 1
#include <mmu_notifier/abi/structs_6_6.h>
#elif MMU_NOTIFIER_KERNEL < 0x070100
#define MMU_NOTIFIER_ABI MMU_NOTIFIER_ABI_6_10
#include <mmu_notifier/abi/structs_6_10.h>
#else
#define MMU_NOTIFIER_ABI MMU_NOTIFIER_ABI_7_1
#include <mmu_notifier/abi/structs_7_1.h>
#endif

#ifdef MMU_NOTIFIER_ABI_IS_REFERENCE
#include <mmu_notifier/abi/reference.h>
#else
#include <mmu_notifier/abi/versions.h>

/*
 * The functions that read structs which kernels lay out differently: the
 * library is told which kernel's they are.  <mmu_notifier/abi/reference.h>
 * documents them.
 */

static inline int mmu_notifier_register(struct mmu_notifier *subscription,
					struct mm_struct *mm)
{
	return mmu_notifier_abi_register(subscription, mm, MMU_NOTIFIER_ABI);
}

static inline int __mmu_notifier_register(struct mmu_notifier *subscription,
					  struct mm_struct *mm)
{
	return mmu_notifier_abi_register_locked(subscription, mm,
						MMU_NOTIFIER_ABI);
}

static inline struct mmu_notifier *
mmu_notifier_get_locked(const struct mmu_notifier_ops *ops,
			struct mm_struct *mm)
{
	return mmu_notifier_abi_get_locked(ops, mm, MMU_NOTIFIER_ABI);
}

static inline int
mmu_interval_notifier_insert(struct mmu_interval_notifier *interval_sub,
			     struct mm_struct *mm, unsigned long start,
			     unsigned long length,
			     const struct mmu_interval_notifier_ops *ops)
{
	return mmu_notifier_abi_insert(interval_sub, mm, start, length, ops,
				       MMU_NOTIFIER_ABI);
}

static inline int
mmu_interval_notifier_insert_locked(struct mmu_interval_notifier *interval_sub,
				    struct mm_struct *mm, unsigned long start,
				    unsigned long length,
				    const struct mmu_interval_notifier_ops *ops)
{
	return mmu_notifier_abi_insert_locked(interval_sub, mm, start, length,
					      ops, MMU_NOTIFIER_ABI);
}

static inline int
__mmu_notifier_invalidate_range_start(struct mmu_notifier_range *range)
{
	return mmu_notifier_abi_range_start(range, MMU_NOTIFIER_ABI);
}

#if MMU_NOTIFIER_KERNEL < 0x060600
static inline void
__mmu_notifier_invalidate_range_end(struct mmu_notifier_range *range,
				    bool only_end)
{
	mmu_notifier_abi_range_end(range, MMU_NOTIFIER_ABI, only_end);
}
#else
static inline void
__mmu_notifier_invalidate_range_end(struct mmu_notifier_range *range)
{
	mmu_notifier_abi_range_end(range, MMU_NOTIFIER_ABI, false);
}
#endif

#endif

#endif /* MMU_NOTIFIER_KERNEL_H */
