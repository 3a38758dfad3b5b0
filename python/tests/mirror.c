/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A device with one entry that mirrors one page, to be explored: it is right,
 * or wrong in the way that a macro says.
 */
#include <stdlib.h>
#include <linux/mmu_notifier.h>
#include <mmu_notifier/explore.h>

enum { OLD = 1, NEW };

struct mirror {
	struct mmu_interval_notifier sub;
	struct mm_struct *mm;
	spinlock_t lock;
	int page;	/* what the page table says */
	int device;	/* what the device has; 0: nothing */
	bool changing;	/* between the start and the end of a range */
	unsigned long seq;
};

static struct mirror *mirror;

static bool invalidate(struct mmu_interval_notifier *sub,
		       const struct mmu_notifier_range *range,
		       unsigned long cur_seq)
{
	struct mirror *m = container_of(sub, struct mirror, sub);

	(void)range;
#ifdef SLEEPS_NONBLOCKABLE
	might_sleep();	/* as mutex_lock() says */
#endif
	spin_lock(&m->lock);
#if !defined(SET_SEQ_MISSING) && !defined(SET_SEQ_UNLOCKED)
	mmu_interval_set_seq(sub, cur_seq);
#endif
	m->device = 0;
	spin_unlock(&m->lock);
#ifdef SET_SEQ_UNLOCKED
	mmu_interval_set_seq(sub, cur_seq);
#endif
#ifdef REMOVE_IN_CALLBACK
	mmu_interval_notifier_remove(sub);
#endif
	(void)cur_seq;
	return true;
}

static const struct mmu_interval_notifier_ops ops = {
	.invalidate = invalidate,
};

static void setup(void)
{
	mirror = calloc(1, sizeof(*mirror));
	mirror->mm = mm_alloc();
	mirror->page = OLD;
	spin_lock_init(&mirror->lock);
	WARN_ON(mmu_interval_notifier_insert(&mirror->sub, mirror->mm,
					     PAGE_SIZE, PAGE_SIZE, &ops));
}

static void teardown(void)
{
	mmu_interval_notifier_remove(&mirror->sub);
	mmput(mirror->mm);
	free(mirror);
}

static void fault(void)
{
	struct mirror *m = mirror;
	bool again;
	int page;

	do {
		m->seq = mmu_interval_read_begin(&m->sub);
		page = READ_ONCE(m->page);
#ifdef RETRY_OUTSIDE_LOCK
		again = mmu_interval_read_retry(&m->sub, m->seq);
#endif
		spin_lock(&m->lock);
#if defined(RETRY_IGNORED)
		again = false;
#elif !defined(RETRY_OUTSIDE_LOCK)
		again = mmu_interval_read_retry(&m->sub, m->seq);
#endif
		if (!again)
			m->device = page;
		spin_unlock(&m->lock);
	} while (again);
}

static void change(void)
{
	struct mirror *m = mirror;
	struct mmu_notifier_range range;

	mmap_read_lock(m->mm);
	mmu_notifier_range_init(&range, MMU_NOTIFY_CLEAR, 0, m->mm, PAGE_SIZE,
				2 * PAGE_SIZE);
	m->changing = true;
#ifdef SLEEPS_NONBLOCKABLE
	if (mmu_notifier_invalidate_range_start_nonblock(&range))
		return;
#else
	mmu_notifier_invalidate_range_start(&range);
#endif
	WRITE_ONCE(m->page, NEW);
#ifndef END_MISSING
	mmu_notifier_invalidate_range_end(&range);
	m->changing = false;
#endif
	mmap_read_unlock(m->mm);
}

static const char *check(void)
{
	struct mirror *m = mirror;

	return !m->changing && m->device && m->device != m->page ?
	       "the device has a page that is gone" : NULL;
}

static const struct mmu_notifier_scenario_thread threads[] = {
	{ "fault", fault }, { "change", change }, { NULL, NULL }
};

extern const struct mmu_notifier_scenario mmu_notifier_scenario;
const struct mmu_notifier_scenario mmu_notifier_scenario = {
	.setup = setup, .teardown = teardown, .check = check, .threads = threads,
};
