/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* libmmu_notifier_debug.so: what a callback must not call is reported, and does not hang. This program preloads it. */
#include "test.h"
#include <dlfcn.h>
#include <mmu_notifier/live.h>
#include <mmu_notifier/stage.h>

/* Runs the program once more, with the library that stands beside libmmu_notifier.so. */
__attribute__((constructor)) static void preload(int argc, char **argv)
{
	Dl_info info;
	char path[PATH_MAX];

	(void)argc;
	if (getenv("LD_PRELOAD"))
		return;
	if (!dladdr(dlsym(RTLD_DEFAULT, "mmu_notifier_version"), &info))
		abort();
	snprintf(path, sizeof(path), "%.*s/libmmu_notifier_debug.so",
		 (int)(strrchr(info.dli_fname, '/') - info.dli_fname), info.dli_fname);
	setenv("LD_PRELOAD", path, 1);
	execv("/proc/self/exe", argv);
	abort();
}

static struct mm_struct *mm;
static struct mmu_interval_notifier sub;
static void (*inside)(void);

static bool run_inside(struct mmu_interval_notifier *self, const struct mmu_notifier_range *range, unsigned long seq)
{
	(void)range;
	mmu_interval_set_seq(self, seq);
	inside();
	return true;
}

static const struct mmu_interval_notifier_ops sub_ops = { .invalidate = run_inside };

/* Runs `what` in a callback. */
static void in_callback(void (*what)(void))
{
	mm = mm_alloc();
	inside = what;
	ASSERT_EQ(mmu_interval_notifier_insert(&sub, mm, 0x1000, 0x1000, &sub_ops), 0);
	invalidate(mm, 0x1000, 0x2000);
	mmu_interval_notifier_remove(&sub);
	mmput(mm);
}

static char *block, *other;
static volatile size_t huge = SIZE_MAX / 2;

static void allocate(void)
{
	block = malloc(1000);
	memset(block, 7, 1000);
	other = calloc(10, 10);
	ASSERT_EQ(((uintptr_t)block | (uintptr_t)other) % 16, 0);
	for (int n = 0; n < 100; n++)
		ASSERT_EQ(other[n], 0);
	other = realloc(other, 200);
	ASSERT_EQ(other[99], 0);
	ASSERT_EQ((long)malloc(huge), 0);
	ASSERT_EQ((long)calloc(huge, 4), 0);
}

TEST(LIVE_memory_in_a_callback_is_reported_and_can_be_used)
{
	in_callback(allocate);
	ASSERT_STR(last_report()->callback, "invalidate");
	expect_reports("LIVE-call malloc", "LIVE-call calloc", "LIVE-call realloc", "LIVE-call malloc", "LIVE-call calloc");
	for (int n = 0; n < 1000; n++)
		ASSERT_EQ(block[n], 7);
	block = realloc(block, 5000);
	ASSERT_EQ(block[999], 7);
	free(block);
	free(other);
}

static void *aligned;
static volatile uintptr_t more;

static void allocate_aligned(void)
{
	ASSERT_EQ(posix_memalign(&aligned, 4096, 100), 0);
	ASSERT_EQ((uintptr_t)aligned % 4096, 0);
	more = (uintptr_t)aligned_alloc(256, 256);
	ASSERT(more);
}

TEST(LIVE_aligned_memory_in_a_callback)
{
	in_callback(allocate_aligned);
	expect_reports("LIVE-call posix_memalign", "LIVE-call aligned_alloc");
	ASSERT_EQ(more % 256, 0);
	free(aligned);
}

static void free_block(void)
{
	free(NULL);
	free(block);
}

TEST(LIVE_free_in_a_callback_is_made_up_for)
{
	block = malloc(100000);
	in_callback(free_block);
	expect_reports("LIVE-call free");
	block = malloc(100000);
	free(block);
}

/* The allocator's own lock is held: free() of a large block unmaps it, and the callback allocates. */
TEST(LIVE_a_callback_inside_free_does_not_hang)
{
	int result = mmu_notifier_live_enable();

	if (result == -ENOTSUP)
		SKIP("no live events on this machine");
	ASSERT_EQ(result, 0);
	inside = allocate;
	block = malloc(8 << 20);
	other = malloc(8 << 20);
	ASSERT_EQ(mmu_interval_notifier_insert(&sub, current->mm, (unsigned long)other, 4096, &sub_ops), 0);
	free(other);
	ASSERT(test_reports_end > 0);
	expect_reports("LIVE-call malloc", "LIVE-call calloc", "LIVE-call realloc", "LIVE-call malloc", "LIVE-call calloc");
	mmu_interval_notifier_remove(&sub);
	ASSERT_EQ(mmu_notifier_live_disable(), 0);
}

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
static int results[3];

static void lock_all(void)
{
	results[0] = pthread_mutex_lock(&mutex);
	results[1] = pthread_rwlock_rdlock(&rwlock);
	results[2] = pthread_rwlock_wrlock(&rwlock);
}

TEST(LIVE_a_lock_that_the_caller_holds_is_reported_and_fails)
{
	ASSERT_EQ(pthread_mutex_lock(&mutex), 0);
	ASSERT_EQ(pthread_rwlock_rdlock(&rwlock), 0);
	in_callback(lock_all);
	ASSERT_EQ(results[0], EDEADLK);
	ASSERT_EQ(results[1], 0);
	ASSERT_EQ(results[2], EDEADLK);
	expect_reports("LIVE-call pthread_mutex_lock", "LIVE-call pthread_rwlock_rdlock", "LIVE-call pthread_rwlock_wrlock");
	ASSERT_EQ(pthread_mutex_unlock(&mutex), 0);
}

static struct gate gate;
static pthread_t thread;

static void *wait_at_gate(void *unused)
{
	gate_pass(&gate);
	return unused;
}

static void create_and_join(void)
{
	pthread_t fresh;

	ASSERT_EQ(pthread_create(&fresh, NULL, wait_at_gate, NULL), EAGAIN);
	ASSERT_EQ(pthread_join(thread, NULL), EDEADLK);
}

TEST(LIVE_threads_in_a_callback)
{
	ASSERT_EQ(pthread_create(&thread, NULL, wait_at_gate, NULL), 0);
	in_callback(create_and_join);
	expect_reports("LIVE-call pthread_create", "LIVE-call pthread_join");
	gate_open(&gate);
	ASSERT_EQ(pthread_join(thread, NULL), 0);
}

static bool stop(struct mmu_notifier_live_range *range, const struct mmu_notifier_range *event, unsigned long seq)
{
	(void)event;
	mmu_interval_set_seq(&range->interval, seq);
	return true;
}

static void release(struct mmu_notifier_live_range *range)
{
	(void)range;
	pthread_mutex_lock(&mutex);
	block = malloc(100);
	memset(block, 1, 100);
	free(block);
	pthread_mutex_unlock(&mutex);
}

/* The release stage runs on a thread of the library, where all of that is legal. */
TEST(LIVE_the_release_stage_may)
{
	static const struct mmu_notifier_live_range_ops ops = { .invalidate = stop, .release = release };
	struct mmu_notifier_live_range range;

	mm = mm_alloc();
	ASSERT_EQ(mmu_notifier_live_range_insert(&range, mm, 0x1000, 0x1000, &ops, 20000), 0);
	invalidate(mm, 0x1000, 0x2000);
	ASSERT(!mmu_notifier_live_range_remove(&range));
	mmput(mm);
	ASSERT(!mmu_notifier_check_call("outside"));
}
