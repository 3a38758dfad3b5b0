/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Ranges with two stages (<mmu_notifier/stage.h>): the invalidate stage in the thread that changes, the release stage on a
 * thread of the library, and who waits for whom. */
#include "test.h"
#include <mmu_notifier/live.h>
#include <mmu_notifier/stage.h>

enum { LONG = 20000, SHORT = 50 };	/* milliseconds: longer than a case may take; soon over */

/* A range whose stages log "NAME.invalidate", "NAME.release", "NAME.done". */
struct region {
	struct mmu_notifier_live_range range;
	const char *name;
	bool refuse, quiet;
	void (*in_invalidate)(struct region *self, const struct mmu_notifier_range *event);
	void (*in_release)(struct region *self);
	void (*in_done)(struct region *self);
	struct region *other;
	struct gate gate;
	pid_t thread;
	int invalidated, released, done;
};

static struct mm_struct *mm;
static struct region a, b;

static void called(struct region *self, const char *stage, int *count)
{
	if (!self->quiet)
		note("%s.%s", self->name, stage);
	STORE(*count, *count + 1);
}

static bool on_range_invalidate(struct mmu_notifier_live_range *range, const struct mmu_notifier_range *event,
				unsigned long seq)
{
	struct region *self = container_of(range, struct region, range);

	called(self, "invalidate", &self->invalidated);
	if (self->in_invalidate)
		self->in_invalidate(self, event);
	if (!self->refuse)
		mmu_interval_set_seq(&range->interval, seq);
	return !self->refuse;
}

static void on_range_release(struct mmu_notifier_live_range *range)
{
	struct region *self = container_of(range, struct region, range);

	self->thread = gettid();
	if (self->in_release)
		self->in_release(self);
	called(self, "release", &self->released);
}

static void on_range_done(struct mmu_notifier_live_range *range)
{
	struct region *self = container_of(range, struct region, range);

	if (self->in_done)
		self->in_done(self);
	called(self, "done", &self->done);
}

static const struct mmu_notifier_live_range_ops ops = {
	.invalidate = on_range_invalidate, .release = on_range_release, .done = on_range_done,
};

/* All of the range is 0x5a: insert must not read it. */
static struct region region(const char *name)
{
	struct region self = { .name = name };

	POISON(&self.range);
	return self;
}

static int insert(struct region *self, unsigned long start, unsigned long length, unsigned int timeout_ms)
{
	return mmu_notifier_live_range_insert(&self->range, mm, start, length, &ops, timeout_ms);
}

static bool remove_region(struct region *self)
{
	return mmu_notifier_live_range_remove(&self->range);
}

static void *do_remove_region(void *self) { return (void *)(long)remove_region(self); }

static unsigned long timeouts(void)
{
	struct mmu_notifier_live_status status = { .size = sizeof(status) };

	ASSERT_EQ(mmu_notifier_live_status(&status), 0);
	return status.release_timeouts;
}

/* Two ranges, of one page each, in an address space without memory. */
static void set_up(unsigned int timeout_ms)
{
	mm = mm_alloc();
	a = region("a");
	b = region("b");
	ASSERT_EQ(insert(&a, 0x1000, 0x1000, timeout_ms), 0);
	ASSERT_EQ(insert(&b, 0x2000, 0x1000, timeout_ms), 0);
}

static void wait_done(struct region *self) { WAIT_FOR(LOAD(self->done)); }
static void stand_at_own_gate(struct region *self) { gate_pass(&self->gate); }

static void *do_invalidate_a(void *unused)
{
	invalidate(mm, 0x1000, 0x2000);
	return unused;
}

/* -------------------------------------------------------------------------------------------------- the blocking release */

static unsigned char *page, *device;

static void stop_device(struct region *self, const struct mmu_notifier_range *event)
{
	ASSERT_EQ(event->event, MMU_NOTIFY_UNMAP);
	ASSERT(event->start <= (unsigned long)page && (unsigned long)page < event->end);
	ASSERT_EQ(self->range.interval.mm, current->mm);
}

/* Slow, allocates, and uses the memory, which has to be there still. */
static void deregister(struct region *self)
{
	void *memory = malloc(1 << 20);
	sigset_t blocked;

	(void)self;
	pthread_sigmask(SIG_BLOCK, NULL, &blocked);
	for (int signal = 1; signal < 32; signal++)
		ASSERT(sigismember(&blocked, signal) || signal == SIGKILL || signal == SIGSTOP);
	usleep(20000);
	ASSERT_EQ(*page, 0x77);
	free(memory);
	STORE(device, NULL);
}

TEST(stage_the_device_mapping_is_gone_when_munmap_returns)
{
	mm = current->mm;
	page = mmap(NULL, 0x1000, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	*page = 0x77;
	device = page;
	a = region("a");
	a.in_invalidate = stop_device;
	a.in_release = deregister;
	ASSERT_EQ(insert(&a, (unsigned long)page, 0x1000, LONG), 0);
	ASSERT_EQ(vm_munmap((unsigned long)page, 0x1000), 0);
	ASSERT_EQ((long)LOAD(device), 0);
	ASSERT_EQ(LOAD(a.released), 1);
	ASSERT_NE(a.thread, gettid());
	wait_done(&a);
	EXPECT_LOG("a.invalidate", "a.release", "a.done");
	ASSERT_EQ(timeouts(), 0);
	ASSERT_EQ(mmu_notifier_live_epoch(), 0);
}

static void *new_page(void)
{
	unsigned char *fresh = mmap(NULL, 0x1000, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	ASSERT_NE(fresh, MAP_FAILED);
	*fresh = 0x77;
	return fresh;
}

static void enable_live(void)
{
	int result = mmu_notifier_live_enable();

	if (result == -ENOTSUP)
		SKIP("no live events on this machine");
	ASSERT_EQ(result, 0);
	mm = current->mm;
}

/* The same with a plain munmap(). */
TEST(stage_live_the_device_mapping_is_gone_when_munmap_returns)
{
	enable_live();
	device = page = new_page();
	a = region("a");
	a.in_invalidate = stop_device;
	a.in_release = deregister;
	ASSERT_EQ(insert(&a, (unsigned long)page, 0x1000, LONG), 0);
	ASSERT_EQ(munmap(page, 0x1000), 0);
	ASSERT_EQ((long)LOAD(device), 0);
	ASSERT_EQ(LOAD(a.released), 1);
	ASSERT_NE(a.thread, gettid());
	wait_done(&a);
	ASSERT_EQ(mmu_notifier_live_epoch(), 0);
	ASSERT_EQ(mmu_notifier_live_disable(), 0);
}

static void unmap_other(struct region *self)
{
	ASSERT_EQ(munmap((void *)self->other->range.interval.interval_tree.start, 0x1000), 0);
}

/* With the flag there is a net, or a reason why there is none (c-tests/live/net.c has the net itself). */
TEST(stage_live_a_net_that_is_not_there_is_said)
{
	struct mmu_notifier_live_status status = { .size = sizeof(status) };
	int result = mmu_notifier_live_enable_with(MMU_NOTIFIER_LIVE_NET);

	if (result == -ENOTSUP)
		SKIP("no live events on this machine");
	ASSERT_EQ(result, 0);
	ASSERT_EQ(mmu_notifier_live_status(&status), 0);
	ASSERT(status.enabled);
	ASSERT_EQ(!(status.mechanisms & MMU_NOTIFIER_LIVE_BY_NET), strstr(status.reason, "no net: ") != NULL);
	ASSERT_EQ(mmu_notifier_live_disable(), 0);
}

/* A release that unmaps what another range watches: an event like any other, but for the wait. */
TEST(stage_live_a_release_unmaps)
{
	enable_live();
	a = region("a");
	b = region("b");
	a.other = &b;
	a.in_release = unmap_other;
	page = new_page();
	ASSERT_EQ(insert(&a, (unsigned long)page, 0x1000, LONG), 0);
	ASSERT_EQ(insert(&b, (unsigned long)new_page(), 0x1000, LONG), 0);
	ASSERT_EQ(munmap(page, 0x1000), 0);
	ASSERT_EQ(LOAD(a.released), 1);
	wait_done(&a);
	wait_done(&b);
	ASSERT_EQ(b.released, 1);
	ASSERT_EQ(timeouts(), 1);
	ASSERT_EQ(mmu_notifier_live_disable(), 0);
}

TEST(stage_without_a_timeout_nobody_waits)
{
	set_up(0);
	a.in_release = stand_at_own_gate;
	invalidate(mm, 0x1000, 0x2000);
	ASSERT_EQ(LOAD(a.released), 0);
	gate_wait(&a.gate);
	gate_open(&a.gate);
	wait_done(&a);
	EXPECT_LOG("a.invalidate", "a.release", "a.done");
	ASSERT_EQ(mmu_notifier_live_epoch(), 0);
	ASSERT(remove_region(&b));
	mmput(mm);
}

TEST(stage_a_timeout_lets_the_change_go_on_and_raises_the_epoch)
{
	set_up(SHORT);
	a.in_release = stand_at_own_gate;
	invalidate(mm, 0x1000, 0x2000);
	ASSERT_EQ(LOAD(a.released), 0);
	ASSERT_EQ(timeouts(), 1);
	ASSERT_EQ(mmu_notifier_live_epoch(), 1);
	gate_wait(&a.gate);
	gate_open(&a.gate);
	wait_done(&a);
	EXPECT_LOG("a.invalidate", "a.release", "a.done");
	ASSERT(remove_region(&b));
	mmput(mm);
}

/* Every notifier is told before anything is waited for. */
static void b_was_told(struct region *self) { WAIT_FOR(LOAD(self->other->invalidated)); }

TEST(stage_all_ranges_are_told_before_the_event_waits)
{
	set_up(LONG);
	a.other = &b;
	a.in_release = b_was_told;
	invalidate(mm, 0, 0x10000);
	ASSERT_EQ(LOAD(a.released) + LOAD(b.released), 2);
	wait_done(&a);
	wait_done(&b);
	ASSERT_EQ(mmu_notifier_live_epoch(), 0);
	mmput(mm);
}

/* The time is that of the event, not of each range: many of them, so that a busy machine is not taken for the latter. */
TEST(stage_one_event_waits_for_its_ranges_together)
{
	enum { MORE = 8, TIMEOUT_MS = 200, MARGIN_MS = 10 };
	struct region more[MORE];
	struct timespec before, after;

	set_up(TIMEOUT_MS);
	a.in_release = stand_at_own_gate;
	for (int n = 0; n < MORE; n++) {
		more[n] = region("more");
		ASSERT_EQ(insert(&more[n], 0x3000 + n * 0x1000UL, 0x1000, TIMEOUT_MS), 0);
	}
	clock_gettime(CLOCK_MONOTONIC, &before);
	invalidate(mm, 0, 0x10000);
	clock_gettime(CLOCK_MONOTONIC, &after);
	ASSERT_EQ(timeouts(), 2 + MORE);
	ASSERT((after.tv_sec - before.tv_sec) * 1000 + (after.tv_nsec - before.tv_nsec) / 1000000 <
	       (2 + MORE) * TIMEOUT_MS - MARGIN_MS);
	gate_open(&a.gate);
	wait_done(&a);
	wait_done(&b);
	for (int n = 0; n < MORE; n++)
		wait_done(&more[n]);
	mmput(mm);
}

TEST(stage_two_events_wait_for_one_release)
{
	struct thread *first, *second, *third;

	set_up(LONG);
	a.in_release = stand_at_own_gate;
	first = spawn(do_invalidate_a, NULL);
	wait_until_blocked(first, MMU_NOTIFIER_WAIT_RELEASE);
	second = spawn(do_invalidate_a, NULL);
	wait_until_blocked(second, MMU_NOTIFIER_WAIT_RELEASE);
	third = spawn(do_invalidate_a, NULL);
	wait_until_blocked(third, MMU_NOTIFIER_WAIT_RELEASE);
	ASSERT_NOT_WOKEN(first);
	gate_open(&a.gate);
	join(first);
	join(second);
	join(third);
	wait_done(&a);
	ASSERT_EQ(a.invalidated, 3);
	ASSERT_EQ(a.released, 1);
	ASSERT_EQ(mmu_notifier_live_epoch(), 0);
	ASSERT(remove_region(&b));
	mmput(mm);
}

/* Its removal waits for the busy period; the releaser does not. */
TEST(stage_a_removal_that_waits_holds_up_no_release)
{
	struct mmu_notifier_range one, two;

	set_up(LONG);
	one = make_range(mm, 0x1000, 0x2000);
	two = make_range(mm, 0x2000, 0x3000);
	range_start(&one);
	ASSERT_EQ(LOAD(a.released), 1);
	wait_until_worker_blocked(MMU_NOTIFIER_WAIT_REMOVE);
	range_start(&two);
	ASSERT_EQ(LOAD(b.released), 1);
	ASSERT_EQ(LOAD(a.done) + LOAD(b.done), 0);
	range_end(&one);
	ASSERT_EQ(LOAD(a.done) + LOAD(b.done), 0);
	range_end(&two);
	wait_done(&a);
	wait_done(&b);
	ASSERT_EQ(mmu_notifier_live_epoch(), 0);
	mmput(mm);
}

/* --------------------------------------------------------------------------------------------------- refusals, misuse */

TEST(stage_HS_7_a_range_that_is_waited_for_refuses_what_may_not_block)
{
	struct mmu_notifier_range range;

	set_up(LONG);
	range = make_range(mm, 0x1000, 0x2000);
	ASSERT_EQ(range_start_nonblock(&range), -EAGAIN);
	EXPECT_LOG();
	ASSERT(remove_region(&a));
	ASSERT_EQ(insert(&a, 0x1000, 0x1000, 0), 0);
	range = make_range(mm, 0x1000, 0x2000);
	ASSERT_EQ(range_start_nonblock(&range), 0);
	range_end(&range);
	wait_done(&a);
	EXPECT_LOG("a.invalidate", "a.release", "a.done");
	ASSERT(remove_region(&b));
	mmput(mm);
}

TEST(stage_the_driver_refuses)
{
	struct mmu_notifier_range range;

	set_up(0);
	a.refuse = true;
	range = make_range(mm, 0x1000, 0x2000);
	ASSERT_EQ(range_start_nonblock(&range), -EAGAIN);
	ASSERT_EQ(a.released, 0);
	invalidate(mm, 0x1000, 0x2000);
	expect_reports("RS-5 mmu_notifier_invalidate_range_start");
	wait_done(&a);
	EXPECT_LOG("a.invalidate", "a.invalidate", "a.release", "a.done");
	ASSERT(remove_region(&b));
	mmput(mm);
}

static void insert_here(struct region *self, const struct mmu_notifier_range *event)
{
	(void)event;
	note("insert %d", insert(self->other, 0x7000, 0x1000, 0));
}

static void insert_b(struct watch *self, const struct mmu_notifier_range *event, unsigned long seq)
{
	(void)self;
	(void)seq;
	insert_here(&a, event);
}

TEST(stage_no_thread_is_started_inside_an_event)
{
	struct watch w = watch("w");

	mm = mm_alloc();
	a = region("a");
	a.other = &b;
	w.in = insert_b;
	INSERT(&w, mm, 0x1000, 0x1000);
	invalidate(mm, 0x1000, 0x2000);
	EXPECT_LOG("w.inv 3", "insert -16");
	REMOVE(&w);
	mmput(mm);
}

TEST(stage_DV_14_arguments)
{
	static const struct mmu_notifier_live_range_ops no_invalidate = { .release = on_range_release };
	static const struct mmu_notifier_live_range_ops no_release = { .invalidate = on_range_invalidate };

	mm = current->mm;
	EXPECT_BUG("DV-14", (void)!mmu_notifier_live_range_insert(NULL, mm, 0, 1, &ops, 0));
	EXPECT_BUG("DV-14", (void)!mmu_notifier_live_range_insert(&a.range, NULL, 0, 1, &ops, 0));
	EXPECT_BUG("DV-14", (void)!mmu_notifier_live_range_insert(&a.range, mm, 0, 1, NULL, 0));
	EXPECT_BUG("DV-14", (void)!mmu_notifier_live_range_insert(&a.range, mm, 0, 1, &no_invalidate, 0));
	EXPECT_BUG("DV-14", (void)!mmu_notifier_live_range_insert(&a.range, mm, 0, 1, &no_release, 0));
	EXPECT_BUG("DV-14", (void)!mmu_notifier_live_range_remove(NULL));
	ASSERT_EQ(insert(&a, 0x1000, 0, 0), -EOVERFLOW);
}

TEST(stage_DV_9_inserted_twice_and_removed_twice)
{
	set_up(0);
	ASSERT_EQ(insert(&a, 0x5000, 0x1000, LONG), -EINVAL);
	expect_reports("DV-9");
	ASSERT(remove_region(&a));
	ASSERT(!remove_region(&a));
	EXPECT_LOG();
	ASSERT(remove_region(&b));
	mmput(mm);
}

static void remove_here(struct region *self, const struct mmu_notifier_range *event)
{
	(void)event;
	remove_region(self);
}

TEST(stage_DV_7_remove_inside_an_event)
{
	set_up(0);
	a.in_invalidate = remove_here;
	EXPECT_BUG_IN("DV-7", "mmu_notifier_live_range_remove", "invalidate", {
		ASSERT_EQ(insert(&b, 0x9000, 0x1000, 0), -EINVAL);
		invalidate(mm, 0x1000, 0x2000);
	});
	ASSERT(remove_region(&a));
	ASSERT(remove_region(&b));
	mmput(mm);
}

static void read_begin_here(struct region *self) { (void)mmu_interval_read_begin(&self->range.interval); }

/* The event waits for the release, which would wait for the event. */
TEST(stage_DV_7_a_release_that_is_waited_for_waits_for_no_event)
{
	set_up(LONG);
	a.in_release = read_begin_here;
	/* The threads are the parent's: the child starts its own with an insert. */
	EXPECT_BUG_IN("DV-7", "mmu_interval_read_begin", "release", {
		struct region c = region("c");

		ASSERT_EQ(insert(&c, 0x9000, 0x1000, 0), 0);
		invalidate(mm, 0x1000, 0x2000);
	});
	ASSERT(remove_region(&a));
	ASSERT(remove_region(&b));
	mmput(mm);
}

/* ------------------------------------------------------------------------------------------------------------- remove */

TEST(stage_remove_before_any_event)
{
	set_up(LONG);
	ASSERT(remove_region(&a));
	invalidate(mm, 0x1000, 0x2000);
	EXPECT_LOG();
	ASSERT_EQ(insert(&a, 0x1000, 0x1000, LONG), 0);
	ASSERT(remove_region(&a));
	ASSERT(remove_region(&b));
	mmput(mm);
}

TEST(stage_remove_after_an_event_waits_for_done)
{
	struct thread *remover;

	set_up(0);
	a.in_done = stand_at_own_gate;
	invalidate(mm, 0x1000, 0x2000);
	gate_wait(&a.gate);
	remover = spawn(do_remove_region, &a);
	wait_until_blocked(remover, MMU_NOTIFIER_WAIT_REMOVE);
	ASSERT_NOT_WOKEN(remover);
	gate_open(&a.gate);
	ASSERT_EQ((long)join(remover), false);
	EXPECT_LOG("a.invalidate", "a.release", "a.done");
	ASSERT(remove_region(&b));
	mmput(mm);
}

/* An event comes while remove waits for the end of another: it is told, and nothing is released. */
TEST(stage_an_event_during_remove)
{
	struct mmu_notifier_range range;
	struct thread *remover;

	set_up(LONG);
	range = make_range(mm, 0x2000, 0x3000);
	range_start(&range);
	wait_until_worker_blocked(MMU_NOTIFIER_WAIT_REMOVE);
	remover = spawn(do_remove_region, &a);
	wait_until_blocked(remover, MMU_NOTIFIER_WAIT_REMOVE);
	invalidate(mm, 0x1000, 0x2000);
	range_end(&range);
	ASSERT_EQ((long)join(remover), true);
	ASSERT_EQ(a.invalidated, 1);
	ASSERT_EQ(a.released + a.done, 0);
	wait_done(&b);
	mmput(mm);
}

static void remove_both(struct region *self)
{
	ASSERT(!remove_region(self));
	ASSERT(!remove_region(self->other));
}

/* Neither waits: the end of both is told by done. */
TEST(stage_remove_inside_release)
{
	set_up(LONG);
	a.other = &b;
	a.in_release = remove_both;
	invalidate(mm, 0x1000, 0x2000);
	wait_done(&a);
	wait_done(&b);
	ASSERT_EQ(b.invalidated + b.released, 0);
	ASSERT(!remove_region(&a));
	ASSERT(!remove_region(&b));
	mmput(mm);
}

/* ----------------------------------------------------------------------------------------- what the stages may do */

static void change_and_insert(struct region *self)
{
	struct region *third = calloc(1, sizeof(*third));

	*third = region("c");
	invalidate(mm, 0x2000, 0x3000);
	ASSERT_EQ(insert(third, 0x5000, 0x1000, LONG), 0);
	self->other = third;
}

/* A release that changes memory of another range cannot be waited for by itself. */
TEST(stage_a_release_changes_and_inserts)
{
	set_up(LONG);
	a.in_release = change_and_insert;
	do_invalidate_a(NULL);
	ASSERT_EQ(timeouts(), 1);
	wait_done(&a);
	wait_done(&b);
	ASSERT_EQ(b.released, 1);
	invalidate(mm, 0x5000, 0x6000);
	ASSERT_EQ(a.other->released, 1);
	wait_done(a.other);
	ASSERT_EQ(timeouts(), 1);
	free(a.other);
	mmput(mm);
}

static void insert_again(struct region *self)
{
	if (self->done < 3)
		ASSERT_EQ(insert(self, 0x1000, 0x1000, LONG), 0);
}

TEST(stage_done_may_insert_the_range_again)
{
	set_up(LONG);
	a.in_done = insert_again;
	for (int round = 1; round <= 4; round++) {
		invalidate(mm, 0x1000, 0x2000);
		ASSERT_EQ(LOAD(a.released), round);
		WAIT_FOR(LOAD(a.done) == round);
	}
	ASSERT(!remove_region(&a));
	ASSERT(remove_region(&b));
	mmput(mm);
}

static int freed;

/* Two have a reference: the library, until done, and who inserts the range. */
static void put_region(struct region *self)
{
	if (__atomic_fetch_sub(&self->done, 1, __ATOMIC_SEQ_CST) != 1)
		return;
	memset(self, 0xa5, sizeof(*self));
	free(self);
	__atomic_fetch_add(&freed, 1, __ATOMIC_SEQ_CST);
	changed();
}

static void on_freeing_done(struct mmu_notifier_live_range *range)
{
	put_region(container_of(range, struct region, range));
}

static const struct mmu_notifier_live_range_ops freeing = {
	.invalidate = on_range_invalidate, .release = on_range_release, .done = on_freeing_done,
};

static void *do_churn(void *at)
{
	for (int round = 0; round < 500; round++) {
		struct region *one = malloc(sizeof(*one));

		*one = region("x");
		one->quiet = true;
		one->done = 2;
		ASSERT_EQ(mmu_notifier_live_range_insert(&one->range, mm, (unsigned long)at, 0x1000, &freeing,
							 round % 2 ? LONG : 0), 0);
		/* An insert takes effect when the changes that are under way are over. */
		(void)mmu_interval_read_begin(&one->range.interval);
		put_region(one);
		invalidate(mm, (unsigned long)at, (unsigned long)at + (round % 3 ? 0x1000 : 0x3000));
	}
	return NULL;
}

/* Ranges come and go in several threads, touched by their own events and by others'. */
TEST(stage_done_may_free_while_others_come_and_go)
{
	struct thread *threads[3];

	mm = mm_alloc();
	for (long n = 0; n < 3; n++)
		threads[n] = spawn(do_churn, (void *)(0x1000 + 0x1000 * n));
	for (int n = 0; n < 3; n++)
		join(threads[n]);
	WAIT_FOR(LOAD(freed) == 1500);
	ASSERT_EQ(mmu_notifier_live_epoch(), 0);
	mmput(mm);
}

/*
 * The thread that maps for the device finds out, also when the release has run by then, and also of a change that came before
 * it asked for the number.
 */
TEST(stage_RB_a_change_while_the_driver_maps)
{
	unsigned long seq, seq_b;
	struct mmu_notifier_range range;

	set_up(0);
	seq = mmu_interval_read_begin(&a.range.interval);
	ASSERT(!mmu_notifier_live_range_retry(&a.range, seq));
	invalidate(mm, 0x1000, 0x2000);
	ASSERT(mmu_notifier_live_range_retry(&a.range, seq));
	/* Refused: nothing has changed. */
	seq_b = mmu_interval_read_begin(&b.range.interval);
	b.refuse = true;
	range = make_range(mm, 0x2000, 0x3000);
	ASSERT_EQ(range_start_nonblock(&range), -EAGAIN);
	ASSERT(!mmu_notifier_live_range_retry(&b.range, seq_b));
	b.refuse = false;
	invalidate(mm, 0x2000, 0x3000);
	seq_b = mmu_interval_read_begin(&b.range.interval);
	ASSERT(mmu_notifier_live_range_retry(&b.range, seq_b));
	wait_done(&a);
	wait_done(&b);
	ASSERT_EQ(insert(&b, 0x2000, 0x1000, 0), 0);
	ASSERT(!mmu_notifier_live_range_retry(&b.range, mmu_interval_read_begin(&b.range.interval)));
	ASSERT(remove_region(&b));
	mmput(mm);
}

TEST(stage_RL_1_the_end_of_the_address_space_is_an_event)
{
	set_up(LONG);
	mmgrab(mm);
	mmput(mm);
	ASSERT_EQ(LOAD(a.released) + LOAD(b.released), 2);
	wait_done(&a);
	wait_done(&b);
	mmdrop(mm);
}

/* The event as kernels 5.14 to 6.2 lay it out. */
struct range_5_14 { void *vma; struct mm_struct *mm; unsigned long start, end; };

static bool invalidate_5_14(struct mmu_notifier_live_range *range, const struct mmu_notifier_range *event,
			    unsigned long seq)
{
	const struct range_5_14 *old = (const void *)event;

	ASSERT_EQ(old->mm, mm);
	ASSERT_EQ(old->start, 0x1000);
	ASSERT_EQ(old->end, 0x2000);
	mmu_interval_set_seq(&range->interval, seq);
	return true;
}

TEST(stage_DV_15_a_driver_of_an_older_kernel)
{
	static const struct mmu_notifier_live_range_ops old = {
		.invalidate = invalidate_5_14, .release = on_range_release, .done = on_range_done,
	};

	mm = mm_alloc();
	a = region("a");
	ASSERT_EQ(mmu_notifier_abi_live_range_insert(&a.range, mm, 0x1000, 0x1000, &old, LONG,
						     MMU_NOTIFIER_ABI_5_14), 0);
	invalidate(mm, 0x1000, 0x2000);
	wait_done(&a);
	EXPECT_LOG("a.release", "a.done");
	mmput(mm);
}

/* --------------------------------------------------------------------------------------------------------------- fork */

/* A release is under way and another one is owed, on the process's own mm; a third range is untouched. */
TEST(stage_DV_13_no_stage_is_called_in_a_child)
{
	struct region c = region("c");

	mm = current->mm;
	a = region("a");
	b = region("b");
	a.in_release = stand_at_own_gate;
	ASSERT_EQ(insert(&a, 0x1000, 0x1000, 0), 0);
	ASSERT_EQ(insert(&b, 0x2000, 0x1000, 0), 0);
	ASSERT_EQ(insert(&c, 0x3000, 0x1000, 0), 0);
	invalidate(mm, 0x1000, 0x3000);
	gate_wait(&a.gate);
	IN_CHILD({
		STORE(a.gate.open, 1);
		invalidate(mm, 0x1000, 0x4000);
		ASSERT(remove_region(&a));
		ASSERT(remove_region(&b));
		ASSERT(remove_region(&c));
		/* The child's own. */
		a.in_release = NULL;
		ASSERT_EQ(insert(&a, 0x1000, 0x1000, LONG), 0);
		invalidate(mm, 0x1000, 0x2000);
		ASSERT_EQ(LOAD(a.released), 1);
		wait_done(&a);
		ASSERT_EQ(b.released + c.invalidated, 0);
	});
	gate_open(&a.gate);
	wait_done(&a);
	wait_done(&b);
	ASSERT(remove_region(&c));
	ASSERT_EQ(a.released + b.released, 2);
}

/* What is owed on another mm stays owed in the child, and who removes it sees to it. */
TEST(stage_DV_13_other_mms_come_along)
{
	struct region c = region("c");

	set_up(0);
	ASSERT_EQ(insert(&c, 0x3000, 0x1000, LONG), 0);
	a.in_release = stand_at_own_gate;
	invalidate(mm, 0x1000, 0x3000);
	gate_wait(&a.gate);
	IN_CHILD({
		/* Its release was running: lost half-way, but not its end. */
		ASSERT(!remove_region(&a));
		ASSERT_EQ(a.released, 0);
		ASSERT_EQ(a.done, 1);
		ASSERT(!remove_region(&b));
		ASSERT_EQ(b.released, 1);
		ASSERT_EQ(b.done, 1);
		/* Nobody is there to be waited for. */
		invalidate(mm, 0x3000, 0x4000);
		ASSERT_EQ(timeouts(), 1);
		ASSERT(!remove_region(&c));
		ASSERT_EQ(c.released, 1);
	});
	gate_open(&a.gate);
	wait_done(&a);
	wait_done(&b);
	ASSERT(remove_region(&c));
	mmput(mm);
}

/* fork() is a change of all memory: its own event releases the range, and waits for that. */
TEST(stage_live_fork_is_an_event)
{
	enable_live();
	page = new_page();
	a = region("a");
	ASSERT_EQ(insert(&a, (unsigned long)page, 0x1000, LONG), 0);
	IN_CHILD({
		ASSERT_EQ(LOAD(a.released), 1);
		ASSERT(remove_region(&a));
	});
	ASSERT_EQ(LOAD(a.released), 1);
	wait_done(&a);
	ASSERT_EQ(timeouts(), 0);
	ASSERT_EQ(mmu_notifier_live_disable(), 0);
}

static void fork_here(struct region *self)
{
	pid_t child = fork();
	int status;

	(void)self;
	if (child == 0)
		_exit(7);
	ASSERT_EQ(waitpid(child, &status, 0), child);
	ASSERT_EQ(WEXITSTATUS(status), 7);
}

TEST(stage_a_release_forks)
{
	set_up(LONG);
	a.in_release = fork_here;
	invalidate(mm, 0x1000, 0x2000);
	ASSERT_EQ(LOAD(a.released), 1);
	wait_done(&a);
	ASSERT(remove_region(&b));
	mmput(mm);
}

/* The runner leaves by exit(), with the threads idle and ranges inserted. */
TEST(stage_exit_with_ranges)
{
	set_up(LONG);
}

static void exit_here(struct region *self)
{
	(void)self;
	exit(0);
}

TEST(stage_a_release_exits)
{
	set_up(LONG);
	a.in_release = exit_here;
	invalidate(mm, 0x1000, 0x2000);
	FAIL("not reached");
}
