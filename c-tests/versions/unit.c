// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * A driver and a producer, compiled once for each kernel: MMU_NOTIFIER_KERNEL
 * says which, UNIT is the name of the result, KERNEL its name in the log.
 */
#include <linux/mmu_notifier.h>
#include <linux/sched/mm.h>
#include <stdlib.h>

#include "unit.h"

static struct mmu_notifier subscription, *gotten;
static struct mmu_interval_notifier interval;
static struct mmu_notifier_range range;

static const char *check(const struct mmu_notifier_range *r)
{
#if MMU_NOTIFIER_KERNEL < 0x060300
	if (r->vma && r->vma != (struct vm_area_struct *)0x1234)
		return "wrong vma";
	if (r == &range && !r->vma)
		return "lost vma";
#endif
	return r->event == MMU_NOTIFY_CLEAR && r->owner == (void *)0x77 ? "" : "wrong event or owner";
}

static void release(struct mmu_notifier *mn, struct mm_struct *mm)
{
	noted(KERNEL, "release%s", mn->mm == mm ? "" : " of another mm");
}

static int start(struct mmu_notifier *mn, const struct mmu_notifier_range *r)
{
	(void)mn;
	noted(KERNEL, "start %lx-%lx %d%s", r->start, r->end, mmu_notifier_range_blockable(r), check(r));
	return 0;
}

static void end(struct mmu_notifier *mn, const struct mmu_notifier_range *r)
{
	(void)mn;
	noted(KERNEL, "end %lx-%lx%s", r->start, r->end, check(r));
}

static void secondary(struct mmu_notifier *mn, struct mm_struct *mm, unsigned long s, unsigned long e)
{
	(void)mn;
	(void)mm;
	noted(KERNEL, "secondary %lx-%lx", s, e);
}

/* A bool leaves the upper bits of its register undefined: here they are set. */
static mmu_notifier_young_t clear_young(struct mmu_notifier *mn, struct mm_struct *mm, unsigned long s, unsigned long e)
{
	(void)mn;
	(void)mm;
	noted(KERNEL, "clear_young %lx-%lx", s, e);
	return (mmu_notifier_young_t)(s >> 4);
}

static struct mmu_notifier *alloc_notifier(struct mm_struct *mm)
{
	noted(KERNEL, "alloc%s", mm ? "" : " for no mm");
	return calloc(1, sizeof(struct mmu_notifier));
}

static void free_notifier(struct mmu_notifier *mn)
{
	noted(KERNEL, "free");
	if (mn != &subscription)
		free(mn);
}

static const struct mmu_notifier_ops ops = {
	.release = release, .clear_young = clear_young,
	.invalidate_range_start = start, .invalidate_range_end = end,
#if MMU_NOTIFIER_KERNEL < 0x060600
	.invalidate_range = secondary,
#endif
	.alloc_notifier = alloc_notifier, .free_notifier = free_notifier,
};

static const struct mmu_notifier_ops mixed_ops = {
	.invalidate_range_start = start,
#if MMU_NOTIFIER_KERNEL < 0x060600
	.invalidate_range = secondary,
#else
	.arch_invalidate_secondary_tlbs = secondary,
#endif
};

#if MMU_NOTIFIER_KERNEL >= 0x070100
static struct mmu_interval_notifier_finish finish;

static bool invalidate_start(struct mmu_interval_notifier *sub, const struct mmu_notifier_range *r, unsigned long seq,
			     struct mmu_interval_notifier_finish **left)
{
	noted(KERNEL, "invalidate_start %lx-%lx seq %lu%s%s", r->start, r->end, seq, check(r), *left ? " leftover" : "");
	mmu_interval_set_seq(sub, seq);
	*left = &finish;
	return mmu_notifier_range_blockable(r) || answer;
}

static void invalidate_finish(struct mmu_interval_notifier_finish *left)
{
	noted(KERNEL, "invalidate_finish%s", left == &finish && left->notifier == &interval ? "" : " of another");
}

static const struct mmu_interval_notifier_ops interval_ops = {
	.invalidate_start = invalidate_start, .invalidate_finish = invalidate_finish,
};
#else
static bool invalidate(struct mmu_interval_notifier *sub, const struct mmu_notifier_range *r, unsigned long seq)
{
	noted(KERNEL, "invalidate %lx-%lx seq %lu%s", r->start, r->end, seq, check(r));
	mmu_interval_set_seq(sub, seq);
	return mmu_notifier_range_blockable(r) || answer;
}

static const struct mmu_interval_notifier_ops interval_ops = { .invalidate = invalidate };
#endif

static int unit_register(struct mm_struct *mm)
{
	subscription.ops = &ops;
	return mmu_notifier_register(&subscription, mm);
}

static void unit_unregister(struct mm_struct *mm)
{
	mmu_notifier_unregister(&subscription, mm);
}

static int unit_get(struct mm_struct *mm)
{
	gotten = mmu_notifier_get(&ops, mm);
	return IS_ERR(gotten) ? (int)PTR_ERR(gotten) : 0;
}

static void unit_put(void)
{
	mmu_notifier_put(gotten);
}

static int unit_insert(struct mm_struct *mm)
{
	return mmu_interval_notifier_insert(&interval, mm, 0x10000, 0x1000, &interval_ops);
}

static void unit_remove(void)
{
	mmu_interval_notifier_remove(&interval);
}

static int unit_start(struct mm_struct *mm, unsigned long s, unsigned long e, bool blockable)
{
#if MMU_NOTIFIER_KERNEL < 0x060300
	mmu_notifier_range_init_owner(&range, MMU_NOTIFY_CLEAR, 0, (struct vm_area_struct *)0x1234, mm, s, e, (void *)0x77);
#else
	mmu_notifier_range_init_owner(&range, MMU_NOTIFY_CLEAR, 0, mm, s, e, (void *)0x77);
#endif
	if (!blockable)
		return mmu_notifier_invalidate_range_start_nonblock(&range);
	mmu_notifier_invalidate_range_start(&range);
	return 0;
}

static void unit_end(void)
{
	mmu_notifier_invalidate_range_end(&range);
}

static int unit_young(struct mm_struct *mm)
{
	return mmu_notifier_clear_young(mm, 0x10000, 0x11000);
}

static void unit_secondary(struct mm_struct *mm)
{
#if MMU_NOTIFIER_KERNEL < 0x060600
	mmu_notifier_invalidate_range(mm, 0x10000, 0x11000);
#else
	mmu_notifier_arch_invalidate_secondary_tlbs(mm, 0x10000, 0x11000);
#endif
}

static int unit_mixed(struct mm_struct *mm)
{
	static struct mmu_notifier mixed;
	int result;

	mixed.ops = &mixed_ops;
	result = mmu_notifier_register(&mixed, mm);
	if (!result)
		mmu_notifier_unregister(&mixed, mm);
	return result;
}

const struct unit UNIT = {
	.kernel = KERNEL,
	.register_ = unit_register, .unregister = unit_unregister, .get = unit_get, .put = unit_put,
	.insert = unit_insert, .remove = unit_remove, .start = unit_start, .end = unit_end,
	.young = unit_young, .secondary = unit_secondary, .mixed = unit_mixed,
};
