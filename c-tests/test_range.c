/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Range start and end: RS-*, HS-*, RE-*, DV-1, DV-8. */
#include "test.h"

static const struct mmu_notifier_ops
	ops_start = { .invalidate_range_start = on_start },
	ops_end = { .invalidate_range_end = on_end };
static struct mm_struct *mm;
static struct mmu_notifier_range range;

/* --- the inlines (1.3) */

TEST(S1_3_flags_without_notifiers_stay)
{
	mm = mm_alloc();
	range = make_range(mm, 0x1000, 0x2000);
	range_start(&range);
	ASSERT_EQ(range.flags, 0);
	range_end(&range);
	range.flags = MMU_NOTIFIER_RANGE_BLOCKABLE;
	ASSERT_EQ(range_start_nonblock(&range), 0);
	ASSERT_EQ(range.flags, MMU_NOTIFIER_RANGE_BLOCKABLE);
	range_end(&range);
}

TEST(S1_3_start_sets_and_nonblock_clears_the_flag)
{
	struct listener A = listener("A", &ops_all);

	mm = mm_alloc();
	REGISTER(&A, mm);
	range = make_range(mm, 0x1000, 0x2000);
	range_start(&range);
	ASSERT_EQ(A.seen.flags, MMU_NOTIFIER_RANGE_BLOCKABLE);
	ASSERT(mmu_notifier_range_blockable(&A.seen));
	range_end(&range);
	ASSERT_EQ(range_start_nonblock(&range), 0);
	ASSERT_EQ(A.seen.flags, 0);
	range_end(&range);
	EXPECT_LOG("A.start", "A.end", "A.start", "A.end");
	UNREGISTER(&A);
}

TEST(S1_3_has_notifiers_stays)
{
	struct listener A = listener("A", &ops_none);

	mm = mm_alloc();
	ASSERT(!mm_has_notifiers(mm));
	REGISTER(&A, mm);
	ASSERT(mm_has_notifiers(mm));
	UNREGISTER(&A);
	ASSERT(mm_has_notifiers(mm));
}

TEST(S1_3_range_init_leaves_owner)
{
	mm = mm_alloc();
	POISON(&range);
	mmu_notifier_range_init(&range, MMU_NOTIFY_PROTECTION_VMA, 0, mm, 0x1000, 0x2000);
	ASSERT_POISON(&range.owner);
	ASSERT_EQ(range.event, MMU_NOTIFY_PROTECTION_VMA);
	mmu_notifier_range_init_owner(&range, MMU_NOTIFY_MIGRATE, 1, mm, 0x3000, 0x4000, &mm);
	ASSERT_EQ(range.owner, &mm);
	ASSERT_EQ(range.flags, 1);
	ASSERT_EQ(range.start, 0x3000);
	ASSERT_EQ(range.end, 0x4000);
}

/* --- the tree's half */

static void is_callers_range(struct watch *self, const struct mmu_notifier_range *seen, unsigned long seq)
{
	(void)self;
	(void)seq;
	ASSERT_EQ(seen, &range);
}

TEST(RS_2_order_and_arguments)
{
	struct watch a = watch("a"), b = watch("b"), c = watch("c"), d = watch("d");

	mm = mm_alloc();
	INSERT(&c, mm, 0x3000, 0x1000);
	INSERT(&a, mm, 0x1000, 0x1000);
	INSERT(&b, mm, 0x1000, 0x8000);
	INSERT(&d, mm, 0x1000, 0x800);
	a.in = is_callers_range;
	mmu_notifier_range_init_owner(&range, MMU_NOTIFY_EXCLUSIVE, 0, mm, 0x1000, 0x9000, &mm);
	range_start(&range);
	EXPECT_LOG("a.inv 3", "b.inv 3", "d.inv 3", "c.inv 3");
	ASSERT_EQ(a.seen.event, MMU_NOTIFY_EXCLUSIVE);
	ASSERT_EQ(a.seen.owner, &mm);
	ASSERT_EQ(a.seen.flags, MMU_NOTIFIER_RANGE_BLOCKABLE);
	range_end(&range);
	EXPECT_LOG();
}

TEST(RS_4_refusal_stops_the_walk)
{
	struct watch a = watch("a"), b = watch("b"), c = watch("c");
	struct listener L = listener("L", &ops_all);

	mm = mm_alloc();
	REGISTER(&L, mm);
	INSERT(&a, mm, 0x1000, 0x1000);
	INSERT(&b, mm, 0x2000, 0x1000);
	INSERT(&c, mm, 0x3000, 0x1000);
	b.refuse = true;
	range = make_range(mm, 0x1000, 0x4000);
	ASSERT_EQ(range_start_nonblock(&range), -EAGAIN);
	/* HS-1: the list is not asked, and nothing is owed. */
	EXPECT_LOG("a.inv 3", "b.inv 3");
	ASSERT_EQ(SEQ(&a), 3);
	ASSERT_EQ(SEQ(&b), 1);
	ASSERT_EQ(READ_BEGIN(&a), 3);
	ASSERT_EQ(idle_seq(mm), 4);
}

TEST(RS_5_false_blockable_warns)
{
	struct watch a = watch("a"), b = watch("b");

	mm = mm_alloc();
	INSERT(&a, mm, 0x1000, 0x1000);
	INSERT(&b, mm, 0x2000, 0x1000);
	a.refuse = true;
	range = make_range(mm, 0x1000, 0x3000);
	range_start(&range);
	EXPECT_LOG("a.inv 3", "b.inv 3");
	expect_reports("RS-5 mmu_notifier_invalidate_range_start");
	range_end(&range);
	ASSERT_EQ(idle_seq(mm), 4);
}

TEST(RS_6_and_ST_6_once_per_start_with_one_seq)
{
	struct mmu_notifier_range nested;
	struct watch a = watch("a");

	mm = mm_alloc();
	INSERT(&a, mm, 0x1000, 0x2000);
	range = make_range(mm, 0x1000, 0x2000);
	nested = make_range(mm, 0x2000, 0x3000);
	range_start(&range);
	range_start(&nested);
	EXPECT_LOG("a.inv 3", "a.inv 3");
	range_end(&range);
	range_end(&nested);
	ASSERT_EQ(idle_seq(mm), 4);
}

TEST(RS_7_deferred_inserts_are_not_called)
{
	struct mmu_notifier_range nested;
	struct watch a = watch("a"), b = watch("b");

	mm = mm_alloc();
	INSERT(&a, mm, 0x1000, 0x1000);
	range = make_range(mm, 0x1000, 0x2000);
	range_start(&range);
	INSERT(&b, mm, 0x1000, 0x1000);
	nested = make_range(mm, 0x1000, 0x2000);
	range_start(&nested);
	EXPECT_LOG("a.inv 3", "a.inv 3");
	range_end(&nested);
	range_end(&range);
	invalidate(mm, 0x1000, 0x2000);
	EXPECT_LOG("a.inv 5", "b.inv 5");
}

TEST(RS_8_deferred_removes_are_called)
{
	struct mmu_notifier_range nested;
	struct watch a = watch("a");
	struct thread *remover;

	mm = mm_alloc();
	INSERT(&a, mm, 0x1000, 0x1000);
	range = make_range(mm, 0x1000, 0x2000);
	range_start(&range);
	remover = spawn(do_remove, &a);
	wait_until_blocked(remover, MMU_NOTIFIER_WAIT_REMOVE);
	nested = make_range(mm, 0x1000, 0x2000);
	range_start(&nested);
	EXPECT_LOG("a.inv 3", "a.inv 3");
	range_end(&nested);
	ASSERT_NOT_WOKEN(remover);
	range_end(&range);
	join(remover);
	invalidate(mm, 0x1000, 0x2000);
	EXPECT_LOG();
}

static char called[16];

static void collect(struct watch *self, const struct mmu_notifier_range *seen, unsigned long seq)
{
	(void)seen;
	(void)seq;
	strcat(called, self->name);
}

TEST(RS_9_shapes)
{
	static const struct { unsigned long start, end; const char *called; } shapes[] = {
		{ 0x1000, 0x2000, "ac" }, { 0x1fff, 0x2000, "ac" }, { 0x2000, 0x2001, "cb" },
		{ 0x2000, 0x2000, "c" }, { 0x1800, 0x1800, "ac" }, { 0x3000, 0x3000, "" },
		{ 0x2000, 0x1000, "" }, { 0x2000, 0x1800, "c" }, { 0, 0, "acbt" }, { 0x3000, 0, "t" },
		{ 0, ULONG_MAX, "acb" }, { ULONG_MAX, ULONG_MAX, "" }, { ULONG_MAX, 0, "t" },
	};
	struct watch a = watch("a"), b = watch("b"), c = watch("c"), t = watch("t");

	a.in = b.in = c.in = t.in = collect;
	mm = mm_alloc();
	INSERT(&a, mm, 0x1000, 0x1000);
	INSERT(&b, mm, 0x2000, 0x1000);
	INSERT(&c, mm, 0x1000, 0x2000);
	INSERT(&t, mm, ULONG_MAX, 1);
	for (size_t n = 0; n < sizeof(shapes) / sizeof(*shapes); n++) {
		unsigned long before = idle_seq(mm);

		called[0] = 0;
		invalidate(mm, shapes[n].start, shapes[n].end);
		if (strcmp(called, shapes[n].called))
			FAIL("[%#lx,%#lx) called \"%s\", want \"%s\"", shapes[n].start, shapes[n].end, called,
			     shapes[n].called);
		ASSERT_EQ(idle_seq(mm), before + (*called ? 2 : 0));
	}
}

/* --- the list's half */

TEST(HS_1_intervals_first_HS_3_newest_first)
{
	struct listener A = listener("A", &ops_all), B = listener("B", &ops_all);
	struct watch a = watch("a");

	mm = mm_alloc();
	REGISTER(&A, mm);
	INSERT(&a, mm, 0x1000, 0x1000);
	REGISTER(&B, mm);
	range = make_range(mm, 0x1000, 0x2000);
	range_start(&range);
	EXPECT_LOG("a.inv 3", "B.start", "A.start");
	range_end(&range);
	EXPECT_LOG("B.end", "A.end");
	ASSERT_EQ(A.seen.start, 0x1000);
	ASSERT_EQ(A.seen.end, 0x2000);
	ASSERT_EQ(A.seen.event, MMU_NOTIFY_CLEAR);
}

TEST(HS_5_refusals_are_told)
{
	struct listener A = listener("A", &ops_start), B = listener("B", &ops_all);

	mm = mm_alloc();
	REGISTER(&A, mm);
	range = make_range(mm, 0x1000, 0x2000);
	A.returns = -EAGAIN;
	ASSERT_EQ(range_start_nonblock(&range), -EAGAIN);
	expect_infos("HS-5");
	ASSERT_EQ(last_report()->value, -EAGAIN);
	expect_reports();

	A.returns = -ENOMEM;			/* neither 0 nor -EAGAIN */
	ASSERT_EQ(range_start_nonblock(&range), -ENOMEM);
	expect_infos("HS-5");
	expect_reports("HS-5");

	A.returns = 0;
	REGISTER(&B, mm);
	B.returns = -EAGAIN;			/* blockable, and it has an end */
	range_start(&range);
	expect_infos("HS-5");
	expect_reports("HS-5", "HS-5");
	range_end(&range);
}

TEST(HS_6_the_last_result_counts)
{
	struct listener A = listener("A", &ops_start), B = listener("B", &ops_start), C = listener("C", &ops_start);

	mm = mm_alloc();
	REGISTER(&A, mm);
	REGISTER(&B, mm);
	REGISTER(&C, mm);
	range = make_range(mm, 0x1000, 0x2000);
	C.returns = -EAGAIN;
	B.returns = 7;
	ASSERT_EQ(range_start_nonblock(&range), 7);
	EXPECT_LOG("C.start", "B.start", "A.start");
	expect_reports("HS-5");
	A.returns = -EAGAIN;
	ASSERT_EQ(range_start_nonblock(&range), -EAGAIN);
	expect_reports("HS-5");
}

TEST(HS_7_every_end_runs)
{
	struct listener A = listener("A", &ops_all), B = listener("B", &ops_end), C = listener("C", &ops_all),
			D = listener("D", &ops_start);

	mm = mm_alloc();
	REGISTER(&A, mm);
	REGISTER(&B, mm);
	REGISTER(&C, mm);
	REGISTER(&D, mm);
	range = make_range(mm, 0x1000, 0x2000);
	A.returns = -EAGAIN;
	ASSERT_EQ(range_start_nonblock(&range), -EAGAIN);
	EXPECT_LOG("D.start", "C.start", "A.start", "C.end", "B.end", "A.end");
	expect_reports("HS-5");
}

TEST(HS_9_blockable_refusal_ends_twice)
{
	struct listener A = listener("A", &ops_end), B = listener("B", &ops_start);
	struct watch a = watch("a");

	mm = mm_alloc();
	REGISTER(&A, mm);
	REGISTER(&B, mm);
	INSERT(&a, mm, 0x1000, 0x1000);
	B.returns = -EAGAIN;
	range = make_range(mm, 0x1000, 0x2000);
	range.flags = MMU_NOTIFIER_RANGE_BLOCKABLE;
	WITH_LOCK(mm, {
		ASSERT_EQ(__mmu_notifier_invalidate_range_start(&range), -EAGAIN);
		EXPECT_LOG("a.inv 3", "B.start", "A.end");
		expect_reports("HS-5");
		mmu_notifier_invalidate_range_end(&range);
	});
	EXPECT_LOG("A.end");
	ASSERT_EQ(idle_seq(mm), 4);
}

/* HS-10 */
TEST(DV_1_nothing_leaks)
{
	struct listener A = listener("A", &ops_start), B = listener("B", &ops_all);
	struct watch a = watch("a"), b = watch("b");

	mm = mm_alloc();
	REGISTER(&A, mm);
	REGISTER(&B, mm);
	INSERT(&a, mm, 0x1000, 0x1000);
	A.returns = -EAGAIN;
	range = make_range(mm, 0x1000, 0x2000);
	ASSERT_EQ(range_start_nonblock(&range), -EAGAIN);
	EXPECT_LOG("a.inv 3", "B.start", "A.start", "B.end");
	ASSERT_EQ(READ_BEGIN(&a), 3);
	ASSERT_EQ(idle_seq(mm), 4);
	REMOVE(&a);
	/* With no interval at all, too: an insert is not taken for one inside a range. */
	ASSERT_EQ(range_start_nonblock(&range), -EAGAIN);
	INSERT(&b, mm, 0x1000, 0x1000);
	ASSERT_EQ(SEQ(&b), 3);
	ASSERT_EQ(READ_BEGIN(&b), 3);
	REMOVE(&b);
}

static void reader_is_free(struct listener *self, const char *op)
{
	if (!strcmp(op, "end"))
		ASSERT_EQ(READ_BEGIN((struct watch *)self->arg), 3);
}

TEST(DV_1_the_tree_ends_before_the_lists_ends)
{
	struct listener A = listener("A", &ops_start), B = listener("B", &ops_all);
	struct watch a = watch("a");

	mm = mm_alloc();
	REGISTER(&A, mm);
	REGISTER(&B, mm);
	INSERT(&a, mm, 0x1000, 0x1000);
	A.returns = -EAGAIN;
	B.in = reader_is_free;
	B.arg = &a;
	range = make_range(mm, 0x1000, 0x2000);
	ASSERT_EQ(range_start_nonblock(&range), -EAGAIN);
	EXPECT_LOG("a.inv 3", "B.start", "A.start", "B.end");
}

TEST(DV_1_only_its_own_count)
{
	struct listener A = listener("A", &ops_start);
	struct mmu_notifier_range refused;
	struct watch a = watch("a");
	struct thread *reader;

	mm = mm_alloc();
	REGISTER(&A, mm);
	INSERT(&a, mm, 0x1000, 0x1000);
	range = make_range(mm, 0x1000, 0x2000);
	refused = range;
	range_start(&range);
	A.returns = -EAGAIN;
	ASSERT_EQ(range_start_nonblock(&refused), -EAGAIN);
	reader = spawn(do_read_begin, &a);
	wait_until_blocked(reader, MMU_NOTIFIER_WAIT_READ_BEGIN);
	range_end(&range);
	ASSERT_EQ(join(reader), 3);
	ASSERT_EQ(idle_seq(mm), 4);
}

TEST(HS_8_no_end_is_owed)
{
	struct listener A = listener("A", &ops_start);
	struct watch a = watch("a");

	mm = mm_alloc();
	INSERT(&a, mm, 0x1000, 0x1000);
	range = make_range(mm, 0x1000, 0x2000);
	a.refuse = true;			/* by the tree */
	ASSERT_EQ(range_start_nonblock(&range), -EAGAIN);
	WITH_LOCK(mm, mmu_notifier_invalidate_range_end(&range));
	expect_reports("DV-8");
	a.refuse = false;
	REGISTER(&A, mm);
	A.returns = -EAGAIN;			/* by the list */
	ASSERT_EQ(range_start_nonblock(&range), -EAGAIN);
	WITH_LOCK(mm, mmu_notifier_invalidate_range_end(&range));
	expect_reports("DV-8");
	ASSERT_EQ(idle_seq(mm), 6);
}

static const struct mmu_notifier_ops ops_arch = { .arch_invalidate_secondary_tlbs = on_arch };

/* HS-4, YG-1 to YG-3, RL-2: an op that is NULL is skipped and changes no result. */
TEST(HS_4_ops_that_are_null_are_skipped)
{
	struct listener A = listener("A", &ops_all), N = listener("N", &ops_none), R = listener("R", &ops_arch);

	mm = mm_alloc();
	mmgrab(mm);
	REGISTER(&A, mm);
	REGISTER(&N, mm);
	REGISTER(&R, mm);
	A.returns = N.returns = R.returns = 4;
	WITH_LOCK(mm, {
		ASSERT_EQ(mmu_notifier_clear_flush_young(mm, 0, 1), 4);
		ASSERT_EQ(mmu_notifier_clear_young(mm, 0, 1), 4);
		ASSERT_EQ(mmu_notifier_test_young(mm, 0), 4);
		mmu_notifier_change_pte(mm, 0, (pte_t){ .pte = 1 });
		mmu_notifier_arch_invalidate_secondary_tlbs(mm, 0, 1);
	});
	EXPECT_LOG("A.clear_flush_young", "A.clear_young", "A.test_young", "A.change_pte", "R.arch");
	A.returns = -EAGAIN;
	range = make_range(mm, 0x1000, 0x2000);
	ASSERT_EQ(range_start_nonblock(&range), -EAGAIN);
	EXPECT_LOG("A.start", "A.end");
	expect_reports("HS-5");
	mmput(mm);
	EXPECT_LOG("A.release");
}

static void block_a_while(struct listener *self, const char *op)
{
	(void)self;
	(void)op;
	usleep(1);				/* a sleep, which a non-blockable range forbids */
}

/* HS-4's bracket has no effect outside a checking mode (DV-3). */
TEST(HS_4_a_sleep_is_not_reported)
{
	struct listener A = listener("A", &ops_all);

	mm = mm_alloc();
	REGISTER(&A, mm);
	A.in = block_a_while;
	range = make_range(mm, 0x1000, 0x2000);
	ASSERT_EQ(range_start_nonblock(&range), 0);
	range_end(&range);
	expect_reports();
}

/* HS-5: each clause of its own. */
TEST(HS_5_blockable_and_end_are_two_faults)
{
	static const char *const of_answer = "blockable", *const of_end = "although";
	struct listener A = listener("A", &ops_start), B = listener("B", &ops_all);

	mm = mm_alloc();
	REGISTER(&A, mm);
	range = make_range(mm, 0x1000, 0x2000);
	A.returns = -EAGAIN;
	range_start(&range);			/* no end op: only for the blockable range */
	expect_reports("HS-5 mmu_notifier_invalidate_range_start");
	ASSERT(strstr(last_report()->message, of_answer));
	ASSERT_STR(last_report()->callback, "invalidate_range_start");
	range_end(&range);
	A.returns = 0;
	REGISTER(&B, mm);
	B.returns = -EAGAIN;
	ASSERT_EQ(range_start_nonblock(&range), -EAGAIN);	/* an end op: only for that */
	expect_reports("HS-5");
	ASSERT(strstr(last_report()->message, of_end));
	B.returns = 3;
	ASSERT_EQ(range_start_nonblock(&range), 3);		/* both */
	expect_reports("HS-5", "HS-5");
}

/* --- ends */

TEST(RE_6_an_end_whose_start_saw_no_intervals)
{
	struct listener A = listener("A", &ops_all);
	struct watch a = watch("a");

	mm = mm_alloc();
	range = make_range(mm, 0x1000, 0x2000);
	mmu_notifier_invalidate_range_start(&range);	/* no lock: nothing keeps the insert out (RG-9) */
	INSERT(&a, mm, 0x1000, 0x1000);
	REGISTER(&A, mm);
	mmu_notifier_invalidate_range_end(&range);
	expect_reports("DV-8 mmu_notifier_invalidate_range_end");
	EXPECT_LOG("A.end");
	ASSERT_EQ(idle_seq(mm), 2);
	invalidate(mm, 0x1000, 0x2000);
	EXPECT_LOG("a.inv 3", "A.start", "A.end");
}

TEST(RE_1_intervals_are_let_go_first)
{
	struct listener A = listener("A", &ops_all), B = listener("B", &ops_all);
	struct watch a = watch("a");

	mm = mm_alloc();
	REGISTER(&A, mm);
	REGISTER(&B, mm);
	INSERT(&a, mm, 0x1000, 0x1000);
	B.in = reader_is_free;
	B.arg = &a;
	invalidate(mm, 0x1000, 0x2000);
	EXPECT_LOG("a.inv 3", "B.start", "A.start", "B.end", "A.end");
}

TEST(RE_2_only_the_last_end_wakes)
{
	struct mmu_notifier_range second;
	struct watch a = watch("a");
	struct thread *reader;

	mm = mm_alloc();
	INSERT(&a, mm, 0x1000, 0x1000);
	range = make_range(mm, 0x1000, 0x2000);
	second = make_range(mm, 0x8000, 0x9000);	/* touches nothing, yet holds the period open */
	range_start(&range);
	range_start(&second);
	reader = spawn(do_read_begin, &a);
	wait_until_blocked(reader, MMU_NOTIFIER_WAIT_READ_BEGIN);
	range_end(&range);
	ASSERT_NOT_WOKEN(reader);
	ASSERT_NOT_DONE(reader);
	range_end(&second);
	ASSERT_EQ(join(reader), 3);
}

TEST(ST_5_seq_moves_by_two_per_busy_period_with_an_overlap)
{
	struct watch a = watch("a");

	mm = mm_alloc();
	INSERT(&a, mm, 0x1000, 0x1000);
	invalidate(mm, 0x8000, 0x9000);
	ASSERT_EQ(idle_seq(mm), 2);
	invalidate(mm, 0x1000, 0x2000);
	ASSERT_EQ(idle_seq(mm), 4);
	range = make_range(mm, 0x8000, 0x9000);
	range_start(&range);
	invalidate(mm, 0x1000, 0x2000);
	invalidate(mm, 0x1000, 0x2000);
	range_end(&range);
	EXPECT_LOG("a.inv 3", "a.inv 5", "a.inv 5");
	ASSERT_EQ(idle_seq(mm), 6);
}

TEST(RE_5_an_end_ignores_its_bounds)
{
	struct watch a = watch("a");

	mm = mm_alloc();
	INSERT(&a, mm, 0x1000, 0x1000);
	range = make_range(mm, 0x1000, 0x2000);
	range_start(&range);
	range.start = 0x8000;
	range.end = 0x9000;
	range_end(&range);
	ASSERT_EQ(READ_BEGIN(&a), 3);
	ASSERT_EQ(idle_seq(mm), 4);
}

TEST(DV_8_unpaired_end)
{
	struct listener A = listener("A", &ops_all);
	struct watch a = watch("a");

	mm = mm_alloc();
	REGISTER(&A, mm);
	INSERT(&a, mm, 0x1000, 0x1000);
	range = make_range(mm, 0x1000, 0x2000);
	WITH_LOCK(mm, mmu_notifier_invalidate_range_end(&range));
	EXPECT_LOG("A.end");
	expect_reports("DV-8 mmu_notifier_invalidate_range_end");
	ASSERT_EQ(idle_seq(mm), 2);
	invalidate(mm, 0x1000, 0x2000);
	EXPECT_LOG("a.inv 3", "A.start", "A.end");
	ASSERT_EQ(idle_seq(mm), 4);
}

static void end_too_many(struct listener *self, const char *op)
{
	struct mmu_notifier_range copy = self->seen;

	(void)op;
	mmu_notifier_invalidate_range_end(&copy);
}

/* Somebody's end too many is reported, and does not replace the result of a start, nor its ends (HS-7). */
TEST(DV_8_an_end_too_many_does_not_change_a_refusal)
{
	struct listener A = listener("A", &ops_end), B = listener("B", &ops_start);
	struct watch w = watch("w");

	mm = mm_alloc();
	B.in = end_too_many;
	B.returns = -EAGAIN;
	REGISTER(&A, mm);
	REGISTER(&B, mm);
	INSERT(&w, mm, 0x1000, 0x1000);
	range = make_range(mm, 0, 0x1000);
	ASSERT_EQ(range_start_nonblock(&range), -EAGAIN);
	EXPECT_LOG("B.start", "A.end", "A.end");
	expect_reports("DV-8");
}

TEST(RE_7_flags_at_the_end)
{
	struct listener A = listener("A", &ops_end);

	mm = mm_alloc();
	range = make_range(mm, 0x1000, 0x2000);
	mmu_notifier_invalidate_range_start(&range);	/* nobody listens yet: the flag is not set */
	REGISTER(&A, mm);
	WITH_LOCK(mm, mmu_notifier_invalidate_range_end(&range));
	EXPECT_LOG("A.end");
	ASSERT_EQ(A.seen.flags, 0);
}
