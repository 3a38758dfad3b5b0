/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Ranges, in the layout and by the functions of the kernel version that MMU_NOTIFIER_KERNEL says; see env.h. */
#include <linux/mmu_notifier.h>

#include "env.h"

_Static_assert(sizeof(struct mmu_notifier_range) <= sizeof(struct env_range), "an env_range holds a range");

static struct mmu_notifier_range *real(struct env_range *range)
{
	return (struct mmu_notifier_range *)range;
}

void env_range_init(struct env_range *range, enum mmu_notifier_event event, struct mm_struct *mm,
		    unsigned long start, unsigned long end)
{
#if defined(MMU_NOTIFIER_KERNEL) && MMU_NOTIFIER_KERNEL < 0x060300
	mmu_notifier_range_init(real(range), event, 0, NULL, mm, start, end);
#else
	mmu_notifier_range_init(real(range), event, 0, mm, start, end);
#endif
}

void env_range_start(struct env_range *range)
{
	mmu_notifier_invalidate_range_start(real(range));
}

int env_range_start_nonblock(struct env_range *range)
{
	return mmu_notifier_invalidate_range_start_nonblock(real(range));
}

void env_range_end(struct env_range *range)
{
	mmu_notifier_invalidate_range_end(real(range));
}
