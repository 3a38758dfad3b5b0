/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Every allocation of every call is refused in turn: the call fails as the contract lets it (RG-3, II-2, GP-3, ML-1), nothing
 * is half done, nothing leaks, and the same call succeeds afterwards. What cannot fail does not allocate, or does without.
 */
#include "inject.h"

#include <linux/rcupdate.h>
#include <linux/srcu.h>

static struct mm_struct *mm;
static struct listener A, B;
static struct watch w, v;
static struct mmu_notifier_range busy;
static struct mmu_notifier *got;
static int counted, had_notifiers;

/* ------------------------------------------------- calls that can fail: one allocation after the other */

struct call {
	void (*set_up)(void);
	long (*make)(void);		/* 0, or what went wrong */
	void (*check)(void);		/* after a failure, besides the counts */
	void (*undo)(void);		/* after success */
	int least;			/* allocations that it is known to make */
};

static void check_counts(void)
{
	if (!mm)
		return;
	ASSERT_EQ(mm_count(mm), counted);
	ASSERT_EQ(mm_users(mm), 1);
	ASSERT(mmap_write_trylock(mm));			/* whichever lock it took was released */
	mmap_write_unlock(mm);
	mmu_notifier_rmap_write_lock(mm);
	mmu_notifier_rmap_write_unlock(mm);
}

static void fail_once(const struct call *call, int from, int to, bool *refused)
{
	long live, result;

	live = LOAD(inject_live);
	call->set_up();
	counted = mm ? mm_count(mm) : 0;
	had_notifiers = mm ? mm_has_notifiers(mm) : 0;
	arm(from, to);
	result = call->make();
	disarm();
	*refused = inject.refused > 0;
	if (*refused) {
		ASSERT_EQ(result, -ENOMEM);
		if (call->check)
			call->check();
		check_counts();
		ASSERT_EQ(call->make(), 0);
	} else {
		ASSERT_EQ(result, 0);
	}
	call->undo();
	mmu_notifier_synchronize();
	STORE(test_log_end, 0);
	if (LOAD(inject_live) != live)
		FAIL("%ld blocks leaked, allocations %d to %d refused", LOAD(inject_live) - live, from, to);
}

/* Each allocation alone, and each with all that follow it. */
static void fail_everywhere(const struct call *call)
{
	bool refused = true;
	int n;

	for (n = 1; refused; n++) {
		ASSERT(n < 100);
		fail_once(call, n, n, &refused);
		fail_once(call, n, INT_MAX, &refused);
	}
	if (n - 2 < call->least)
		FAIL("%d allocations, want at least %d", n - 2, call->least);
}

static void no_mm(void) { mm = NULL; }
static long make_mm(void) { mm = mm_alloc(); return mm ? 0 : -ENOMEM; }
static void put_mm(void) { mmput(mm); }

TEST(ML_1_mm_alloc)
{
	/* `check_counts` looks at no mm: there is none. */
	static const struct call call = { no_mm, make_mm, NULL, put_mm, 1 };

	fail_everywhere(&call);
	mm = mm_alloc();
	invalidate(mm, 0, 0x1000);
	IN_CHILD(ASSERT_EQ(mm_users(mm), 1));		/* the registry that fork walks is whole */
	mmput(mm);
}

static void fresh_mm(void)
{
	mm = mm_alloc();
	A = listener("A", &ops_kept);
	B = listener("B", &ops_kept);
	w = watch("w");
	v = watch("v");
}

static void expect_untouched_listener(void)
{
	ASSERT_POISON(&A.mn.mm);
	ASSERT_POISON(&A.mn.hlist);
	ASSERT_POISON(&A.mn.rcu);
	ASSERT_POISON(&A.mn.users);
	ASSERT_EQ(mm_has_notifiers(mm), had_notifiers);
	invalidate(mm, 0, 0x1000);
	EXPECT_LOG();
}

static long register_A(void) { return mmu_notifier_register(&A.mn, mm); }
static long register_A_locked(void)
{
	long result;

	mmap_write_lock(mm);
	result = __mmu_notifier_register(&A.mn, mm);
	mmap_write_unlock(mm);
	return result;
}

static void unregister_A(void)
{
	ASSERT_EQ(A.mn.users, 1);
	invalidate(mm, 0, 0x1000);
	EXPECT_LOG("A.start", "A.end");
	UNREGISTER(&A);
	ASSERT_EQ(mm_count(mm), counted);
	mmput(mm);
}

TEST(RG_3_register)
{
	static const struct call call = { fresh_mm, register_A, expect_untouched_listener, unregister_A, 1 };

	fail_everywhere(&call);
}

TEST(RG_3_register_locked)
{
	static const struct call call = { fresh_mm, register_A_locked, expect_untouched_listener, unregister_A, 1 };

	fail_everywhere(&call);
}

/* Of a get: what alloc_notifier made is given back on the spot (GP-3), whose own failure is handed on. */
static int allocs, frees;
static struct listener made;
static struct mmu_notifier *alloc_made(struct mm_struct *of)
{
	void *memory = malloc(1);

	(void)of;
	if (!memory)
		return ERR_PTR(-ENOMEM);
	free(memory);
	allocs++;
	made = listener("made", NULL);
	return &made.mn;
}

static void free_made(struct mmu_notifier *mn)
{
	ASSERT_EQ(mn, &made.mn);
	frees++;
}

static const struct mmu_notifier_ops ops_made = { .invalidate_range_start = on_start, .alloc_notifier = alloc_made,
						  .free_notifier = free_made };

static void fresh_mm_for_get(void) { fresh_mm(); allocs = frees = 0; }
static long get_made(void)
{
	got = mmu_notifier_get(&ops_made, mm);
	return IS_ERR(got) ? PTR_ERR(got) : 0;
}

static void expect_freed(void)
{
	ASSERT_EQ(frees, allocs);			/* synchronously: nobody has synchronized */
	allocs = frees = 0;
	ASSERT_EQ(mm_has_notifiers(mm), had_notifiers);
	invalidate(mm, 0, 0x1000);
	EXPECT_LOG();
}

static void put_got(void)
{
	ASSERT_EQ(got->users, 1);
	invalidate(mm, 0, 0x1000);
	EXPECT_LOG("made.start");
	mmu_notifier_put(got);
	mmu_notifier_synchronize();
	ASSERT_EQ(frees, 1);
	ASSERT_EQ(mm_count(mm), counted);
	mmput(mm);
}

TEST(GP_3_get)
{
	static const struct call call = { fresh_mm_for_get, get_made, expect_freed, put_got, 2 };

	mmu_notifier_synchronize();
	fresh_mm_for_get();			/* starts the worker: its stack is no leak */
	counted = 1;
	ASSERT_EQ(get_made(), 0);
	put_got();
	fail_everywhere(&call);
}

static long insert_w(void) { return mmu_interval_notifier_insert(&w.sub, mm, 0x1000, 0x1000, &watch_ops); }
static long insert_w_locked(void)
{
	long result;

	mmap_write_lock(mm);
	result = mmu_interval_notifier_insert_locked(&w.sub, mm, 0x1000, 0x1000, &watch_ops);
	mmap_write_unlock(mm);
	return result;
}

/* II-2: untouched. S may be there (II-3), and calls nobody. */
static void expect_untouched_watch(void)
{
	ASSERT_POISON(&w.sub);
	STORE(test_log_end, 0);
	invalidate(mm, 0x1000, 0x2000);
	ASSERT(!logged("w.inv 3"));
}

static void remove_w(void)
{
	STORE(test_log_end, 0);
	invalidate(mm, 0x1000, 0x2000);
	ASSERT_EQ(strncmp(test_log[0], "w.inv", 5), 0);
	ASSERT_EQ(LOAD(test_log_end), 1);
	ASSERT_EQ(READ_BEGIN(&w), w.sub.invalidate_seq);
	REMOVE(&w);
	ASSERT_EQ(mm_count(mm), counted);
	mmput(mm);
}

TEST(II_2_insert_into_a_fresh_mm)
{
	static const struct call call = { fresh_mm, insert_w, expect_untouched_watch, remove_w, 1 };

	fail_everywhere(&call);
}

TEST(II_2_insert_locked_into_a_fresh_mm)
{
	static const struct call call = { fresh_mm, insert_w_locked, expect_untouched_watch, remove_w, 1 };

	fail_everywhere(&call);
}

static void mm_with_an_itree(void)
{
	fresh_mm();
	INSERT(&v, mm, 0x8000, 0x1000);
	REMOVE(&v);
}

TEST(II_2_insert_into_an_mm_with_intervals)
{
	static const struct call call = { mm_with_an_itree, insert_w, expect_untouched_watch, remove_w, 0 };

	fail_everywhere(&call);
}

/* In the middle of a busy period: what is refused is not on the deferred list. */
static void busy_mm(void)
{
	fresh_mm();
	INSERT(&v, mm, 0x8000, 0x1000);
	busy = make_range(mm, 0x8000, 0x9000);
	mmap_read_lock(mm);
	mmu_notifier_invalidate_range_start(&busy);
	mmap_read_unlock(mm);		/* so that check_counts() can look: nobody registers meanwhile */
}

static void expect_poison(void) { ASSERT_POISON(&w.sub); }

static void end_and_remove(void)
{
	mmu_notifier_invalidate_range_end(&busy);
	REMOVE(&v);
	counted--;
	remove_w();
}

TEST(II_2_a_deferred_insert)
{
	static const struct call call = { busy_mm, insert_w, expect_poison, end_and_remove, 0 };

	fail_everywhere(&call);
}

/* ------------------------------------------------------------------------------------------- many */

enum { MANY = 3000 };
static struct mmu_interval_notifier many[MANY];
static int called;

static bool count_call(struct mmu_interval_notifier *sub, const struct mmu_notifier_range *range, unsigned long seq)
{
	(void)range;
	mmu_interval_set_seq(sub, seq);
	called++;
	return true;
}

static const struct mmu_interval_notifier_ops count_ops = { .invalidate = count_call };

/* Each insert is first tried without memory; the inner structures grow many times, and removals free with none left. */
static void insert_many(bool deferred)
{
	long live = LOAD(inject_live);
	int refused = 0, result;

	fresh_mm();
	INSERT(&v, mm, 0x8000, 0x1000);
	busy = make_range(mm, 0x8000, 0x9000);
	if (deferred)
		mmu_notifier_invalidate_range_start(&busy);
	for (int n = 0; n < MANY; n++) {
		POISON(&many[n]);
		arm(1, INT_MAX);
		result = mmu_interval_notifier_insert(&many[n], mm, 0x100000 + 0x1000UL * n, 0x1000, &count_ops);
		disarm();
		if (!inject.refused) {
			ASSERT_EQ(result, 0);
			continue;
		}
		refused++;
		ASSERT_EQ(result, -ENOMEM);
		ASSERT_POISON(&many[n]);
		ASSERT_EQ(mmu_interval_notifier_insert(&many[n], mm, 0x100000 + 0x1000UL * n, 0x1000, &count_ops), 0);
	}
	if (deferred)
		mmu_notifier_invalidate_range_end(&busy);
	STORE(test_log_end, 0);
	called = 0;
	invalidate(mm, 0, ULONG_MAX);
	ASSERT_EQ(called, MANY);
	ASSERT_EQ(mm_count(mm), MANY + 2);
	for (int n = 0; n < MANY; n++) {
		arm(1, INT_MAX);
		mmu_interval_notifier_remove(&many[(n * 7UL) % MANY]);
		disarm();
	}
	REMOVE(&v);
	ASSERT_EQ(mm_count(mm), 1);
	mmput(mm);
	ASSERT_EQ(LOAD(inject_live), live);
	printf("%d of %d inserts were refused memory\n", refused, MANY);
}

TEST(II_2_many_inserts) { insert_many(false); }
TEST(II_2_many_deferred_inserts) { insert_many(true); }

/* ------------------------------------------------------------- calls that cannot fail, and get nothing */

TEST(current_and_kthread_use_mm_allocate_nothing)
{
	mm = mm_alloc();
	NO_ALLOCATION(ASSERT_EQ(mm_users(current->mm), 1));
	NO_ALLOCATION(kthread_use_mm(mm));
	ASSERT_EQ(current->mm, mm);
	NO_ALLOCATION(kthread_unuse_mm(mm));
	NO_ALLOCATION(mmput(get_task_mm(current)));
	mmput(mm);
}

static void *first_use(void *unused)
{
	struct mmu_notifier_range range = make_range(mm, 0, 0x1000);

	NO_ALLOCATION(
		ASSERT(current->mm != NULL);
		mmap_read_lock(mm);
		mmu_notifier_invalidate_range_start(&range);
		mmu_notifier_invalidate_range_end(&range);
		mmap_read_unlock(mm);
		rcu_read_lock();
		rcu_read_unlock();
		mmu_notifier_synchronize());
	return unused;
}

TEST(a_threads_first_use_allocates_nothing)
{
	fresh_mm();
	REGISTER(&A, mm);
	join(spawn(first_use, NULL));
	UNREGISTER(&A);
	mmput(mm);
}

TEST(events_need_no_memory)
{
	struct mmu_notifier_range range;

	fresh_mm();
	REGISTER(&A, mm);
	INSERT(&w, mm, 0x1000, 0x1000);
	range = make_range(mm, 0x1000, 0x2000);
	NO_ALLOCATION(
		mmu_notifier_invalidate_range_start(&range);
		mmu_notifier_invalidate_range_end(&range);
		ASSERT_EQ(mmu_notifier_invalidate_range_start_nonblock(&range), 0);
		mmu_notifier_invalidate_range_end(&range);
		mmu_notifier_test_young(mm, 0);
		ASSERT_EQ(READ_BEGIN(&w), SEQ(&w)));
	EXPECT_LOG("w.inv 3", "A.start", "A.end", "w.inv 5", "A.start", "A.end", "A.test_young");
	arm(1, INT_MAX);
	REMOVE(&w);
	UNREGISTER(&A);
	mmput(mm);
	disarm();
	ASSERT_EQ(inject.count, 0);
}

/* Reports, too: a BUG is the report's abort, not one of an allocator. */
TEST(DV_3_reports_need_no_memory)
{
	fresh_mm();
	EXPECT_BUG_IN("DV-14", "mmu_notifier_put", "", arm(1, INT_MAX); mmu_notifier_put(NULL));
	EXPECT_BUG_IN("RG-1", "mmu_notifier_register", "",
		      mmgrab(mm); mmput(mm); arm(1, INT_MAX); mmu_notifier_register(&A.mn, mm));
	mmu_notifier_set_report_handler(NULL, NULL);
	w.sub.mm = mm;
	NO_ALLOCATION(REMOVE(&w));
	ASSERT_EQ(mmu_notifier_report_count(MMU_NOTIFIER_REPORT_WARN), 1);
	mmput(mm);
}

static void *no_fork_handler_allocates(void *unused)
{
	int status;
	pid_t pid;

	arm(1, INT_MAX);
	pid = fork();
	if (pid == 0)
		_exit(inject.count || inject.frees || mm_has_notifiers(current->mm));
	disarm();
	ASSERT(pid > 0);
	ASSERT_EQ(inject.count, 0);
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	ASSERT_EQ(status, 0);
	return unused;
}

TEST(DV_13_fork_handlers_allocate_nothing)
{
	fresh_mm();
	REGISTER(&A, current->mm);
	REGISTER(&B, mm);
	INSERT(&w, current->mm, 0x1000, 0x1000);
	INSERT(&v, mm, 0x1000, 0x1000);
	busy = make_range(mm, 0x1000, 0x2000);
	mmu_notifier_invalidate_range_start(&busy);	/* in the child it is over, and applies what was deferred */
	many[0] = w.sub;
	ASSERT_EQ(mmu_interval_notifier_insert(&many[0], mm, 0x5000, 0x1000, &count_ops), 0);
	join(spawn(no_fork_handler_allocates, NULL));
	mmu_notifier_invalidate_range_end(&busy);
	mmu_interval_notifier_remove(&many[0]);
	REMOVE(&v);
	REMOVE(&w);
	UNREGISTER(&A);
	UNREGISTER(&B);
	mmput(mm);
}

/* ---------------------------------------------------------------------------------- no thread to be had */

/* A put cannot fail. Whoever synchronizes does what is owed. */
TEST(GP_7_no_worker_and_no_memory)
{
	fresh_mm();
	REGISTER(&A, mm);
	REGISTER(&B, mm);
	STORE(inject_no_threads, 1);
	NO_ALLOCATION(mmu_notifier_put(&A.mn));
	NO_ALLOCATION(mmu_notifier_put(&B.mn));
	EXPECT_LOG();
	ASSERT_EQ(mm_count(mm), 3);
	NO_ALLOCATION(mmu_notifier_synchronize());
	EXPECT_LOG("A.free", "B.free");
	ASSERT_EQ(mm_count(mm), 1);
	mmput(mm);
}

/* The next thing that is owed tries again, and its worker runs what was left. */
TEST(GP_7_the_worker_comes_later)
{
	fresh_mm();
	REGISTER(&A, mm);
	REGISTER(&B, mm);
	STORE(inject_no_threads, 1);
	mmu_notifier_put(&A.mn);
	STORE(inject_no_threads, 0);
	mmu_notifier_put(&B.mn);
	WAIT_FOR(LOAD(test_frees) == 2);
	mmu_notifier_synchronize();
	EXPECT_LOG("A.free", "B.free");
	mmput(mm);
}

static struct gate serving;
static void stand_in_free(struct mmu_notifier *mn)
{
	gate_pass(&serving);
	on_free_kept(mn);
}

static const struct mmu_notifier_ops ops_standing = { .free_notifier = stand_in_free };

/* What is put while somebody else serves is not left lying when they are done: a thread can be had by then. */
TEST(GP_7_put_while_another_serves)
{
	struct thread *server;

	fresh_mm();
	A = listener("A", &ops_standing);
	REGISTER(&A, mm);
	REGISTER(&B, mm);
	STORE(inject_no_threads, 1);
	mmu_notifier_put(&A.mn);
	STORE(inject_no_threads, 0);
	server = spawn(do_synchronize, NULL);
	gate_wait(&serving);
	mmu_notifier_put(&B.mn);
	gate_open(&serving);
	join(server);
	WAIT_FOR(LOAD(test_frees) == 2);
	mmput(mm);
}

static struct srcu_struct domain;
static struct rcu_head heads[3];
static void head_called(struct rcu_head *head) { note("head %ld", (long)(head - heads)); changed(); }

TEST(call_srcu_without_a_worker)
{
	ASSERT_EQ(init_srcu_struct(&domain), 0);
	STORE(inject_no_threads, 1);
	for (int n = 0; n < 3; n++)
		NO_ALLOCATION(call_srcu(&domain, &heads[n], head_called));
	EXPECT_LOG();
	NO_ALLOCATION(srcu_barrier(&domain));
	EXPECT_LOG("head 0", "head 1", "head 2");
	cleanup_srcu_struct(&domain);
}

static void *do_barrier(void *arg) { srcu_barrier(&domain); return arg; }

/* Whoever serves sleeps in the worker's place, and is woken like it. */
TEST(srcu_barrier_serves_while_a_reader_is_inside)
{
	struct thread *server;
	int index;

	ASSERT_EQ(init_srcu_struct(&domain), 0);
	STORE(inject_no_threads, 1);
	index = srcu_read_lock(&domain);
	call_srcu(&domain, &heads[0], head_called);
	STORE(inject_no_threads, 0);
	server = spawn(do_barrier, NULL);
	wait_until_blocked(server, MMU_NOTIFIER_WAIT_IDLE);
	STORE(inject_no_threads, 1);
	EXPECT_LOG();
	NO_ALLOCATION(srcu_read_unlock(&domain, index));
	join(server);
	EXPECT_LOG("head 0");
	cleanup_srcu_struct(&domain);
}

/* One who serves leaves when they have what they waited for; the next one takes over. */
TEST(GP_7_those_who_wait_serve_in_turn)
{
	struct thread *first, *second;

	fresh_mm();
	A = listener("A", &ops_standing);
	REGISTER(&A, mm);
	REGISTER(&B, mm);
	STORE(inject_no_threads, 1);
	mmu_notifier_put(&A.mn);
	STORE(inject_no_threads, 0);
	first = spawn(do_synchronize, NULL);
	gate_wait(&serving);
	mmu_notifier_put(&B.mn);
	second = spawn(do_synchronize, NULL);
	wait_until_blocked(second, MMU_NOTIFIER_WAIT_FREE);
	STORE(inject_no_threads, 1);
	gate_open(&serving);
	join(first);
	join(second);
	EXPECT_LOG("A.free", "B.free");
	mmput(mm);
}

/* DV-5 speaks of free_notifier only, but whoever serves leaves nothing behind that nobody else would do. */
TEST(synchronize_serves_what_has_no_worker)
{
	ASSERT_EQ(init_srcu_struct(&domain), 0);
	STORE(inject_no_threads, 1);
	call_srcu(&domain, &heads[0], head_called);
	mmu_notifier_synchronize();
	EXPECT_LOG("head 0");
	cleanup_srcu_struct(&domain);
}

static void put_async(struct listener *self, const char *op) { (void)op; mmput_async(self->arg); }

TEST(ML_2_mmput_async_without_a_worker)
{
	struct mm_struct *other = mm_alloc();

	fresh_mm();
	mmgrab(other);
	A.in = put_async;
	A.arg = other;
	REGISTER(&A, mm);
	REGISTER(&B, other);
	STORE(inject_no_threads, 1);
	NO_ALLOCATION(mmu_notifier_test_young(mm, 0));
	A.in = NULL;
	mmu_notifier_synchronize();
	EXPECT_LOG("A.test_young", "B.release");
	UNREGISTER(&B);
	UNREGISTER(&A);
	ASSERT_EQ(mm_count(other), 1);
	mmdrop(other);
	mmput(mm);
}

/* Somebody who came while a thread was being made is woken when it could not be made. */
static struct thread *waiter;
static void let_somebody_wait(void)
{
	waiter = spawn(do_synchronize, NULL);
	wait_until_blocked(waiter, MMU_NOTIFIER_WAIT_FREE);
}

static void refuse_with_a_waiter(void)
{
	inject_at_create = NULL;
	STORE(inject_no_threads, 0);
	let_somebody_wait();
	STORE(inject_no_threads, 1);
}

TEST(GP_7_a_waiter_takes_over_when_no_thread_can_be_made)
{
	fresh_mm();
	REGISTER(&A, mm);
	inject_at_create = refuse_with_a_waiter;
	STORE(inject_no_threads, 1);
	mmu_notifier_put(&A.mn);
	join(waiter);
	EXPECT_LOG("A.free");
	mmput(mm);
}

/* kfree_rcu() has a place for one address only: without memory the object is leaked, and said to be. */
static void must_not_run(void *object) { FAIL("%p was freed", object); }

TEST(kfree_rcu_without_memory_is_a_warning)
{
	arm(1, INT_MAX);
	mmu_notifier_free_rcu(&domain, must_not_run);
	disarm();
	ASSERT_EQ(inject.refused, 1);
	ASSERT_EQ(mmu_notifier_report_count(MMU_NOTIFIER_REPORT_WARN), 1);
	test_reports_seen = LOAD(test_reports_end);
	synchronize_rcu();
}
