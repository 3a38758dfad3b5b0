/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What drivers rely on: the user_lock protocol (4.3), remove and read_begin under mmap_lock (4.2), memory order (MO-1 to MO-4), DV-11. */
#include "test.h"

static struct mm_struct *mm;
static struct mmu_notifier_range range;

/* A mirror of one page, kept by the book: `device` holds what was programmed, 0 after an invalidation. */
struct mirror {
	struct watch w;
	long device;
};

static long page = 1;			/* what a collection finds */

/* Item 5. A non-blockable range may find the lock taken: then false, before anything is done. */
static bool mirror_invalidate(struct mmu_interval_notifier *sub, const struct mmu_notifier_range *seen, unsigned long seq)
{
	struct mirror *self = container_of(sub, struct mirror, w.sub);

	if (mmu_notifier_range_blockable(seen))
		pthread_mutex_lock(&self->w.user_lock);
	else if (pthread_mutex_trylock(&self->w.user_lock))
		return false;
	mmu_interval_set_seq(sub, seq);
	self->device = 0;
	pthread_mutex_unlock(&self->w.user_lock);
	return true;
}

static const struct mmu_interval_notifier_ops mirror_ops = { .invalidate = mirror_invalidate };

static void set_up(struct mirror *self)
{
	mm = mm_alloc();
	*self = (struct mirror){ .w = watch("mirror") };
	ASSERT_EQ(mmu_interval_notifier_insert(&self->w.sub, mm, 0x1000, 0x1000, &mirror_ops), 0);
	range = make_range(mm, 0x1000, 0x2000);
}

/* Items 3 and 4: true if the device was programmed. */
static bool mirror_commit(struct mirror *self, unsigned long seq, long collected)
{
	bool retry;

	pthread_mutex_lock(&self->w.user_lock);
	retry = mmu_interval_read_retry(&self->w.sub, seq);
	if (!retry)
		self->device = collected;
	pthread_mutex_unlock(&self->w.user_lock);
	return !retry;
}

/* 4.3-2, 4.3-4, 4.2-9, 4.2-10 */
TEST(S4_3_1_an_undisturbed_round)
{
	struct mirror m;
	unsigned long seq;

	set_up(&m);
	seq = READ_BEGIN(&m.w);
	ASSERT(!mmu_interval_check_retry(&m.w.sub, seq));
	ASSERT(mirror_commit(&m, seq, page));
	ASSERT_EQ(m.device, 1);
}

/* 4.3-2, 4.3-3, 4.2-8: a change between begin and retry is seen, early by check_retry and for good by read_retry. */
TEST(S4_3_3_a_change_in_between_is_retried)
{
	struct mirror m;
	unsigned long seq;
	long collected;

	set_up(&m);
	seq = READ_BEGIN(&m.w);
	collected = page;
	range_start(&range);
	page = 2;
	range_end(&range);
	ASSERT(mmu_interval_check_retry(&m.w.sub, seq));
	ASSERT(!mirror_commit(&m, seq, collected));
	ASSERT_EQ(m.device, 0);
	seq = READ_BEGIN(&m.w);			/* item 1 again */
	ASSERT(mirror_commit(&m, seq, page));
	ASSERT_EQ(m.device, 2);
}

/* MO-2: read_begin that comes before the start: its callback runs later, and the retry tells. */
TEST(MO_2_begin_before_start)
{
	struct mirror m;
	unsigned long seq;

	set_up(&m);
	seq = READ_BEGIN(&m.w);
	range_start(&range);
	ASSERT(!mirror_commit(&m, seq, page));
	range_end(&range);
	ASSERT(!mirror_commit(&m, seq, page));	/* for good */
}

static struct gate in_callback;

static void stand_in_callback(struct watch *self, const struct mmu_notifier_range *seen, unsigned long seq)
{
	(void)self;
	(void)seen;
	(void)seq;
	gate_pass(&in_callback);
}

static void *a_pair(void *unused)
{
	invalidate(mm, 0x1000, 0x2000);
	return unused;
}

/* MO-2: the start came first and its set_seq is still to come: no collision, but the retry tells. */
TEST(MO_2_begin_between_start_and_set_seq)
{
	struct watch a = watch("a");
	struct thread *changer;
	unsigned long seq;

	mm = mm_alloc();
	a.in = stand_in_callback;
	INSERT(&a, mm, 0x1000, 0x1000);
	changer = spawn(a_pair, NULL);
	gate_wait(&in_callback);
	seq = READ_BEGIN(&a);
	ASSERT_EQ(seq, 1);
	ASSERT(!mmu_interval_check_retry(&a.sub, seq));
	gate_open(&in_callback);
	join(changer);
	ASSERT(mmu_interval_read_retry(&a.sub, seq));
}

/* MO-2: the start came first and set_seq, too: read_begin collides. */
TEST(MO_2_begin_after_set_seq_collides)
{
	struct mirror m;
	struct thread *reader;

	set_up(&m);
	range_start(&range);
	reader = spawn(do_read_begin, &m.w);
	wait_until_blocked(reader, MMU_NOTIFIER_WAIT_READ_BEGIN);
	range_end(&range);
	ASSERT(mirror_commit(&m, (unsigned long)join(reader), page));
}

/* 4.1-1, 4.2-12: trylock fails, false is returned before anything was done. */
TEST(S4_3_5_a_nonblockable_range_finds_the_lock_taken)
{
	struct mirror m;
	unsigned long seq;

	set_up(&m);
	seq = READ_BEGIN(&m.w);
	ASSERT(mirror_commit(&m, seq, page));
	pthread_mutex_lock(&m.w.user_lock);
	ASSERT_EQ(range_start_nonblock(&range), -EAGAIN);
	pthread_mutex_unlock(&m.w.user_lock);
	ASSERT_EQ(m.device, 1);
	ASSERT(!mmu_interval_read_retry(&m.w.sub, seq));
	ASSERT_EQ(range_start_nonblock(&range), 0);
	ASSERT_EQ(m.device, 0);
	range_end(&range);
	ASSERT(mmu_interval_read_retry(&m.w.sub, seq));
}

static bool skips_its_own(struct mmu_interval_notifier *sub, const struct mmu_notifier_range *seen, unsigned long seq)
{
	if (seen->event == MMU_NOTIFY_MIGRATE && seen->owner == &mm)
		return true;
	return mirror_invalidate(sub, seen, seq);
}

/* Events that are the driver's own; the ranges of others with the same event are not. */
TEST(S4_3_6_a_driver_skips_what_is_its_own)
{
	static const struct mmu_interval_notifier_ops ops = { .invalidate = skips_its_own };
	struct mirror m = { .w = watch("m") };
	unsigned long seq;

	mm = mm_alloc();
	ASSERT_EQ(mmu_interval_notifier_insert(&m.w.sub, mm, 0x1000, 0x1000, &ops), 0);
	seq = READ_BEGIN(&m.w);
	mmu_notifier_range_init_owner(&range, MMU_NOTIFY_MIGRATE, 0, mm, 0x1000, 0x2000, &mm);
	range_start(&range);
	ASSERT_EQ(READ_BEGIN(&m.w), seq);	/* nor does it collide */
	range_end(&range);
	ASSERT(mirror_commit(&m, seq, page));
	mmu_notifier_range_init_owner(&range, MMU_NOTIFY_MIGRATE, 0, mm, 0x1000, 0x2000, &page);
	range_start(&range);
	range_end(&range);
	ASSERT(!mirror_commit(&m, seq, page));
}

static void *many_pairs(void *unused)
{
	for (int n = 0; n < 2000; n++) {
		struct mmu_notifier_range one = make_range(mm, 0x1000, 0x2000);

		range_start(&one);
		__atomic_fetch_add(&page, 1, __ATOMIC_RELAXED);
		range_end(&one);
	}
	return unused;
}

/* 4.3-7, MO-2: what is committed is what the page holds, unless an invalidation has come, and it orders by user_lock only. */
TEST(S4_3_7_what_is_committed_is_not_stale)
{
	struct thread *changer;
	struct mirror m;
	unsigned long seq;
	long collected;

	set_up(&m);
	changer = spawn(many_pairs, NULL);
	while (!LOAD(changer->done)) {
		seq = READ_BEGIN(&m.w);
		collected = __atomic_load_n(&page, __ATOMIC_RELAXED);
		if (!mirror_commit(&m, seq, collected))
			continue;
		/* A page changes inside its range only, which would have cleared the device first. */
		pthread_mutex_lock(&m.w.user_lock);
		if (m.device && m.device != __atomic_load_n(&page, __ATOMIC_RELAXED))
			FAIL("the device holds a stale page");
		pthread_mutex_unlock(&m.w.user_lock);
	}
	join(changer);
}

/* ST-7: valid numbers are odd and move by two. */
TEST(S4_3_8_kept_numbers)
{
	struct mirror m;
	unsigned long kept;

	set_up(&m);
	ASSERT(mmu_interval_read_retry(&m.w.sub, LONG_MAX));	/* xe's number that is never valid */
	kept = READ_BEGIN(&m.w);
	for (int n = 0; n < 5; n++)
		invalidate(mm, 0x8000, 0x9000);
	ASSERT(!mmu_interval_read_retry(&m.w.sub, kept));	/* the mapping is still good */
	ASSERT(mmu_interval_read_retry(&m.w.sub, kept - 2));	/* xe's way to fake a collision */
	for (int n = 0; n < 5; n++) {
		unsigned long next;

		invalidate(mm, 0x1000, 0x2000);
		ASSERT(mmu_interval_read_retry(&m.w.sub, kept));
		next = READ_BEGIN(&m.w);
		ASSERT_EQ(next, kept + 2);
		kept = next;
	}
}

/* --- 4.2: with mmap_lock held */

TEST(S4_2_6_remove_with_mmap_lock_held)
{
	struct watch a = watch("a"), b = watch("b");

	mm = mm_alloc();
	INSERT(&a, mm, 0x1000, 0x1000);
	INSERT(&b, mm, 0x1000, 0x1000);
	mmap_write_lock(mm);
	REMOVE(&a);
	mmap_write_unlock(mm);
	mmap_read_lock(mm);
	REMOVE(&b);
	mmap_read_unlock(mm);
	ASSERT_EQ(mm_count(mm), 1);
}

TEST(S4_2_7_read_begin_with_mmap_lock_held)
{
	struct watch a = watch("a");

	mm = mm_alloc();
	INSERT(&a, mm, 0x1000, 0x1000);
	mmap_read_lock(mm);
	ASSERT_EQ(READ_BEGIN(&a), 1);
	mmap_read_unlock(mm);
	mmap_write_lock(mm);
	ASSERT_EQ(READ_BEGIN(&a), 1);
	mmap_write_unlock(mm);
}

TEST(S4_2_1_register_and_get_want_a_user)
{
	struct listener A = listener("A", &ops_kept);

	mm = mm_alloc();
	REGISTER(&A, mm);
	mmgrab(mm);
	mmput(mm);
	EXPECT_BUG("RG-1", mmu_notifier_register(&A.mn, mm));
	EXPECT_BUG_IN("RG-1", "mmu_notifier_get_locked", "", (void)!mmu_notifier_get(&ops_get, mm));
}

/* --- memory order: plain variables that only the library orders */

static long payload[2];

static int reads_payload(struct mmu_notifier *mn, struct mm_struct *of, unsigned long address)
{
	ASSERT_EQ(mn->mm, of);
	ASSERT_EQ(mn->users, 1);
	(void)address;
	return (int)payload[0];
}

static const struct mmu_notifier_ops ops_payload = { .test_young = reads_payload, .free_notifier = on_free_kept };

static int walks_end;

static void *walk_until_told(void *unused)
{
	while (!LOAD(walks_end)) {
		int young = mmu_notifier_test_young(mm, 0x1000);

		if (young && young != 42)
			FAIL("the walk saw the sub and not its payload, but %d", young);
	}
	return unused;
}

/* Walks with no lock: whichever sees the sub sees its ops, mm and users, and what its owner stored before. */
TEST(MO_1_a_walk_that_sees_the_sub_sees_its_fields_and_payload)
{
	struct thread *walker;

	mm = mm_alloc();
	walker = spawn(walk_until_told, NULL);
	for (int n = 0; n < 20000; n++) {
		struct listener A = listener("A", &ops_payload);	/* all 0x5a but ops */

		payload[0] = 42;
		REGISTER(&A, mm);
		UNREGISTER(&A);
		payload[0] = 1;
	}
	STORE(walks_end, 1);
	join(walker);
}

static void sees_payload(struct watch *self, const struct mmu_notifier_range *seen, unsigned long seq)
{
	(void)seen;
	(void)seq;
	ASSERT_EQ(payload[0], 43);
	ASSERT_EQ(self->sub.mm, mm);
}

static void *insert_with_payload(void *watch)
{
	payload[0] = 43;
	INSERT((struct watch *)watch, mm, 0x1000, 0x1000);
	return NULL;
}

TEST(MO_1_who_is_called_sees_what_came_before_insert)
{
	for (int n = 0; n < 100; n++) {
		struct watch a = watch("a");
		struct thread *inserter;

		mm = mm_alloc();
		payload[0] = 0;
		a.in = sees_payload;
		inserter = spawn(insert_with_payload, &a);
		while (!LOAD(test_log_end)) {
			invalidate(mm, 0x1000, 0x2000);
			sched_yield();
		}
		join(inserter);
		REMOVE(&a);
		mmput(mm);
		STORE(test_log_end, 0);
		test_threads_end = 0;
	}
}

static void writes_payload(struct watch *self, const struct mmu_notifier_range *seen, unsigned long seq)
{
	(void)self;
	(void)seen;
	(void)seq;
	payload[0]++;
}

static void *end_with_payload(void *unused)
{
	payload[1]++;
	range_end(&range);
	return unused;
}

static void *read_begin_and_look(void *watch)
{
	READ_BEGIN((struct watch *)watch);
	return (void *)(payload[0] + payload[1]);
}

static void *remove_and_look(void *watch)
{
	REMOVE((struct watch *)watch);
	return (void *)(payload[0] + payload[1]);
}

/* `look` sleeps for the end and sees what came before it, the callbacks included; without a sleep it does, too. */
static void expect_sees(void *(*look)(void *), enum mmu_notifier_wait_reason reason)
{
	struct watch a = watch("a"), b = watch("b");
	struct thread *looking;

	mm = mm_alloc();
	a.in = b.in = writes_payload;
	INSERT(&a, mm, 0x1000, 0x1000);
	INSERT(&b, mm, 0x1000, 0x1000);
	range = make_range(mm, 0x1000, 0x2000);
	mmu_notifier_invalidate_range_start(&range);
	ASSERT_EQ(payload[0], 2);		/* MO-4 */
	looking = spawn(look, &a);
	wait_until_blocked(looking, reason);
	hold(mm);
	end_with_payload(NULL);
	ASSERT_EQ(join(looking), 3);
	ASSERT_EQ(look(&b), 3);
}

TEST(MO_3_read_begin_sees_what_came_before_the_end) { expect_sees(read_begin_and_look, MMU_NOTIFIER_WAIT_READ_BEGIN); }
TEST(MO_3_remove_sees_what_came_before_the_end) { expect_sees(remove_and_look, MMU_NOTIFIER_WAIT_REMOVE); }

static void *start_and_look(void *unused)
{
	mmu_notifier_invalidate_range_start(&range);
	ASSERT_EQ(payload[0], 2);
	return unused;
}

/* On whichever thread: a start has come back, hence its callbacks have. */
TEST(MO_4_a_start_returns_after_its_callbacks)
{
	struct watch a = watch("a"), b = watch("b");

	mm = mm_alloc();
	a.in = b.in = writes_payload;
	INSERT(&a, mm, 0x1000, 0x1000);
	INSERT(&b, mm, 0x1000, 0x1000);
	range = make_range(mm, 0x1000, 0x2000);
	join(spawn(start_and_look, NULL));
	mmu_notifier_invalidate_range_end(&range);
}

/* --- what is not there */

extern bool mmu_notifier_range_update_to_read_only(const struct mmu_notifier_range *) __attribute__((weak));

TEST(DV_11_update_to_read_only_is_not_provided)
{
#ifdef mmu_notifier_range_update_to_read_only
	FAIL("the headers define it");
#endif
	ASSERT(!mmu_notifier_range_update_to_read_only);
}
