// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * Where live events cannot be had, they are refused with a reason, and the program goes on as it was: its memory calls work, and nobody
 * is told of them; what the library's own producers make is still an event. REASON is what the reason has to contain.
 */
#include "test.h"
#include <mmu_notifier/live.h>

enum { PAGE = 4096, LENGTH = 16 * PAGE };

static struct mmu_notifier_live_status status(void)
{
	struct mmu_notifier_live_status now = { .size = sizeof(now) };

	ASSERT_EQ(mmu_notifier_live_status(&now), 0);
	return now;
}

TEST(LIVE_refused_with_a_reason)
{
	for (int times = 0; times < 3; times++) {
		ASSERT_EQ(mmu_notifier_live_enable(), -ENOTSUP);
		ASSERT_EQ(status().enabled, 0);
		ASSERT_EQ(status().mechanisms, 0);
		if (!strstr(status().reason, REASON))
			FAIL("another reason: %s", status().reason);
	}
	ASSERT_EQ(mmu_notifier_live_enable_with(MMU_NOTIFIER_LIVE_NET), -ENOTSUP);
	ASSERT_EQ(mmu_notifier_live_enable_with(1u << 31), -EINVAL);
	ASSERT_EQ(mmu_notifier_live_disable(), 0);
	ASSERT(mmu_notifier_live_self_test() < 0);
	ASSERT_EQ(mmu_notifier_live_is_late(), 0);
}

static char *map(void)
{
	char *place = mmap(NULL, LENGTH, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	ASSERT(place != MAP_FAILED);
	memset(place, 0x5a, LENGTH);
	return place;
}

/* On a stack that the end of the thread takes away. */
static void *use_memory(void *unused)
{
	char *large = malloc(8 << 20);

	ASSERT(large);
	memset(large, 1, 8 << 20);
	free(large);
	return unused;
}

TEST(LIVE_a_refusal_changes_nothing)
{
	static struct watch w;
	char *memory = map();
	pthread_attr_t large;
	pthread_t thread;

	ASSERT_EQ(mmu_notifier_live_enable(), -ENOTSUP);
	w = watch("w");
	INSERT(&w, current->mm, (unsigned long)memory, LENGTH);
	ASSERT_EQ(mprotect(memory, PAGE, PROT_READ), 0);
	ASSERT_EQ(mprotect(memory, PAGE, PROT_READ | PROT_WRITE), 0);
	ASSERT_EQ(madvise(memory, PAGE, MADV_DONTNEED), 0);
	ASSERT_EQ(LOAD(memory[0]), 0);
	ASSERT_EQ(LOAD(memory[PAGE]), 0x5a);
	ASSERT_EQ(pthread_attr_init(&large), 0);
	ASSERT_EQ(pthread_attr_setstacksize(&large, 96 << 20), 0);
	for (int times = 0; times < 20; times++) {
		ASSERT_EQ(pthread_create(&thread, &large, use_memory, NULL), 0);
		ASSERT_EQ(pthread_join(thread, NULL), 0);
	}
	EXPECT_LOG();
	ASSERT_EQ(vm_munmap((unsigned long)memory, PAGE), 0);
	ASSERT_EQ(test_log_end, 1);
	ASSERT_EQ(munmap(memory + PAGE, LENGTH - PAGE), 0);
	ASSERT_EQ(test_log_end, 1);
	REMOVE(&w);
}
