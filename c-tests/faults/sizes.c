/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Sizes: many threads, intervals, mms, notifiers, users. FAULTS_SCALE=N runs N percent of each. */
#include "../test.h"
#include "scale.h"

#include <malloc.h>
#include <time.h>

static struct mm_struct *mm;

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec + time.tv_nsec / 1e9;
}

static long heap(void)
{
	struct mallinfo2 info = mallinfo2();

	return info.uordblks + info.hblkhd;
}

/* The same numbers in each run, unless SEED says otherwise. */
static unsigned long random_state = 88172645463325252UL;
static unsigned long next_random(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state;
}

/* Memory outside of the heap, so that heap() shows the library's. */
static void *pages_for(size_t size)
{
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	ASSERT(memory != MAP_FAILED);
	return memory;
}

/* A random order of the numbers below `size`. */
static unsigned *shuffled(unsigned size)
{
	unsigned *order = pages_for(size * sizeof(*order));

	for (unsigned n = 0; n < size; n++) {
		unsigned other = next_random() % (n + 1);

		order[n] = order[other];
		order[other] = n;
	}
	return order;
}

/* -------------------------------------------------------------------------------------- intervals */

static unsigned long calls;
static bool count_call(struct mmu_interval_notifier *sub, const struct mmu_notifier_range *range, unsigned long seq)
{
	(void)range;
	mmu_interval_set_seq(sub, seq);
	__atomic_fetch_add(&calls, 1, __ATOMIC_RELAXED);
	return true;
}

static const struct mmu_interval_notifier_ops count_ops = { .invalidate = count_call };

static unsigned long called_by(unsigned long start, unsigned long end)
{
	calls = 0;
	invalidate(mm, start, end);
	return calls;
}

/* Interval n is [n * 0x2000, n * 0x2000 + 0x1fff]: neighbours touch, and a gap of one page is in the middle of none. */
static void check_shapes(unsigned long size)
{
	unsigned long middle = size / 2 * 0x2000;

	ASSERT_EQ(called_by(0, ULONG_MAX), size);
	ASSERT_EQ(called_by(0, 0), size);			/* RS-9 */
	ASSERT_EQ(called_by(0, 1), 1);
	ASSERT_EQ(called_by(middle, middle + 0x2000), 1);
	ASSERT_EQ(called_by(middle, middle + 0x2001), 2);
	ASSERT_EQ(called_by(middle - 1, middle + 1), 2);
	ASSERT_EQ(called_by(middle, middle), 0);		/* RS-9: contains both middle - 1 and middle */
	ASSERT_EQ(called_by(middle + 1, middle + 1), 1);
	ASSERT_EQ(called_by(size * 0x2000, ULONG_MAX), 0);
	ASSERT_EQ(called_by(size * 0x2000 - 1, ULONG_MAX), 1);
	for (int n = 0; n < 1000; n++) {
		unsigned long first = next_random() % size, count = next_random() % 50 + 1;

		if (first + count > size)
			count = size - first;
		ASSERT_EQ(called_by(first * 0x2000 + 0x10, (first + count) * 0x2000 - 0x10), count);
	}
}

TEST(a_million_intervals)
{
	unsigned size = scaled(1000000, 2000), *order = shuffled(size), *back = shuffled(size);
	struct mmu_interval_notifier *subs = pages_for(size * sizeof(*subs));
	long heap_before, heap_full, heap_after;
	double start = now(), full, shapes, end;

	take_time();
	mm = mm_alloc();
	ASSERT_EQ(mmu_interval_notifier_insert(&subs[0], mm, 0, 1, &count_ops), 0);
	mmu_interval_notifier_remove(&subs[0]);
	heap_before = heap();
	for (unsigned n = 0; n < size; n++)
		ASSERT_EQ(mmu_interval_notifier_insert(&subs[order[n]], mm, order[n] * 0x2000UL, 0x2000, &count_ops), 0);
	full = now();
	heap_full = heap();
	ASSERT_EQ(mm_count(mm), size + 1);
	check_shapes(size);
	shapes = now();
	for (unsigned n = 0; n < size; n++) {
		mmu_interval_notifier_remove(&subs[back[n]]);
		if (n % (size / 4) == 0)
			ASSERT_EQ(called_by(0, ULONG_MAX), size - n - 1);
	}
	end = now();
	heap_after = heap();
	ASSERT_EQ(mm_count(mm), 1);
	printf("%u intervals: %.2f s to insert, %.2f s for 1013 ranges, %.2f s to remove; %ld bytes each\n", size,
	       full - start, shapes - full, end - shapes, (heap_full - heap_before) / size);
	ASSERT(heap_after - heap_before < 8192);		/* libc counts small blocks that it keeps as in use */
	mmput(mm);
}

/* The same all deferred: one end applies them. */
TEST(many_deferred_intervals)
{
	unsigned size = scaled(100000, 500), *order = shuffled(size);
	struct mmu_interval_notifier *subs = pages_for(size * sizeof(*subs)), first;
	struct mmu_notifier_range range;

	take_time();
	mm = mm_alloc();
	ASSERT_EQ(mmu_interval_notifier_insert(&first, mm, ULONG_MAX - 1, 1, &count_ops), 0);
	range = make_range(mm, ULONG_MAX - 1, ULONG_MAX);
	range_start(&range);
	for (unsigned n = 0; n < size; n++)
		ASSERT_EQ(mmu_interval_notifier_insert(&subs[order[n]], mm, order[n] * 0x2000UL, 0x2000, &count_ops), 0);
	for (unsigned n = 0; n < size; n += 2)		/* IR-2 */
		mmu_interval_notifier_remove(&subs[n]);
	ASSERT_EQ(called_by(0, ULONG_MAX - 1), 0);	/* RS-7; `first` lies behind */
	range_end(&range);
	ASSERT_EQ(called_by(0, ULONG_MAX - 1), size / 2);
	for (unsigned n = 1; n < size; n += 2)
		mmu_interval_notifier_remove(&subs[n]);
	mmu_interval_notifier_remove(&first);
	ASSERT_EQ(mm_count(mm), 1);
	mmput(mm);
}

/* ------------------------------------------------------------------------------- notifiers and mms */

static unsigned long starts, frees;
static int count_start(struct mmu_notifier *mn, const struct mmu_notifier_range *range)
{
	(void)mn;
	(void)range;
	starts++;
	return 0;
}

static void count_free(struct mmu_notifier *mn)
{
	(void)mn;
	__atomic_fetch_add(&frees, 1, __ATOMIC_SEQ_CST);
}

static const struct mmu_notifier_ops start_ops = { .invalidate_range_start = count_start, .free_notifier = count_free };

TEST(ten_thousand_notifiers_of_one_mm)
{
	unsigned size = scaled(10000, 200), *order = shuffled(size);
	struct mmu_notifier *mns = pages_for(size * sizeof(*mns));
	double start = now();

	take_time();
	mm = mm_alloc();
	for (unsigned n = 0; n < size; n++) {
		mns[n].ops = &start_ops;
		ASSERT_EQ(mmu_notifier_register(&mns[n], mm), 0);
	}
	ASSERT_EQ(mm_count(mm), size + 1);
	invalidate(mm, 0, 0x1000);
	ASSERT_EQ(starts, size);
	for (unsigned n = 0; n < size; n++)
		if (n % 2)
			mmu_notifier_put(&mns[order[n]]);
		else
			mmu_notifier_unregister(&mns[order[n]], mm);
	mmu_notifier_synchronize();
	ASSERT_EQ(frees, size / 2);
	invalidate(mm, 0, 0x1000);
	ASSERT_EQ(starts, size);
	ASSERT_EQ(mm_count(mm), 1);
	mmput(mm);
	printf("%u notifiers: %.2f s\n", size, now() - start);
}

TEST(ten_thousand_mms)
{
	unsigned size = scaled(10000, 200), *order = shuffled(size);
	struct mm_struct **mms = pages_for(size * sizeof(*mms));
	struct mmu_notifier *mns = pages_for(size * sizeof(*mns));
	struct mmu_interval_notifier *subs = pages_for(size * sizeof(*subs));
	long before = heap();
	double start = now(), forked;

	for (unsigned n = 0; n < size; n++) {
		mms[n] = mm_alloc();
		mns[n].ops = &start_ops;
		ASSERT_EQ(mmu_notifier_register(&mns[n], mms[n]), 0);
		ASSERT_EQ(mmu_interval_notifier_insert(&subs[n], mms[n], 0x1000, 0x1000, &count_ops), 0);
	}
	forked = now();
	IN_CHILD({
		for (unsigned n = 0; n < size; n++) {
			mmu_interval_notifier_remove(&subs[n]);
			mmu_notifier_unregister(&mns[n], mms[n]);
			mmput(mms[n]);
		}
	});
	forked = now() - forked;
	for (unsigned n = 0; n < size; n++)
		invalidate(mms[order[n]], 0x1000, 0x2000);
	ASSERT_EQ(starts, size);
	ASSERT_EQ(calls, size);
	for (unsigned n = 0; n < size; n++) {
		mmput(mms[order[n]]);			/* exit first: both are still owed */
		mmu_interval_notifier_remove(&subs[order[n]]);
		mmu_notifier_put(&mns[order[n]]);
	}
	mmu_notifier_synchronize();
	ASSERT_EQ(frees, size);
	printf("%u mms: %.2f s, of which a fork and its child %.2f s\n", size, now() - start, forked);
	ASSERT(heap() - before < 65536);		/* the worker, stdio */
}

/* ----------------------------------------------------------------------------------------- threads */

/* A gate of its own: WAIT_FOR() wakes all sleepers at each change, ten thousand times ten thousand. */
static unsigned may_leave;
static int inside, refused_at;

static int stand(struct mmu_notifier *mn, struct mm_struct *of, unsigned long at)
{
	(void)mn;
	(void)of;
	(void)at;
	__atomic_fetch_add(&inside, 1, __ATOMIC_SEQ_CST);
	changed();
	while (!LOAD(may_leave))
		syscall(SYS_futex, &may_leave, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
	return 0;
}

static const struct mmu_notifier_ops stand_ops = { .test_young = stand, .invalidate_range_start = count_start };

/* Each has a range of its own in flight and stands in a walk. */
static void *be_inside(void *arg)
{
	struct mmu_notifier_range range = make_range(mm, 0x1000, 0x2000);

	mmap_read_lock(mm);
	__mmu_notifier_invalidate_range_start(&range);
	mmu_notifier_test_young(mm, 0);
	mmu_notifier_invalidate_range_end(&range);
	mmap_read_unlock(mm);
	return arg;
}

TEST(ten_thousand_threads_at_once)
{
	int want = scaled(10000, 100), have;
	pthread_t *ids = pages_for(want * sizeof(*ids));
	struct mmu_notifier mn = { .ops = &stand_ops };
	struct mmu_interval_notifier sub;
	struct thread *reader, *updater;
	struct watch w = watch("w");
	pthread_attr_t small;
	double start = now();

	take_time();
	mm = mm_alloc();
	ASSERT_EQ(mmu_notifier_register(&mn, mm), 0);
	ASSERT_EQ(mmu_interval_notifier_insert(&sub, mm, 0x1000, 0x1000, &count_ops), 0);
	INSERT(&w, mm, 0x8000, 0x1000);
	pthread_attr_init(&small);
	pthread_attr_setstacksize(&small, 65536);
	for (have = 0; have < want; have++)
		if ((refused_at = pthread_create(&ids[have], &small, be_inside, NULL)))
			break;
	if (have < want)
		printf("%d threads, not %d: %s\n", have, want, strerror(refused_at));
	ASSERT(have >= want / 10);
	WAIT_FOR(LOAD(inside) == have);
	ASSERT_EQ(LOAD(calls), have);
	reader = spawn((void *(*)(void *))(void *)mmu_interval_read_begin, &sub);
	updater = spawn(do_synchronize, NULL);
	wait_until_blocked(reader, MMU_NOTIFIER_WAIT_READ_BEGIN);
	wait_until_blocked(updater, MMU_NOTIFIER_WAIT_GRACE_PERIOD);
	IN_CHILD({			/* of all these ranges and walks none is the child's */
		mmu_notifier_synchronize();
		ASSERT_EQ(mmu_interval_read_begin(&sub), 3);
		ASSERT(mmap_write_trylock(mm));
	});
	STORE(may_leave, 1);
	syscall(SYS_futex, &may_leave, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
	ASSERT_EQ(join(reader), 3);
	join(updater);
	for (int n = 0; n < have; n++)
		ASSERT_EQ(pthread_join(ids[n], NULL), 0);
	ASSERT_EQ(mmu_interval_read_begin(&sub), 3);	/* one busy period, one number */
	mmu_interval_notifier_remove(&sub);
	REMOVE(&w);
	mmu_notifier_unregister(&mn, mm);
	ASSERT_EQ(mm_count(mm), 1);
	mmput(mm);
	printf("%d threads: %.2f s\n", have, now() - start);
}

/* ------------------------------------------------------------------------------------------- users */

TEST(GP_1_users_at_their_maximum)
{
	struct mmu_notifier *mn;

	mm = mm_alloc();
	mn = mmu_notifier_get(&ops_get, mm);
	ASSERT_EQ(mn->users, 1);
	mn->users = UINT_MAX - 1;
	ASSERT_EQ(mmu_notifier_get(&ops_get, mm), mn);
	ASSERT_EQ(mn->users, UINT_MAX);
	for (int n = 0; n < 3; n++)
		ASSERT_EQ(PTR_ERR(mmu_notifier_get(&ops_get, mm)), -EOVERFLOW);
	ASSERT_EQ(mn->users, UINT_MAX);
	ASSERT_EQ(mm_count(mm), 2);
	mmap_write_lock(mm);				/* which a failed get has released */
	mmap_write_unlock(mm);
	mmu_notifier_put(mn);
	ASSERT_EQ(mn->users, UINT_MAX - 1);
	ASSERT_EQ(mmu_notifier_get(&ops_get, mm), mn);
	for (unsigned n = 0; n < 1000; n++)
		mmu_notifier_put(mn);
	ASSERT_EQ(mn->users, UINT_MAX - 1000);
	mn->users = 3;					/* four thousand million puts later */
	mmu_notifier_put(mn);
	mmu_notifier_put(mn);
	ASSERT_EQ(LOAD(test_frees), 0);
	mmu_notifier_put(mn);
	mmu_notifier_synchronize();
	ASSERT_EQ(LOAD(test_frees), 1);
	ASSERT_EQ(mm_count(mm), 1);
	EXPECT_LOG("alloc", "free");
	mmput(mm);
}
