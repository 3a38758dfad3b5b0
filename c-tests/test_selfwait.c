/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* DV-7: a call that would wait for itself is a BUG that names the call and the callback; the same call that need not wait works. */
#include "test.h"

static struct mm_struct *mm, *other;
static struct listener O, V, X;		/* O is called and makes the call; V of `mm` and X of `other` are victims */
static struct watch a, b;		/* intervals of mm, [0x1000, 0x1fff] and [0x2000, 0x2fff] */
static const char *inside_op;
static void (*inside)(void);

static const struct mmu_notifier_ops ops_arch = { .arch_invalidate_secondary_tlbs = on_arch };

static void call_inside(struct listener *self, const char *op)
{
	(void)self;
	if (!strcmp(op, inside_op)) {
		note("inside");
		inside();
	}
}

static void call_inside_invalidate(struct watch *self, const struct mmu_notifier_range *range, unsigned long seq)
{
	(void)range;
	(void)seq;
	self->in = NULL;
	note("inside");
	inside();
}

/* O, the newest of mm, calls `call` in `op`. */
static void set_up(const struct mmu_notifier_ops *ops, const char *op, void (*call)(void))
{
	mm = mm_alloc();
	mmgrab(mm);
	other = mm_alloc();
	mmgrab(other);
	V = listener("V", &ops_kept);
	X = listener("X", &ops_kept);
	O = listener("O", ops);
	O.in = call_inside;
	inside_op = op;
	inside = call;
	REGISTER(&V, mm);
	REGISTER(&X, other);
	REGISTER(&O, mm);
}

/* a calls `call` in invalidate(); b is an interval, too. */
static void set_up_intervals(void (*call)(void))
{
	set_up(&ops_all, "", NULL);
	a = watch("a");
	b = watch("b");
	a.in = call_inside_invalidate;
	inside = call;
	INSERT(&a, mm, 0x1000, 0x1000);
	INSERT(&b, mm, 0x2000, 0x1000);
}

/* Ways into O's ops. */
static void by_pair(void) { invalidate(mm, 0x1000, 0x2000); }
static void by_clear_flush_young(void) { WITH_LOCK(mm, mmu_notifier_clear_flush_young(mm, 0, 0x1000)); }
static void by_clear_young(void) { WITH_LOCK(mm, mmu_notifier_clear_young(mm, 0, 0x1000)); }
static void by_test_young(void) { WITH_LOCK(mm, mmu_notifier_test_young(mm, 0)); }
static void by_change_pte(void) { WITH_LOCK(mm, mmu_notifier_change_pte(mm, 0, (pte_t){ .pte = 0 })); }
static void by_arch(void) { WITH_LOCK(mm, mmu_notifier_arch_invalidate_secondary_tlbs(mm, 0, 0x1000)); }
static void by_unregister(void) { UNREGISTER(&O); }
static void by_exit(void) { mmput(mm); }

static const struct way {
	const char *op, *member;
	const struct mmu_notifier_ops *ops;
	void (*go)(void);
} ways[] = {
	{ "start", "invalidate_range_start", &ops_all, by_pair },
	{ "end", "invalidate_range_end", &ops_all, by_pair },
	{ "clear_flush_young", "clear_flush_young", &ops_all, by_clear_flush_young },
	{ "clear_young", "clear_young", &ops_all, by_clear_young },
	{ "test_young", "test_young", &ops_all, by_test_young },
	{ "change_pte", "change_pte", &ops_all, by_change_pte },
	{ "arch", "arch_invalidate_secondary_tlbs", &ops_arch, by_arch },
	{ "release", "release", &ops_all, by_unregister },
	{ "release", "release", &ops_all, by_exit },
};

/* Things to do inside. */
static void unregister_same_mm(void) { UNREGISTER(&V); }
static void unregister_other_mm(void) { UNREGISTER(&X); }
static void unregister_itself(void) { UNREGISTER(&O); }
static void synchronize(void) { mmu_notifier_synchronize(); }
static void last_mmput(void) { mmput(other); }

/* In every op, `call`, which is a call of `function`, is a BUG. */
static void expect_bug_everywhere(void (*call)(void), const char *function)
{
	for (size_t n = 0; n < sizeof(ways) / sizeof(*ways); n++) {
		set_up(ways[n].ops, ways[n].op, call);
		EXPECT_BUG_IN("DV-7", function, ways[n].member, ways[n].go());
	}
}

/* In every op, `call` comes back. */
static void expect_works_everywhere(void (*call)(void))
{
	for (size_t n = 0; n < sizeof(ways) / sizeof(*ways); n++) {
		set_up(ways[n].ops, ways[n].op, call);
		STORE(test_log_end, 0);
		ways[n].go();
		if (!logged("inside"))
			FAIL("%s was not called", ways[n].member);
		expect_reports();
		mmu_notifier_synchronize();
	}
}

/* 4.2-3 */
TEST(DV_7_unregister_on_the_same_mm) { expect_bug_everywhere(unregister_same_mm, "mmu_notifier_unregister"); }
TEST(DV_7_unregister_on_another_mm) { expect_bug_everywhere(unregister_other_mm, "mmu_notifier_unregister"); }
/* 4.2-5 */
TEST(DV_7_synchronize) { expect_bug_everywhere(synchronize, "mmu_notifier_synchronize"); }
TEST(DV_7_last_mmput) { expect_bug_everywhere(last_mmput, "mmput"); }

TEST(DV_7_unregister_of_itself)
{
	set_up(&ops_all, "test_young", unregister_itself);
	EXPECT_BUG_IN("DV-7", "mmu_notifier_unregister", "test_young", by_test_young());
}

static void own_last_mmput(void) { mmput(mm); }

TEST(DV_7_last_mmput_of_the_same_mm)
{
	set_up(&ops_all, "start", own_last_mmput);
	EXPECT_BUG_IN("DV-7", "mmput", "invalidate_range_start", by_pair());
}

static void inner_walk_then_synchronize(void)
{
	do_walk(other);
	mmu_notifier_synchronize();
}

TEST(DV_7_an_inner_walk_does_not_end_the_outer)
{
	set_up(&ops_all, "start", inner_walk_then_synchronize);
	EXPECT_BUG_IN("DV-7", "mmu_notifier_synchronize", "invalidate_range_start", by_pair());
}

TEST(DV_7_after_the_callback_all_is_well)
{
	set_up(&ops_all, "", NULL);
	by_pair();
	by_test_young();
	mmu_notifier_synchronize();
	UNREGISTER(&V);
	mmput(other);
}

/* --- inside a free_notifier */

static void free_calls_inside(struct mmu_notifier *mn)
{
	inside();
	on_free_kept(mn);
}

static const struct mmu_notifier_ops ops_free = { .free_notifier = free_calls_inside };

static void put_and_wait(void)
{
	mmu_notifier_put(&O.mn);
	mmu_notifier_synchronize();
}

static void expect_bug_in_free(void (*call)(void), const char *function)
{
	set_up(&ops_free, "", call);
	EXPECT_BUG_IN("DV-7", function, "free_notifier", put_and_wait());
}

TEST(DV_7_unregister_in_free_notifier) { expect_bug_in_free(unregister_same_mm, "mmu_notifier_unregister"); }
TEST(DV_7_synchronize_in_free_notifier) { expect_bug_in_free(synchronize, "mmu_notifier_synchronize"); }
TEST(DV_7_last_mmput_in_free_notifier) { expect_bug_in_free(last_mmput, "mmput"); }

static void put_another(void) { mmu_notifier_put(&V.mn); }

TEST(DV_7_put_in_free_notifier_is_fine)
{
	set_up(&ops_free, "", put_another);
	put_and_wait();				/* V's free is owed by a put that came later */
	mmu_notifier_synchronize();
	EXPECT_LOG("O.free", "V.free");
}

static struct mmu_notifier *alloc_synchronizes(struct mm_struct *for_mm)
{
	mmu_notifier_synchronize();
	return on_alloc(for_mm);
}

static void free_synchronizes(struct mmu_notifier *mn)
{
	mmu_notifier_synchronize();
	on_free(mn);
}

/* 4.1-7, 4.1-8 */
TEST(DV_7_alloc_and_a_free_at_once_are_no_walk)
{
	static const struct mmu_notifier_ops ops = {
		.arch_invalidate_secondary_tlbs = on_arch, .invalidate_range_start = on_start,
		.alloc_notifier = alloc_synchronizes, .free_notifier = free_synchronizes,
	};

	mm = mm_alloc();
	ASSERT_EQ(mmu_notifier_get(&ops, mm), -EINVAL);
	expect_reports("RG-2");
	EXPECT_LOG("alloc", "free");
}

/* --- remove and read_begin */

static void remove_b(void) { REMOVE(&b); }
static void remove_a(void) { REMOVE(&a); }
static void read_a(void) { READ_BEGIN(&a); }
static void read_b(void) { READ_BEGIN(&b); }

/* IR-10, 4.2-6 */
TEST(DV_7_remove_in_invalidate)
{
	set_up_intervals(remove_b);
	EXPECT_BUG_IN("DV-7", "mmu_interval_notifier_remove", "invalidate", by_pair());
	set_up_intervals(remove_a);
	EXPECT_BUG_IN("DV-7", "mmu_interval_notifier_remove", "invalidate", by_pair());
}

/* 4.2-7 */
TEST(DV_7_read_begin_in_invalidate)
{
	set_up_intervals(read_b);
	a.in = NULL;
	b.in = call_inside_invalidate;
	inside = read_a;			/* a has set its seq by then */
	EXPECT_BUG_IN("DV-7", "mmu_interval_read_begin", "invalidate", invalidate(mm, 0x1000, 0x3000));
}

/* IR-10, 4.2-6, 4.2-7 */
TEST(DV_7_remove_and_read_begin_in_start)
{
	set_up_intervals(NULL);
	a.in = NULL;
	inside_op = "start";
	inside = remove_b;
	EXPECT_BUG_IN("DV-7", "mmu_interval_notifier_remove", "invalidate_range_start", by_pair());
	inside = read_a;
	EXPECT_BUG_IN("DV-7", "mmu_interval_read_begin", "invalidate_range_start", by_pair());
}

TEST(DV_7_remove_in_invalidate_of_mm_exit)
{
	set_up_intervals(remove_b);
	EXPECT_BUG_IN("DV-7", "mmu_interval_notifier_remove", "invalidate", by_exit());
}

/* --- the same where they need not wait */

static void put_V(void) { mmu_notifier_put(&V.mn); }
static void put_X(void) { mmu_notifier_put(&X.mn); }

static void use_an_extra_user(void)
{
	mmget(mm);
	mmput(mm);
	mmgrab(other);
	mmdrop(other);
}

static void mmput_of_an_empty_list(void)
{
	static struct watch w;
	struct mm_struct *plain = mm_alloc(), *intervals = mm_alloc();

	mmput(plain);
	w = watch("w");
	INSERT(&w, intervals, 0x1000, 0x1000);
	mmput(intervals);
	REMOVE(&w);
}

/* GP-6, 4.2-4 */
TEST(DV_7_puts_are_fine_everywhere) { expect_works_everywhere(put_V); expect_works_everywhere(put_X); }
TEST(DV_7_mmput_of_an_empty_list_is_fine_everywhere) { expect_works_everywhere(mmput_of_an_empty_list); }

TEST(DV_7_mmput_of_a_user_among_others_is_fine)
{
	set_up(&ops_all, "start", use_an_extra_user);
	by_pair();
	ASSERT(logged("inside"));
}

static void async_last_mmput(void) { mmput_async(other); }

TEST(DV_7_mmput_async_is_fine)
{
	set_up(&ops_all, "start", async_last_mmput);
	by_pair();
	UNREGISTER(&X);
	ASSERT(logged("inside"));
}

static void wait_for_lists(void)
{
	mmu_notifier_synchronize();
	UNREGISTER(&V);
	mmput(other);
	UNREGISTER(&X);
}

/* 4.2-3, 4.2-5 */
TEST(DV_7_grace_periods_in_an_interval_callback_are_fine)
{
	set_up_intervals(wait_for_lists);
	by_pair();
	EXPECT_LOG("a.inv 3", "inside", "V.release", "X.release", "O.start", "O.end");
}

static void insert_and_remove(void)
{
	struct watch w = watch("w");

	INSERT(&w, mm, 0x1000, 0x1000);
	REMOVE(&w);
}

TEST(DV_7_remove_of_a_deferred_insert_is_fine)
{
	set_up_intervals(insert_and_remove);
	by_pair();
	ASSERT_EQ(idle_seq(mm), 4);
	EXPECT_LOG("a.inv 3", "inside", "O.start", "V.start", "O.end", "V.end");
}

static void read_both(void)
{
	ASSERT_EQ(READ_BEGIN(&a), 1);		/* inside before set_seq */
	ASSERT_EQ(READ_BEGIN(&b), 1);
}

TEST(DV_7_read_begin_of_another_seq_is_fine)
{
	set_up_intervals(read_both);
	by_pair();
	ASSERT(logged("inside"));
}

static void read_and_remove_b(void)
{
	ASSERT(READ_BEGIN(&b) & 1);
	REMOVE(&b);
}

TEST(DV_7_remove_and_read_begin_in_end_are_fine)
{
	set_up_intervals(NULL);
	a.in = NULL;
	inside_op = "end";
	inside = read_and_remove_b;
	by_pair();
	EXPECT_LOG("a.inv 3", "O.start", "V.start", "O.end", "inside", "V.end");
}

TEST(DV_7_remove_and_read_begin_in_start_while_even_are_fine)
{
	set_up_intervals(NULL);
	inside_op = "start";
	inside = read_and_remove_b;
	invalidate(mm, 0x8000, 0x9000);
	EXPECT_LOG("O.start", "inside", "V.start", "O.end", "V.end");
}

TEST(DV_7_remove_and_read_begin_in_release_are_fine)
{
	set_up_intervals(NULL);
	a.in = NULL;
	inside_op = "release";
	inside = read_and_remove_b;
	mmput(mm);				/* RL-1's range is over by then */
	EXPECT_LOG("a.inv 3", "b.inv 3", "O.release", "inside", "V.release");
}

/* --- 4.2: what is legal, or done all the same, in every callback */

static struct watch fresh;

static void insert_fresh(void)
{
	fresh = watch("fresh");
	if (mm_users(mm) == 0) {		/* in mm exit: II-4 */
		ASSERT_EQ(mmu_interval_notifier_insert(&fresh.sub, mm, 0x8000, 0x1000, &watch_ops), -EINVAL);
		expect_reports("II-4");
		return;
	}
	INSERT(&fresh, mm, 0x8000, 0x1000);
	ASSERT(!mmu_interval_check_retry(&fresh.sub, SEQ(&fresh)));
	ASSERT(mmu_interval_check_retry(&fresh.sub, 77));
	ASSERT(!mmu_interval_read_retry(&fresh.sub, SEQ(&fresh)));
}

static void turn_intervals_on(void)
{
	static struct watch first;

	first = watch("first");
	INSERT(&first, mm, 0x100000, 0x1000);
}

static void go_with_intervals(const struct way *way)
{
	set_up(way->ops, way->op, insert_fresh);
	turn_intervals_on();
	STORE(test_log_end, 0);
}

/* An insert with has_itree takes no lock and works in every callback; so do check_retry and read_retry (4.2-9, 4.2-10). */
TEST(S4_2_1_an_insert_works_in_every_callback)
{
	for (size_t n = 0; n < sizeof(ways) / sizeof(*ways); n++) {
		go_with_intervals(&ways[n]);
		ways[n].go();
		if (!logged("inside"))
			FAIL("%s was not called", ways[n].member);
		expect_reports();
	}
}

static void insert_in_invalidate(void)
{
	fresh = watch("fresh");
	INSERT(&fresh, mm, 0x8000, 0x1000);
	ASSERT_EQ(SEQ(&fresh), 3);
	ASSERT(!mmu_interval_read_retry(&a.sub, 1));
	ASSERT(!mmu_interval_check_retry(&a.sub, 1));
}

TEST(S4_2_9_read_retry_in_invalidate)
{
	set_up_intervals(insert_in_invalidate);		/* 4.2-10 */
	by_pair();
	ASSERT(logged("inside"));
}

static void nested_pair(void)
{
	inside_op = "";				/* once */
	a.in = NULL;
	invalidate(mm, 0x2000, 0x3000);
}

/* ST-6: a pair inside a callback of the same mm is counted, and shares the seq. */
TEST(S4_2_11_a_pair_nested_in_invalidate)
{
	set_up_intervals(nested_pair);
	by_pair();
	EXPECT_LOG("a.inv 3", "inside", "b.inv 3", "O.start", "V.start", "O.end", "V.end", "O.start", "V.start", "O.end", "V.end");
	ASSERT_EQ(idle_seq(mm), 4);
}

TEST(S4_2_11_a_pair_nested_in_start_and_in_end)
{
	set_up_intervals(nested_pair);
	a.in = NULL;
	inside_op = "start";
	by_pair();
	EXPECT_LOG("a.inv 3", "O.start", "inside", "b.inv 3", "O.start", "V.start", "O.end", "V.end", "V.start", "O.end", "V.end");
	inside_op = "end";
	by_pair();
	EXPECT_LOG("a.inv 5", "O.start", "V.start", "O.end", "inside", "b.inv 7", "O.start", "V.start", "O.end", "V.end", "V.end");
	ASSERT_EQ(idle_seq(mm), 8);
}

static void refused_pair(void)
{
	struct mmu_notifier_range range = make_range(mm, 0x2000, 0x3000);

	inside_op = "";
	b.refuse = true;
	ASSERT_EQ(range_start_nonblock(&range), -EAGAIN);
}

TEST(S4_2_12_a_nonblockable_start_in_start)
{
	set_up_intervals(refused_pair);
	a.in = NULL;
	inside_op = "start";
	by_pair();
	EXPECT_LOG("a.inv 3", "O.start", "inside", "b.inv 3", "V.start", "O.end", "V.end");
	ASSERT_EQ(idle_seq(mm), 4);
}
