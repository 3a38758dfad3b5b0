// SPDX-License-Identifier: MIT OR Apache-2.0
// What pair.py measures, in C: nanoseconds for a pair that touches nobody, an interval, and a notifier. Prints `name ns`.

#include <linux/mm.h>
#include <linux/mmu_notifier.h>
#include <stdio.h>
#include <time.h>

static bool invalidate(struct mmu_interval_notifier *sub, const struct mmu_notifier_range *range, unsigned long seq)
{
	mmu_interval_set_seq(sub, seq);
	return true;
}

static int range_start(struct mmu_notifier *sub, const struct mmu_notifier_range *range)
{
	return 0;
}

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1e9 + time.tv_nsec;
}

static void measure(const char *name, struct mm_struct *mm, unsigned long start)
{
	enum { ROUNDS = 7, PAIRS = 200000 };
	double best = 1e18;

	for (int round = 0; round < ROUNDS; round++) {
		double begin = now();

		for (int i = 0; i < PAIRS; i++) {
			struct mmu_notifier_range range;

			mmu_notifier_range_init(&range, MMU_NOTIFY_CLEAR, 0, mm, start, start + PAGE_SIZE);
			mmu_notifier_invalidate_range_start(&range);
			mmu_notifier_invalidate_range_end(&range);
		}
		double each = (now() - begin) / PAIRS;

		if (each < best)
			best = each;
	}
	printf("%s %.1f\n", name, best);
}

int main(void)
{
	static const struct mmu_interval_notifier_ops interval_ops = { .invalidate = invalidate };
	static const struct mmu_notifier_ops ops = { .invalidate_range_start = range_start };
	static struct mmu_notifier notifier = { .ops = &ops };
	static struct mmu_interval_notifier sub;
	struct mm_struct *mm = mm_alloc();

	if (!mm || mmu_interval_notifier_insert(&sub, mm, 0x1000, PAGE_SIZE, &interval_ops))
		return 1;
	measure("nobody", mm, 0x100000);
	measure("interval", mm, 0x1000);
	mmu_interval_notifier_remove(&sub);
	if (mmu_notifier_register(&notifier, mm))
		return 1;
	measure("notifier", mm, 0x1000);
	mmu_notifier_unregister(&notifier, mm);
	mmput(mm);
	return 0;
}
