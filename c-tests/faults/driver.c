/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A driver that dl.c loads: its ops are in its own text, so a call that comes after dlclose() is a fault. */
#include <stdlib.h>

#include <linux/mmu_notifier.h>
#include <linux/sched/mm.h>
#include <linux/srcu.h>
#include <mmu_notifier/report.h>

#include "driver.h"

static struct driver_counts counts;
static struct mm_struct *mm;
static struct mmu_notifier *got;
static struct mmu_notifier registered;
static struct mmu_interval_notifier interval;

static int start(struct mmu_notifier *mn, const struct mmu_notifier_range *range)
{
	(void)mn;
	(void)range;
	__atomic_fetch_add(&counts.starts, 1, __ATOMIC_SEQ_CST);
	return 0;
}

static void release(struct mmu_notifier *mn, struct mm_struct *of)
{
	(void)mn;
	(void)of;
	__atomic_fetch_add(&counts.releases, 1, __ATOMIC_SEQ_CST);
}

static struct mmu_notifier *alloc(struct mm_struct *of) { (void)of; return calloc(1, sizeof(struct mmu_notifier)); }

/* Slow, so that it is still running when its driver wants to go. */
static void free_slowly(struct mmu_notifier *mn)
{
	for (volatile int n = 0; n < 20000000; n++)
		;
	free(mn);
	__atomic_fetch_add(&counts.frees, 1, __ATOMIC_SEQ_CST);
}

static const struct mmu_notifier_ops ops = { .invalidate_range_start = start, .release = release, .alloc_notifier = alloc,
					     .free_notifier = free_slowly };

static bool invalidate(struct mmu_interval_notifier *sub, const struct mmu_notifier_range *range, unsigned long seq)
{
	(void)range;
	mmu_interval_set_seq(sub, seq);
	__atomic_fetch_add(&counts.invalidations, 1, __ATOMIC_SEQ_CST);
	return true;
}

static const struct mmu_interval_notifier_ops interval_ops = { .invalidate = invalidate };

int driver_load(void)
{
	int result;

	mm = mm_alloc();
	got = mmu_notifier_get(&ops, mm);
	if (IS_ERR(got))
		return PTR_ERR(got);
	registered.ops = &ops;
	result = mmu_notifier_register(&registered, mm);
	if (!result)
		result = mmu_interval_notifier_insert(&interval, mm, 0x1000, 0x1000, &interval_ops);
	return result;
}

void driver_event(void)
{
	struct mmu_notifier_range range;

	mmu_notifier_range_init(&range, MMU_NOTIFY_CLEAR, 0, mm, 0x1000, 0x2000);
	mmap_read_lock(mm);
	mmu_notifier_invalidate_range_start(&range);
	mmu_notifier_invalidate_range_end(&range);
	mmap_read_unlock(mm);
}

/* What a driver does in its module exit. The host learns the counts afterwards from its own memory. */
void driver_unload(struct driver_counts *at_the_end)
{
	mmu_interval_notifier_remove(&interval);
	mmu_notifier_unregister(&registered, mm);
	mmu_notifier_put(got);
	mmu_notifier_synchronize();
	mmput(mm);
	*at_the_end = counts;
	at_the_end->warnings = mmu_notifier_report_count(MMU_NOTIFIER_REPORT_WARN);
}

/* For a host that has no headers of the library: where it is, and what it knows. */
void *driver_address(void) { return (void *)&mmu_notifier_put; }
int driver_process_count(void) { return atomic_read(&current->mm->mm_count); }
