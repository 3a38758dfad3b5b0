/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Live events: the protocol between system calls and who subscribes, the slow path, fork, other patchers.
 *
 * glibc declares munmap() and its like `leaf': a compiler may keep variables of this file in registers across them. What callbacks
 * change is read with LOAD().
 */
#include "test.h"
#include <dlfcn.h>
#include <setjmp.h>
#include <ucontext.h>
#include <mmu_notifier/live.h>

enum { PAGE = 4096, PAGES = 16 };

static char *memory;
static struct watch w;

static struct mmu_notifier_live_status status(void)
{
	struct mmu_notifier_live_status now = { .size = sizeof(now) };

	ASSERT_EQ(mmu_notifier_live_status(&now), 0);
	return now;
}

static char *map(size_t length)
{
	char *place = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	ASSERT(place != MAP_FAILED);
	memset(place, 0x5a, length);
	return place;
}

static void enable(void)
{
	if (mmu_notifier_live_enable())
		FAIL("not enabled: %s", status().reason);
	memory = map(PAGES * PAGE);
}

/* Live, with all of `memory` watched. */
static void enable_and_watch(void)
{
	enable();
	w = watch("w");
	INSERT(&w, current->mm, (unsigned long)memory, PAGES * PAGE);
}

/* How often `watch' was called since the last time. */
static unsigned calls(void)
{
	return __atomic_exchange_n(&test_log_end, 0, __ATOMIC_SEQ_CST);
}

static void expect_range(enum mmu_notifier_event event, unsigned first, unsigned end)
{
	ASSERT_EQ(calls(), 1);
	ASSERT_EQ(LOAD(w.seen.event), event);
	ASSERT_EQ(LOAD(w.seen.start) - (unsigned long)memory, first * PAGE);
	ASSERT_EQ(LOAD(w.seen.end) - (unsigned long)memory, end * PAGE);
	ASSERT_EQ(LOAD(w.seen.flags), MMU_NOTIFIER_RANGE_BLOCKABLE);
	ASSERT(LOAD(w.seen.mm) == current->mm);
}

TEST(LIVE_status)
{
	struct mmu_notifier_live_status now = status();

	ASSERT_EQ(now.enabled, 0);
	ASSERT_EQ(now.sites, 0);
	enable();
	ASSERT_EQ(mmu_notifier_live_enable(), 0);
	now = status();
	ASSERT_EQ(now.enabled, 1);
	ASSERT_EQ(now.mechanisms, MMU_NOTIFIER_LIVE_BY_SITES);
	ASSERT(now.sites >= 12);
	ASSERT_EQ(now.lost_sites, 0);
	ASSERT_STR(now.reason, "");
	ASSERT_EQ(mmu_notifier_live_self_test(), 0);
	ASSERT_EQ(mmu_notifier_live_disable(), 0);
	ASSERT_EQ(mmu_notifier_live_disable(), 0);
	now = status();
	ASSERT_EQ(now.enabled, 0);
	ASSERT_EQ(now.sites, 0);
	ASSERT_EQ(now.missed + now.late + now.epoch, 0);
	ASSERT_EQ(mmu_notifier_live_self_test(), -EINVAL);
	ASSERT_EQ(mmu_notifier_live_enable_with(1u << 31), -EINVAL);
}

TEST(LIVE_an_older_status_is_filled_as_far_as_it_goes)
{
	struct mmu_notifier_live_status now = { .size = 8 };

	now.sites = 77;
	ASSERT_EQ(mmu_notifier_live_status(&now), 0);
	ASSERT_EQ(now.size, 8);
	ASSERT_EQ(now.sites, 77);
	now.size = 0;
	ASSERT_EQ(mmu_notifier_live_status(&now), -EINVAL);
	ASSERT_EQ(mmu_notifier_live_status(NULL), -EINVAL);
}

TEST(LIVE_events_and_ranges)
{
	enable_and_watch();
	ASSERT_EQ(mprotect(memory, PAGE, PROT_READ), 0);
	expect_range(MMU_NOTIFY_PROTECTION_VMA, 0, 1);
	ASSERT_EQ(madvise(memory + PAGE, 1, MADV_DONTNEED), 0);
	expect_range(MMU_NOTIFY_CLEAR, 1, 2);
	ASSERT_EQ(syscall(SYS_madvise, memory + 2 * PAGE, PAGE, MADV_FREE), 0);
	expect_range(MMU_NOTIFY_CLEAR, 2, 3);
	ASSERT_EQ(madvise(memory, PAGE, MADV_WILLNEED), 0);
	ASSERT_EQ(calls(), 0);
	ASSERT_EQ(munmap(memory + 3 * PAGE, PAGE), 0);
	expect_range(MMU_NOTIFY_UNMAP, 3, 4);
	ASSERT(mmap(memory + 3 * PAGE, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != MAP_FAILED);
	expect_range(MMU_NOTIFY_UNMAP, 3, 4);
	ASSERT(mmap(memory + 3 * PAGE, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == MAP_FAILED);
	ASSERT_EQ(calls(), 0);
	/* Shrinks; grows in place; moves. */
	ASSERT(mremap(memory + 8 * PAGE, 4 * PAGE, PAGE, 0) != MAP_FAILED);
	expect_range(MMU_NOTIFY_UNMAP, 9, 12);
	ASSERT(mremap(memory + 8 * PAGE, PAGE, 2 * PAGE, MREMAP_MAYMOVE) == memory + 8 * PAGE);
	ASSERT_EQ(calls(), 0);
	ASSERT(mremap(memory + 4 * PAGE, 2 * PAGE, 64 * PAGE, MREMAP_MAYMOVE) != MAP_FAILED);
	expect_range(MMU_NOTIFY_UNMAP, 4, 6);
	/* Over it. */
	ASSERT(mremap(map(PAGE), PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, memory + 14 * PAGE) == memory + 14 * PAGE);
	expect_range(MMU_NOTIFY_UNMAP, 14, 15);
	ASSERT_EQ(munmap(map(PAGE), PAGE), 0);
	ASSERT_EQ(calls(), 0);
	ASSERT_EQ(status().missed, 0);
}

TEST(LIVE_a_failing_call_ends_what_it_started)
{
	struct listener A = listener("A", &ops_kept);

	enable_and_watch();
	REGISTER(&A, current->mm);
	ASSERT_EQ(munmap(memory + 4 * PAGE, PAGE), 0);
	EXPECT_LOG("w.inv 3", "A.start", "A.end");
	/* The kernel refuses these before they change anything. */
	errno = 0;
	ASSERT_EQ(munmap(memory + 1, PAGE), -1);
	ASSERT_EQ(errno, EINVAL);
	EXPECT_LOG();
	/* This one half-way: there is a hole. */
	errno = 0;
	ASSERT_EQ(mprotect(memory, PAGES * PAGE, PROT_READ), -1);
	ASSERT_EQ(errno, ENOMEM);
	EXPECT_LOG("w.inv 5", "A.start", "A.end");
	ASSERT_EQ(READ_BEGIN(&w), 5);
	UNREGISTER(&A);
}

/* ------------------------------------------------------------- who waits for whom */

static struct gate in_gap;
static __thread bool stands_in_gap;

static void stand_in_gap(void *unused)
{
	(void)unused;
	if (stands_in_gap)
		gate_pass(&in_gap);
}
static const struct mmu_notifier_live_gap gap = { stand_in_gap, NULL };

/* Unmaps; stands between the look at who watches, and the system call. */
static void *unmap_slowly(void *place)
{
	stands_in_gap = true;
	ASSERT_EQ(munmap(place, PAGE), 0);
	stands_in_gap = false;
	return NULL;
}

static void *do_insert(void *place)
{
	INSERT(&w, current->mm, (unsigned long)place, PAGE);
	return NULL;
}

static void *do_register(void *listener)
{
	REGISTER((struct listener *)listener, current->mm);
	return NULL;
}

static bool is_mapped(char *place)
{
	unsigned char in_core;

	return mincore(place, PAGE, &in_core) == 0;
}

TEST(DV_2_an_insert_waits_for_calls_that_have_looked)
{
	struct thread *unmaps, *inserts;

	enable();
	w = watch("w");
	mmu_notifier_live_set_gap(&gap);
	unmaps = spawn(unmap_slowly, memory);
	gate_wait(&in_gap);
	inserts = spawn(do_insert, memory);
	wait_until_blocked(inserts, MMU_NOTIFIER_WAIT_GRACE_PERIOD);
	ASSERT(is_mapped(memory));
	gate_open(&in_gap);
	join(inserts);
	/* What it was about to map is gone already. */
	ASSERT(!is_mapped(memory));
	join(unmaps);
	EXPECT_LOG();
	ASSERT_EQ(mmu_notifier_live_epoch(), 0);
}

static bool on_quiet(struct mmu_interval_notifier *sub, const struct mmu_notifier_range *range, unsigned long seq)
{
	(void)range;
	mmu_interval_set_seq(sub, seq);
	return true;
}
static const struct mmu_interval_notifier_ops quiet_ops = { .invalidate = on_quiet };

static int stop;

/* Replaces the page by another one all the time. Each has a number of its own. */
static void *replace(void *place)
{
	for (int number = 1; !LOAD(stop); number++) {
		int *fresh = (int *)map(PAGE);

		*fresh = number;
		ASSERT(mremap(fresh, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, place) == place);
	}
	return NULL;
}

/* The same without a look into Rust: machine code decides. The pages of a file have their numbers in them. */
static void *replace_by_map(void *place)
{
	enum { NUMBERS = 64 };
	int fd = memfd_create("numbers", 0);

	ASSERT_EQ(ftruncate(fd, NUMBERS * PAGE), 0);
	for (int number = 0; number < NUMBERS; number++)
		ASSERT_EQ(pwrite(fd, &number, sizeof(number), number * PAGE), (ssize_t)sizeof(number));
	for (int number = 0; !LOAD(stop); number = (number + 1) % NUMBERS)
		ASSERT(mmap(place, PAGE, PROT_READ, MAP_SHARED | MAP_FIXED, fd, number * PAGE) == place);
	close(fd);
	return NULL;
}

/* A page is replaced all the time, and is watched meanwhile; others are always, below and above it. */
static void never_in_silence(void *(*body)(void *))
{
	enum { ROUNDS = 3000 };
	struct mmu_interval_notifier sub, below, above;
	struct thread *replaces;
	unsigned valid = 0;

	enable();
	ASSERT_EQ(mmu_interval_notifier_insert(&below, current->mm, PAGE, PAGE, &quiet_ops), 0);
	ASSERT_EQ(mmu_interval_notifier_insert(&above, current->mm, -2UL * PAGE, PAGE, &quiet_ops), 0);
	replaces = spawn(body, memory);
	for (int round = 0; round < ROUNDS; round++) {
		unsigned long seq;
		int number, later;

		ASSERT_EQ(mmu_interval_notifier_insert(&sub, current->mm, (unsigned long)memory, PAGE, &quiet_ops), 0);
		seq = mmu_interval_read_begin(&sub);
		number = LOAD(*(int *)memory);
		if (round % 8 == 0)
			sched_yield();
		later = LOAD(*(int *)memory);
		if (!mmu_interval_read_retry(&sub, seq)) {
			ASSERT_EQ(later, number);
			valid++;
		}
		mmu_interval_notifier_remove(&sub);
	}
	STORE(stop, 1);
	join(replaces);
	mmu_interval_notifier_remove(&above);
	mmu_interval_notifier_remove(&below);
	ASSERT(valid > 0);
	ASSERT_EQ(mmu_notifier_live_epoch(), 0);
}

TEST(DV_2_a_page_that_is_replaced_all_the_time_never_changes_in_silence) { never_in_silence(replace); }

/* What machine code decides cannot be held in the gap. */
TEST(DV_2_nor_when_machine_code_decides) { never_in_silence(replace_by_map); }

/* Protects [start, end), which reaches a watched page or not. */
static void expect_told(char *start, char *end, bool told)
{
	ASSERT_EQ(mprotect(start, (size_t)(end - start), PROT_NONE), 0);
	if (calls() != (told ? 1 : 0))
		FAIL("%td pages from %p on: told or not, but not so", (end - start) / PAGE, (void *)start);
}

/* Calls that begin and end wherever they want, as seen from a watched page somewhere in its block of 2 MiB. */
static void expect_exact(char *room, long block)
{
	static const long places[] = { 0, 1, 255, 510, 511 };
	static const long lengths[] = { 1, 2, 256, 511, 512, 513, 1024, 15 * 512, 16 * 512 - 1, 16 * 512, 17 * 512 };

	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		char *page = room + 20 * block + places[i] * PAGE;

		INSERT(&w, current->mm, (unsigned long)page, PAGE);
		for (size_t j = 0; j < sizeof(lengths) / sizeof(lengths[0]); j++) {
			long length = lengths[j] * PAGE;

			expect_told(page - length, page, false);
			expect_told(page + PAGE - length, page + PAGE, true);
			expect_told(page - length / 2 / PAGE * PAGE, page - length / 2 / PAGE * PAGE + length, true);
			expect_told(page, page + length, true);
			expect_told(page + PAGE, page + PAGE + length, false);
		}
		REMOVE(&w);
		expect_told(page - PAGE, page + PAGE, false);
	}
}

TEST(LIVE_who_watches_a_page_is_told_of_calls_that_reach_it_and_of_no_others)
{
	enum { BLOCK = 2 << 20 };
	char *room = mmap(NULL, 42L * BLOCK, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	struct mmu_interval_notifier below, above;

	ASSERT(room != MAP_FAILED);
	room = (char *)(((unsigned long)room + BLOCK - 1) & -(unsigned long)BLOCK);
	enable();
	w = watch("w");
	ASSERT_EQ(mmu_interval_notifier_insert(&below, current->mm, PAGE, PAGE, &quiet_ops), 0);
	ASSERT_EQ(mmu_interval_notifier_insert(&above, current->mm, -2UL * PAGE, PAGE, &quiet_ops), 0);
	expect_exact(room, BLOCK);
	/* Without the machine code. */
	mmu_notifier_live_set_gap(&gap);
	expect_exact(room, BLOCK);
	mmu_notifier_live_set_gap(NULL);
	mmu_interval_notifier_remove(&above);
	mmu_interval_notifier_remove(&below);
}

/* Threads come and go, and so do their stacks: a listener hears of that, but always of both ends. */
static void expect_pairs(const char *name)
{
	int starts = 0, ends = 0;
	char line[32];

	for (unsigned n = 0; n < LOAD(test_log_end); n++) {
		snprintf(line, sizeof(line), "%s.start", name);
		starts += !strcmp(test_log[n], line);
		snprintf(line, sizeof(line), "%s.end", name);
		ends += !strcmp(test_log[n], line);
	}
	ASSERT_EQ(starts, ends);
}

TEST(DV_2_a_registration_waits_for_calls_that_have_looked)
{
	struct listener A = listener("A", &ops_kept);
	struct thread *unmaps, *registers;

	enable();
	mmu_notifier_live_set_gap(&gap);
	unmaps = spawn(unmap_slowly, memory);
	gate_wait(&in_gap);
	registers = spawn(do_register, &A);
	wait_until_blocked(registers, MMU_NOTIFIER_WAIT_GRACE_PERIOD);
	ASSERT(is_mapped(memory));
	gate_open(&in_gap);
	join(registers);
	ASSERT(!is_mapped(memory));
	join(unmaps);
	expect_pairs("A");
	UNREGISTER(&A);
}

static struct gate in_start;

static void stand_in_start(struct listener *self, const char *op)
{
	unsigned long start = self->seen.start, first = (unsigned long)memory;

	if (!strcmp(op, "start") && start >= first && start < first + PAGES * PAGE)
		gate_pass(&in_start);
}

static void *unmap(void *place)
{
	ASSERT_EQ(munmap(place, PAGE), 0);
	return NULL;
}

TEST(RG_9_a_registration_waits_for_calls_that_have_started)
{
	struct listener A = listener("A", &ops_kept), B = listener("B", &ops_kept);
	struct thread *unmaps, *registers;

	enable();
	A.in = stand_in_start;
	REGISTER(&A, current->mm);
	unmaps = spawn(unmap, memory);
	gate_wait(&in_start);
	registers = spawn(do_register, &B);
	wait_until_blocked(registers, MMU_NOTIFIER_WAIT_GRACE_PERIOD);
	gate_open(&in_start);
	join(registers);
	join(unmaps);
	ASSERT(logged("A.end"));
	expect_pairs("A");
	expect_pairs("B");
	UNREGISTER(&B);
	UNREGISTER(&A);
}

/* Inserts another interval from inside its callback. */
static struct watch inner[2];
static struct gate both[2];

static void insert_inside(struct watch *self, const struct mmu_notifier_range *range, unsigned long seq)
{
	long which = (long)self->arg;

	(void)seq;
	gate_pass(&both[which]);
	ASSERT_EQ(mmu_interval_notifier_insert(&inner[which].sub, range->mm, range->start, PAGE, &watch_ops), 0);
	self->in = NULL;
}

TEST(DV_2_callbacks_of_two_calls_insert)
{
	struct watch one = watch("one"), two = watch("two");
	struct thread *threads[2];

	enable();
	inner[0] = watch("inner0");
	inner[1] = watch("inner1");
	one.in = two.in = insert_inside;
	two.arg = (void *)1;
	INSERT(&one, current->mm, (unsigned long)memory, PAGE);
	INSERT(&two, current->mm, (unsigned long)memory + PAGE, PAGE);
	threads[0] = spawn(unmap, memory);
	threads[1] = spawn(unmap, memory + PAGE);
	gate_wait(&both[0]);
	gate_wait(&both[1]);
	gate_open(&both[0]);
	gate_open(&both[1]);
	join(threads[0]);
	join(threads[1]);
	ASSERT_EQ(mmu_notifier_live_epoch(), 0);
	STORE(test_log_end, 0);
	/* They are members now. */
	ASSERT(mmap(memory, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == memory);
	ASSERT_EQ(calls(), 2);
	for (int n = 0; n < 2; n++)
		REMOVE(&inner[n]);
	REMOVE(&one);
	REMOVE(&two);
}

static void register_inside(struct watch *self, const struct mmu_notifier_range *range, unsigned long seq)
{
	(void)seq;
	self->in = NULL;
	REGISTER((struct listener *)self->arg, range->mm);
}

TEST(DV_2_a_registration_by_a_callback_is_not_waited_for_and_raises_the_epoch)
{
	struct listener A = listener("A", &ops_kept);

	enable_and_watch();
	w.in = register_inside;
	w.arg = &A;
	ASSERT_EQ(munmap(memory, PAGE), 0);
	/* No end of a start that it was not told of. */
	EXPECT_LOG("w.inv 3");
	ASSERT_EQ(mmu_notifier_live_epoch(), 1);
	ASSERT_EQ(munmap(memory + PAGE, PAGE), 0);
	EXPECT_LOG("w.inv 5", "A.start", "A.end");
	UNREGISTER(&A);
}

static void *unmap_while_unregistered(void *listener)
{
	struct listener *self = listener;

	UNREGISTER(self);
	return NULL;
}

TEST(UN_4_an_unregister_waits_for_a_call_between_start_and_end)
{
	struct listener A = listener("A", &ops_kept);
	struct thread *unmaps, *unregisters;

	enable();
	A.in = stand_in_start;
	REGISTER(&A, current->mm);
	unmaps = spawn(unmap, memory);
	gate_wait(&in_start);
	unregisters = spawn(unmap_while_unregistered, &A);
	wait_until_blocked(unregisters, MMU_NOTIFIER_WAIT_GRACE_PERIOD);
	gate_open(&in_start);
	join(unregisters);
	unsigned end = LOAD(test_log_end);
	join(unmaps);
	/* Nobody calls it any more. */
	ASSERT_EQ(LOAD(test_log_end), end);
}

static void *disable(void *unused)
{
	ASSERT_EQ(mmu_notifier_live_disable(), 0);
	return unused;
}

static void disable_inside(struct listener *self, const char *op)
{
	(void)self;
	if (!strcmp(op, "start"))
		ASSERT_EQ(mmu_notifier_live_disable(), -EDEADLK);
}

TEST(LIVE_disable_waits_for_callbacks_and_is_refused_inside_of_one)
{
	struct listener A = listener("A", &ops_kept);
	struct thread *unmaps, *disables;

	enable();
	A.in = disable_inside;
	REGISTER(&A, current->mm);
	unmap(memory);
	A.in = stand_in_start;
	unmaps = spawn(unmap, memory + PAGE);
	gate_wait(&in_start);
	disables = spawn(disable, NULL);
	wait_until_blocked(disables, MMU_NOTIFIER_WAIT_GRACE_PERIOD);
	gate_open(&in_start);
	join(disables);
	join(unmaps);
	STORE(test_log_end, 0);
	unmap(memory + 2 * PAGE);
	EXPECT_LOG();
	UNREGISTER(&A);
}

/* --------------------------------------------------------------- inside callbacks */

static void change_inside(struct watch *self, const struct mmu_notifier_range *range, unsigned long seq)
{
	(void)range;
	(void)seq;
	ASSERT_EQ(munmap(self->arg, PAGE), 0);
}

TEST(LIVE_a_change_by_a_callback_is_reported)
{
	char *other;

	enable_and_watch();
	other = map(PAGE);
	w.in = change_inside;
	w.arg = other;
	ASSERT_EQ(munmap(memory, PAGE), 0);
	expect_reports("LIVE-nested");
	ASSERT(!is_mapped(other));
	ASSERT_EQ(status().nested, 1);
	/* Nobody watched it. */
	ASSERT_EQ(mmu_notifier_live_epoch(), 0);
	w.arg = memory + 5 * PAGE;
	ASSERT_EQ(munmap(memory + PAGE, PAGE), 0);
	expect_reports("LIVE-nested");
	ASSERT(!is_mapped(memory + 5 * PAGE));
	ASSERT_EQ(calls(), 2);
	ASSERT_EQ(mmu_notifier_live_epoch(), 1);
	ASSERT_EQ(status().missed, 1);
	/* Of an explicit event, too. */
	w.arg = memory + 6 * PAGE;
	invalidate(current->mm, (unsigned long)memory, (unsigned long)memory + PAGE);
	expect_reports("LIVE-nested");
	ASSERT_EQ(mmu_notifier_live_epoch(), 2);
}

static int handled;

static void on_signal(int number)
{
	(void)number;
	munmap(memory + 8 * PAGE, PAGE);
	STORE(handled, 1);
}

static void raise_inside(struct watch *self, const struct mmu_notifier_range *range, unsigned long seq)
{
	(void)range;
	(void)seq;
	self->in = NULL;
	raise(SIGUSR1);
	ASSERT(!LOAD(handled));
}

TEST(LIVE_signals_wait_until_the_call_is_over)
{
	sigset_t before = { 0 }, after = { 0 };

	signal(SIGUSR1, on_signal);
	enable_and_watch();
	w.in = raise_inside;
	sigprocmask(SIG_BLOCK, NULL, &before);
	ASSERT_EQ(munmap(memory, PAGE), 0);
	ASSERT(LOAD(handled));
	sigprocmask(SIG_BLOCK, NULL, &after);
	ASSERT(!memcmp(&before, &after, sizeof(before)));
	/* The handler's change was an event of its own. */
	ASSERT_EQ(calls(), 2);
	ASSERT_EQ(mmu_notifier_live_epoch(), 0);
}

/* ------------------------------------------------- calls that are left before they are over */

static int left;

static void stand_once(void *unused)
{
	(void)unused;
	if (stands_in_gap) {
		stands_in_gap = false;
		gate_pass(&in_gap);
	}
}

static void *be_cancelled(void *place)
{
	ASSERT_EQ(pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL), 0);
	stands_in_gap = true;
	munmap(place, PAGE);
	FAIL("not cancelled");
}

/* A thread is cancelled between its look and its call, and leaves its section open. */
static void expect_ended(char *stack)
{
	static const struct mmu_notifier_live_gap standing = { stand_once, NULL };
	pthread_attr_t attributes;
	pthread_t thread;
	void *result;

	enable();
	w = watch("w");
	mmu_notifier_live_set_gap(&standing);
	pthread_attr_init(&attributes);
	if (stack)
		pthread_attr_setstack(&attributes, stack, 256 << 10);
	ASSERT_EQ(pthread_create(&thread, &attributes, be_cancelled, memory), 0);
	gate_wait(&in_gap);
	ASSERT_EQ(pthread_cancel(thread), 0);
	ASSERT_EQ(pthread_join(thread, &result), 0);
	ASSERT(result == PTHREAD_CANCELED);
	INSERT(&w, current->mm, (unsigned long)memory, PAGE);
	/* The call was never made. */
	ASSERT(is_mapped(memory));
	REMOVE(&w);
	ASSERT_EQ(mmu_notifier_live_epoch(), 0);
}

/* At its end libc gives up a part of its stack: a call that closes what the other has left open. */
TEST(LIVE_a_thread_that_is_cancelled_inside_a_call_is_not_waited_for) { expect_ended(NULL); }
/* On a stack that is not libc's it makes none: who waits finds out. */
TEST(LIVE_nor_if_it_makes_no_other_call) { expect_ended(map(256 << 10)); }

static __thread sigjmp_buf way_out;
static struct gate out, again;

static void jump_out(int number)
{
	(void)number;
	siglongjmp(way_out, 1);
}

static void raise_in_gap(void *unused)
{
	(void)unused;
	if (stands_in_gap) {
		stands_in_gap = false;
		raise(SIGUSR1);
	}
}
static const struct mmu_notifier_live_gap raising = { raise_in_gap, NULL };

__attribute__((noinline)) static void unmap_deep_down(void *place)
{
	volatile char room[16 << 10];

	memset((char *)room, 1, sizeof(room));
	ASSERT_EQ(munmap(place, PAGE), 0);
	ASSERT_EQ(room[0], 1);
}

static void *jump_and_call_again(void *deep)
{
	if (!sigsetjmp(way_out, 1)) {
		stands_in_gap = true;
		munmap(memory, PAGE);
		FAIL("not interrupted");
	}
	gate_pass(&out);
	if (deep)
		unmap_deep_down(memory + PAGE);
	else
		ASSERT_EQ(munmap(memory + PAGE, PAGE), 0);
	gate_pass(&again);
	return NULL;
}

static void expect_closed_by_next_call(void *deep)
{
	struct thread *jumps, *inserts;

	signal(SIGUSR1, jump_out);
	enable();
	w = watch("w");
	mmu_notifier_live_set_gap(&raising);
	jumps = spawn(jump_and_call_again, deep);
	gate_wait(&out);
	inserts = spawn(do_insert, memory);
	wait_until_blocked(inserts, MMU_NOTIFIER_WAIT_GRACE_PERIOD);
	gate_open(&out);
	gate_wait(&again);
	join(inserts);
	ASSERT(is_mapped(memory) && !is_mapped(memory + PAGE));
	gate_open(&again);
	join(jumps);
	REMOVE(&w);
	ASSERT_EQ(mmu_notifier_live_epoch(), 0);
}

TEST(LIVE_a_call_left_by_longjmp_is_over_with_the_next_one) { expect_closed_by_next_call(NULL); }
TEST(LIVE_a_call_left_by_longjmp_is_over_with_the_next_one_further_down) { expect_closed_by_next_call(memory); }

static void unmap_in_handler(int number)
{
	(void)number;
	ASSERT_EQ(munmap(memory + PAGE, PAGE), 0);
	STORE(left, 1);
	gate_pass(&in_gap);
}

static void *unmap_interrupted(void *alternate)
{
	stack_t stack = { .ss_sp = alternate, .ss_size = 256 << 10 };

	if (alternate)
		ASSERT_EQ(sigaltstack(&stack, NULL), 0);
	stands_in_gap = true;
	ASSERT_EQ(munmap(memory, PAGE), 0);
	return NULL;
}

/* A handler makes a call of its own, in the middle of another: that one is not over. */
static void expect_not_over(bool on_alternate_stack)
{
	char *stacks = map(512 << 10);
	struct sigaction action = { .sa_handler = unmap_in_handler, .sa_flags = on_alternate_stack ? SA_ONSTACK : 0 };
	struct thread *inserts;
	pthread_attr_t attributes;
	pthread_t thread;

	sigaction(SIGUSR1, &action, NULL);
	enable();
	w = watch("w");
	mmu_notifier_live_set_gap(&raising);
	/* The alternate stack lies above the other one. */
	pthread_attr_init(&attributes);
	pthread_attr_setstack(&attributes, stacks, 256 << 10);
	ASSERT_EQ(pthread_create(&thread, &attributes, unmap_interrupted, on_alternate_stack ? stacks + (256 << 10) : NULL), 0);
	gate_wait(&in_gap);
	ASSERT(LOAD(left) && !is_mapped(memory + PAGE));
	inserts = spawn(do_insert, memory);
	wait_until_blocked(inserts, MMU_NOTIFIER_WAIT_GRACE_PERIOD);
	usleep(300 * 1000);
	ASSERT_NOT_DONE(inserts);
	ASSERT(is_mapped(memory));
	gate_open(&in_gap);
	join(inserts);
	ASSERT(!is_mapped(memory));
	ASSERT_EQ(pthread_join(thread, NULL), 0);
	REMOVE(&w);
}

TEST(LIVE_a_call_of_a_handler_leaves_that_which_it_interrupts_open) { expect_not_over(false); }
TEST(LIVE_a_call_of_a_handler_on_another_stack_does_so_too) { expect_not_over(true); }

/* ------------------------------------------------------------------------- fork */

TEST(DV_13_fork_is_an_event_and_the_child_is_inert)
{
	struct listener A = listener("A", &ops_kept);

	enable_and_watch();
	REGISTER(&A, current->mm);
	IN_CHILD({
		struct mmu_notifier_live_status now;

		STORE(test_log_end, 0);
		now = status();
		ASSERT_EQ(now.enabled, 0);
		ASSERT_EQ(munmap(memory, PAGE), 0);
		EXPECT_LOG();
		/* It may begin anew. */
		ASSERT_EQ(mmu_notifier_live_enable(), 0);
		struct watch own = watch("own");
		INSERT(&own, current->mm, (unsigned long)memory + PAGE, PAGE);
		ASSERT_EQ(munmap(memory + PAGE, PAGE), 0);
		EXPECT_LOG("own.inv 3");
		REMOVE(&w);
		UNREGISTER(&A);
	});
	ASSERT(logged("A.start") && logged("A.end"));
	ASSERT_EQ(LOAD(w.seen.event), MMU_NOTIFY_PROTECTION_PAGE);
	STORE(test_log_end, 0);
	ASSERT_EQ(munmap(memory, PAGE), 0);
	EXPECT_LOG("w.inv 5", "A.start", "A.end");
	UNREGISTER(&A);
}

TEST(DV_13_other_ways_to_fork)
{
	int wait_status;
	pid_t pid;

	enable_and_watch();
	pid = syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, 0);
	if (pid == 0) {
		STORE(test_log_end, 0);
		syscall(SYS_munmap, memory, PAGE);
		_exit(LOAD(test_log_end));
	}
	ASSERT_EQ(waitpid(pid, &wait_status, 0), pid);
	ASSERT_EQ(wait_status, 0);
	/* Of the whole address space. */
	ASSERT_EQ(calls(), 1);
	ASSERT_EQ(LOAD(w.seen.event), MMU_NOTIFY_PROTECTION_PAGE);
	ASSERT(LOAD(w.seen.start) <= (unsigned long)memory && LOAD(w.seen.end) >= (unsigned long)memory + PAGES * PAGE);
	/* A child that shares the address space is no fork, and its changes are ours. */
	pid = vfork();
	if (pid == 0) {
		munmap(memory + PAGE, PAGE);
		_exit(0);
	}
	ASSERT_EQ(waitpid(pid, &wait_status, 0), pid);
	ASSERT_EQ(wait_status, 0);
	expect_range(MMU_NOTIFY_UNMAP, 1, 2);
	ASSERT_EQ(system("exit 3"), 3 << 8);
}

/* --------------------------------------------------------------- exit and execve */

static int *released;

static void on_last_release(struct mmu_notifier *mn, struct mm_struct *mm)
{
	(void)mn;
	(void)mm;
	STORE(*released, 1);
}
static const struct mmu_notifier_ops ops_release = { .release = on_last_release };

TEST(LIVE_release_is_not_called_at_exit_nor_at_execve)
{
	static struct mmu_notifier mn = { .ops = &ops_release };

	released = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	for (int way = 0; way < 2; way++) {
		pid_t pid = fork();

		if (pid == 0) {
			if (mmu_notifier_live_enable() || mmu_notifier_register(&mn, current->mm))
				_exit(1);
			if (way)
				execl("/bin/true", "true", NULL);
			exit(0);
		}
		int wait_status;
		ASSERT_EQ(waitpid(pid, &wait_status, 0), pid);
		ASSERT_EQ(wait_status, 0);
		ASSERT_EQ(LOAD(*released), 0);
	}
	/* It could be called: */
	enable();
	ASSERT_EQ(mmu_notifier_register(&mn, current->mm), 0);
	mmu_notifier_unregister(&mn, current->mm);
	ASSERT_EQ(LOAD(*released), 1);
}

/* ------------------------------------------------------------------------ threads */

static void *do_nothing(void *unused) { return unused; }

static struct gate go;

static void *unmap_later(void *unused)
{
	gate_pass(&go);
	unmap(memory + 2 * PAGE);
	return unused;
}

TEST(LIVE_threads_of_before_small_stacks_and_ends_of_threads)
{
	struct thread *older = spawn(unmap_later, NULL);
	pthread_attr_t small;

	gate_wait(&go);
	enable_and_watch();
	gate_open(&go);
	join(older);
	expect_range(MMU_NOTIFY_UNMAP, 2, 3);
	STORE(test_log_end, 0);
	pthread_attr_init(&small);
	ASSERT_EQ(pthread_attr_setstacksize(&small, PTHREAD_STACK_MIN), 0);
	for (int n = 0; n < 200; n++) {
		pthread_t thread;

		ASSERT_EQ(pthread_create(&thread, &small, n % 2 ? do_nothing : unmap, memory + n % PAGES * PAGE), 0);
		ASSERT_EQ(pthread_join(thread, NULL), 0);
	}
	ASSERT(calls() >= 8);
	/* All of what a thread takes away with it: its stack. */
	struct listener A = listener("A", &ops_kept);
	A.in = NULL;
	REGISTER(&A, current->mm);
	for (int n = 0; n < 20; n++) {
		pthread_t thread;

		STORE(test_log_end, 0);
		ASSERT_EQ(pthread_create(&thread, NULL, do_nothing, NULL), 0);
		ASSERT_EQ(pthread_join(thread, NULL), 0);
	}
	ASSERT(logged("A.start"));
	STORE(test_log_end, 0);
	UNREGISTER(&A);
}

/* ------------------------------------------------------------------- vector state */

/* What a thread has besides its general registers, before and after a call of `function' with these arguments. */
struct vectors {
	void *function;
	long arguments[6];
	struct state {
		unsigned char registers[32][64];	/* as much of each as there is */
		unsigned long masks[8];
		unsigned mxcsr, x87_status;
		long double x87[2];
	} before, after;
};
_Static_assert(offsetof(struct vectors, before.masks) == 64 + 2048 && offsetof(struct vectors, before.mxcsr) == 64 + 2112 &&
	       offsetof(struct vectors, before.x87) == 64 + 2128 && offsetof(struct vectors, after) == 64 + 2160, "as below");

/* With all registers of this name; NAME_x87: with two numbers on the stack of the x87, too. */
#define CALL_WITH(NAME, REGISTERS, REGISTER, MOVE, LOAD_MASKS, STORE_MASKS, LOAD_X87, STORE_X87) \
	long NAME(struct vectors *vectors);						\
	asm(".pushsection .text; .type " #NAME ", @function; " #NAME ":\n\t"		\
	    "push %rbx; mov %rdi, %rbx\n\t"						\
	    ".irp i, " REGISTERS "; " MOVE " 64+64*\\i(%rbx), %" REGISTER "\\i; .endr\n\t"	\
	    LOAD_MASKS "ldmxcsr 64+2112(%rbx)\n\t" LOAD_X87				\
	    "mov 8(%rbx), %rdi; mov 16(%rbx), %rsi; mov 24(%rbx), %rdx; mov 32(%rbx), %rcx; mov 40(%rbx), %r8; mov 48(%rbx), %r9\n\t" \
	    "xor %eax, %eax; call *(%rbx)\n\t" STORE_X87 "fnstsw 2224+2116(%rbx); stmxcsr 2224+2112(%rbx)\n\t" \
	    ".irp i, " REGISTERS "; " MOVE " %" REGISTER "\\i, 2224+64*\\i(%rbx); .endr\n\t"	\
	    STORE_MASKS "pop %rbx; ret; .size " #NAME ", . - " #NAME "; .popsection")
#define SIXTEEN "0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15"
#define THIRTY_TWO SIXTEEN ",16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31"
#define LOAD_MASKS ".irp i, 0,1,2,3,4,5,6,7; kmovq 64+2048+8*\\i(%rbx), %k\\i; .endr\n\t"
#define STORE_MASKS ".irp i, 0,1,2,3,4,5,6,7; kmovq %k\\i, 2224+2048+8*\\i(%rbx); .endr\n\t"
#define LOAD_X87 "fninit; fldt 64+2128(%rbx); fldt 64+2144(%rbx)\n\t"
#define STORE_X87 "fstpt 2224+2144(%rbx); fstpt 2224+2128(%rbx)\n\t"
CALL_WITH(call_with_xmm, SIXTEEN, "xmm", "movups", "", "", "", "");
CALL_WITH(call_with_ymm, SIXTEEN, "ymm", "vmovups", "", "", "", "");
CALL_WITH(call_with_zmm, THIRTY_TWO, "zmm", "vmovups", LOAD_MASKS, STORE_MASKS, "", "");
CALL_WITH(call_with_xmm_x87, SIXTEEN, "xmm", "movups", "", "", LOAD_X87, STORE_X87);
CALL_WITH(call_with_zmm_x87, THIRTY_TWO, "zmm", "vmovups", LOAD_MASKS, STORE_MASKS, LOAD_X87, STORE_X87);

static void spoil_vectors(struct watch *self, const struct mmu_notifier_range *range, unsigned long seq)
{
	unsigned mxcsr = 0x1f80 | 0x3f;

	(void)self;
	(void)range;
	(void)seq;
	asm volatile(".irp i, " SIXTEEN "; pcmpeqd %%xmm\\i, %%xmm\\i; .endr; fldpi; fldz; fdivrp; fstp %%st; ldmxcsr %0"
		     :: "m"(mxcsr) : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11",
		     "xmm12", "xmm13", "xmm14", "xmm15");
	if (__builtin_cpu_supports("avx2"))
		asm volatile(".irp i, " SIXTEEN "; vpcmpeqd %%ymm\\i, %%ymm\\i, %%ymm\\i; .endr" ::);
	if (__builtin_cpu_supports("avx512bw"))
		asm volatile(".irp i, " THIRTY_TWO "; vpternlogd $255, %%zmm\\i, %%zmm\\i, %%zmm\\i; .endr\n\t"
			     ".irp i, 0,1,2,3,4,5,6,7; kxnorq %%k\\i, %%k\\i, %%k\\i; .endr" ::);
}

/* As if the thread had never used it: then it is not saved. */
static void leave_x87(void)
{
	static const struct { char zeros[576]; } __attribute__((aligned(64))) fresh;

	if (__builtin_cpu_supports("avx"))
		asm volatile("xrstor64 %0" :: "m"(fresh), "a"(1), "d"(0));
}

static void expect_kept(struct vectors *it, long (*call)(struct vectors *), size_t width, int registers, bool x87, const char *name)
{
	memset(&it->before, 0, sizeof(it->before));
	memset(&it->after, 0, sizeof(it->after));
	for (int i = 0; i < registers; i++)
		memset(it->before.registers[i], i + 1, width);
	for (int i = 0; i < 8 && registers == 32; i++)
		it->before.masks[i] = 0x0102030405060708UL << i;
	it->before.mxcsr = 0x1f80;
	if (x87)
		it->before.x87[0] = 1.5L, it->before.x87[1] = 2.5L;
	else
		leave_x87();
	if (call(it) == -1)
		FAIL("%s: %s", name, strerror(errno));
	if (memcmp(&it->before, &it->after, sizeof(it->before)))
		FAIL("%s, %zu bytes of each register: something has changed", name, width);
}

/* With as much state as the processor has. */
static void expect_all_kept(const char *name, void *function, long a, long b, long c, long d, long e)
{
	static struct vectors it;

	it.function = function;
	memcpy(it.arguments, (long[]){ a, b, c, d, e, 0 }, sizeof(it.arguments));
	expect_kept(&it, call_with_xmm, 16, 16, false, name);
	expect_kept(&it, call_with_xmm_x87, 16, 16, true, name);
	if (__builtin_cpu_supports("avx2"))
		expect_kept(&it, call_with_ymm, 32, 16, false, name);
	if (__builtin_cpu_supports("avx512bw")) {
		expect_kept(&it, call_with_zmm, 64, 32, false, name);
		expect_kept(&it, call_with_zmm_x87, 64, 32, true, name);
	}
}

static void expect_kept_by_calls(void)
{
	long place = (long)memory;

	expect_all_kept("mprotect", mprotect, place, PAGE, PROT_READ, 0, 0);
	expect_all_kept("pkey_mprotect", pkey_mprotect, place, PAGE, PROT_READ, -1, 0);
	expect_all_kept("madvise", madvise, place, PAGE, MADV_DONTNEED, 0, 0);
	expect_all_kept("remap", mremap, place, PAGES * PAGE, PAGES * PAGE / 2, 0, 0);
	expect_all_kept("syscall", dlsym(RTLD_DEFAULT, "syscall"), SYS_mprotect, place, PAGE, PROT_READ, 0);
	expect_all_kept("munmap", munmap, place, PAGE, 0, 0, 0);
	expect_all_kept("brk", sbrk, 0, 0, 0, 0, 0);
}

TEST(LIVE_a_system_call_changes_no_vector_register)
{
	enable_and_watch();
	w.in = spoil_vectors;
	expect_kept_by_calls();
	ASSERT(calls() >= 10);
	/* Nobody watches. */
	REMOVE(&w);
	memory = map(PAGES * PAGE);
	expect_kept_by_calls();
	ASSERT_EQ(calls(), 0);
}

/* ------------------------------------------------------------- writing, and others who write */

#ifndef PR_SET_MDWE
#define PR_SET_MDWE 65
#endif

static void expect_to_work(unsigned flags, unsigned method)
{
	if (mmu_notifier_live_enable_with(flags))
		FAIL("not enabled: %s", status().reason);
	ASSERT_EQ(status().write_method, method);
	ASSERT_EQ(mmu_notifier_live_self_test(), 0);
	ASSERT_EQ(mmu_notifier_live_disable(), 0);
	ASSERT_EQ(status().sites, 0);
}

TEST(LIVE_ways_of_writing)
{
	expect_to_work(0, MMU_NOTIFIER_LIVE_WRITE_MPROTECT);
	expect_to_work(MMU_NOTIFIER_LIVE_PROC_MEM, MMU_NOTIFIER_LIVE_WRITE_PROC_MEM);
	expect_to_work(MMU_NOTIFIER_LIVE_PAGE_SWAP, MMU_NOTIFIER_LIVE_WRITE_PAGE_SWAP);
	expect_to_work(0, MMU_NOTIFIER_LIVE_WRITE_MPROTECT);
}

TEST(LIVE_memory_that_may_not_be_writable_and_executable)
{
	if (prctl(PR_SET_MDWE, 1, 0, 0, 0))
		SKIP("the kernel has no PR_SET_MDWE");
	expect_to_work(0, MMU_NOTIFIER_LIVE_WRITE_PAGE_SWAP);
	expect_to_work(MMU_NOTIFIER_LIVE_PROC_MEM, MMU_NOTIFIER_LIVE_WRITE_PROC_MEM);
}

/* What another patcher puts in place of munmap(): the same call by another way. */
static int their_munmap(void *place, size_t length)
{
	return syscall(SYS_munmap, place, length);
}

TEST(LIVE_a_site_that_is_taken_away_is_noticed)
{
	static const unsigned char jump[12] = { 0x48, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xe0 };
	char *entry = dlsym(RTLD_DEFAULT, "munmap"), *page = (char *)((unsigned long)entry & -PAGE);
	unsigned char theirs[12];
	unsigned long epoch;
	unsigned sites;

	enable_and_watch();
	sites = status().sites;
	memcpy(theirs, jump, sizeof(jump));
	*(void **)(theirs + 2) = (void *)their_munmap;
	ASSERT_EQ(mprotect(page, 2 * PAGE, PROT_READ | PROT_WRITE | PROT_EXEC), 0);
	memcpy(entry, theirs, sizeof(theirs));
	ASSERT_EQ(mprotect(page, 2 * PAGE, PROT_READ | PROT_EXEC), 0);
	STORE(test_log_end, 0);
	epoch = mmu_notifier_live_epoch();
	ASSERT_EQ(status().lost_sites, 1);
	ASSERT_EQ(status().sites, sites - 1);
	ASSERT_EQ(mmu_notifier_live_epoch(), epoch + 1);
	/* Their call comes by syscall(). */
	ASSERT_EQ(munmap(memory, PAGE), 0);
	expect_range(MMU_NOTIFY_UNMAP, 0, 1);
	ASSERT_EQ(mmu_notifier_live_self_test(), 0);
	/* What is theirs stays theirs. */
	ASSERT_EQ(mmu_notifier_live_disable(), 0);
	ASSERT(!memcmp(entry, theirs, sizeof(theirs)));
	ASSERT_EQ(mmu_notifier_live_enable(), 0);
	ASSERT(!memcmp(entry, theirs, sizeof(theirs)));
	ASSERT_EQ(status().foreign_sites, 1);
	ASSERT_EQ(status().lost_sites, 0);
	ASSERT_EQ(mmu_notifier_live_self_test(), 0);
}

TEST(LIVE_a_site_that_was_taken_before_is_left_alone)
{
	char *entry = dlsym(RTLD_DEFAULT, "munmap"), *page = (char *)((unsigned long)entry & -PAGE);
	unsigned char theirs[12] = { 0x48, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xe0 };

	*(void **)(theirs + 2) = (void *)their_munmap;
	ASSERT_EQ(mprotect(page, 2 * PAGE, PROT_READ | PROT_WRITE | PROT_EXEC), 0);
	memcpy(entry, theirs, sizeof(theirs));
	enable_and_watch();
	ASSERT_EQ(status().foreign_sites, 1);
	ASSERT_EQ(munmap(memory, PAGE), 0);
	expect_range(MMU_NOTIFY_UNMAP, 0, 1);
	ASSERT(!memcmp(entry, theirs, sizeof(theirs)));
}

static void *hammer(void *unused)
{
	while (!LOAD(stop)) {
		char *place = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		ASSERT(place != MAP_FAILED);
		ASSERT_EQ(mprotect(place, PAGES * PAGE, PROT_READ), 0);
		ASSERT_EQ(madvise(place, PAGE, MADV_DONTNEED), 0);
		ASSERT_EQ(syscall(SYS_madvise, place, PAGE, MADV_DONTNEED), 0);
		place = mremap(place, PAGES * PAGE, 2 * PAGES * PAGE, MREMAP_MAYMOVE);
		ASSERT(place != MAP_FAILED);
		ASSERT_EQ(munmap(place, 2 * PAGES * PAGE), 0);
		free(malloc(1 << 20));
		ASSERT_EQ(syscall(SYS_getpid), getpid());
	}
	return unused;
}

TEST(LIVE_on_and_off_under_fire)
{
	static const unsigned flags[] = { 0, MMU_NOTIFIER_LIVE_PAGE_SWAP, MMU_NOTIFIER_LIVE_PROC_MEM };
	struct thread *threads[3];

	/* Each round waits for threads that were preempted in a call: on a busy machine for a turn of the scheduler. */
	alarm(4 * TEST_DEADLINE);
	for (int n = 0; n < 3; n++)
		threads[n] = spawn(hammer, NULL);
	for (int round = 0; round < 150; round++) {
		ASSERT_EQ(mmu_notifier_live_enable_with(flags[round % 3]), 0);
		ASSERT_EQ(mmu_notifier_live_disable(), 0);
	}
	STORE(stop, 1);
	for (int n = 0; n < 3; n++)
		join(threads[n]);
	ASSERT_EQ(mmu_notifier_live_epoch(), 0);
}
