/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * sgi-gru's grutlbpurge.c, unmodified, with its private headers: the TLBs of a device in four chiplets on two blades, which
 * translate for the process by themselves. One notifier per mm, by get and put, flushes them. The chiplets are memory, and
 * tgh_invalidate(), which tells one to flush, is here and logs.
 */
#include "test.h"
#include "env.h"
#include <linux/device.h>
#include <linux/slab.h>
#include "gru.h"
#include "grutables.h"

/* ----------------------------------------------------------- the driver's other half */

struct gru_stats_s gru_stats;
struct gru_blade_state *gru_base[GRU_MAX_BLADES];
unsigned long gru_options = OPT_STATS;

#define STATISTIC(name) atomic_long_read(&gru_stats.name)

/* Where the next flush stands. */
static struct gate *flush_gate;

/* Logs "flush CHIPLET/HANDLE: ADDRESS PAGES ASID CONTEXTS". */
int tgh_invalidate(struct gru_tlb_global_handle *tgh, unsigned long vaddr, unsigned long vaddrmask, int asid, int pagesize,
		   int global, int n, unsigned short contexts)
{
	struct gate *gate = LOAD(flush_gate);

	ASSERT_EQ(vaddrmask, ~0UL);
	ASSERT(tgh->delresp);	/* locked */
	for (int gid = 0; gid < 4; gid++) {
		struct gru_state *gru = GID_TO_GRU(gid);
		unsigned long handle = ((char *)tgh - (char *)get_tgh_by_index(gru, 0)) / GRU_HANDLE_STRIDE;

		if (handle >= GRU_NUM_TGH)
			continue;
		if (global)
			note("flush %d/%lu: all", gid, handle);
		else
			note("flush %d/%lu: %#lx %d %#x %#x", gid, handle, vaddr, n + 1, asid, contexts);
		ASSERT_EQ(pagesize, global ? 1 : GRU_PAGESIZE(PAGE_SHIFT));
	}
	if (gate) {
		STORE(flush_gate, NULL);
		gate_pass(gate);
	}
	return 0;
}

static struct mm_struct *mm;

static void machine(void)
{
	for (int blade = 0; blade < 2; blade++) {
		gru_base[blade] = calloc(1, sizeof(*gru_base[blade]));
		for (int chiplet = 0; chiplet < GRU_CHIPLETS_PER_BLADE; chiplet++) {
			struct gru_state *gru = get_gru(blade, chiplet);

			gru->gs_gid = blade * GRU_CHIPLETS_PER_BLADE + chiplet;
			gru->gs_blade_id = blade;
			gru->gs_gru_base_vaddr = mmap(NULL, GRU_SIZE, PROT_READ | PROT_WRITE,
						      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
			ASSERT_NE(gru->gs_gru_base_vaddr, MAP_FAILED);
			gru_tgh_flush_init(gru);
		}
	}
}

static void setup(void)
{
	machine();
	mm = mm_alloc();
	mmgrab(mm);
	current->mm = mm;
}

static void teardown(void)
{
	EXPECT_LOG();
	ASSERT_EQ(env_allocated(), 0);
	ASSERT_EQ(STATISTIC(gms_free), STATISTIC(gms_alloc));
	ASSERT_EQ(mm_users(mm), 1);
	ASSERT_EQ(mm_count(mm), 2);
	mmput(mm);
	ASSERT_EQ(mm_count(mm), 1);
	mmdrop(mm);
	ASSERT_EQ(mmu_notifier_report_count(MMU_NOTIFIER_REPORT_WARN), 0);
}

/* The driver calls it when a process maps the device, which is under mmap_lock. */
static struct gru_mm_struct *get(struct mm_struct *of)
{
	struct mm_struct *mine = current->mm;
	struct gru_mm_struct *gms;

	current->mm = of;
	mmap_write_lock(of);
	gms = gru_register_mmu_notifier();
	mmap_write_unlock(of);
	current->mm = mine;
	ASSERT(!IS_ERR(gms));
	ASSERT_EQ(gms->ms_notifier.mm, of);
	return gms;
}

/* The chiplet has translated for the process, as `asid`; these contexts of it are loaded now. */
static void use(struct gru_mm_struct *gms, int gid, int asid, int contexts)
{
	__set_bit(gid, gms->ms_asidmap);
	gms->ms_asids[gid].mt_asid = asid;
	gms->ms_asids[gid].mt_ctxbitmap = contexts;
}

static void start(struct env_range *range, unsigned long first, unsigned long end)
{
	env_range_init(range, MMU_NOTIFY_CLEAR, mm, first, end);
	hold(mm);
	env_range_start(range);
}

static void end(struct env_range *range)
{
	env_range_end(range);
	let_go(mm);
}

static void change_of(struct mm_struct *of, unsigned long first, unsigned long last)
{
	struct env_range range;

	env_range_init(&range, MMU_NOTIFY_CLEAR, of, first, last);
	hold(of);
	env_range_start(&range);
	env_range_end(&range);
	let_go(of);
}

static void change(unsigned long first, unsigned long last) { change_of(mm, first, last); }

static int active(struct gru_mm_struct *gms) { return atomic_read(&gms->ms_range_active); }

/* ------------------------------------------------------------------------------- cases */

/* GP-1, GP-4, GP-5: one notifier and one count for an mm, however often it is got. */
TEST(one_notifier_per_mm)
{
	struct mm_struct *other = mm_alloc();
	struct gru_mm_struct *gms, *others;

	setup();
	gms = get(mm);
	ASSERT_EQ(mm_count(mm), 3);
	ASSERT_EQ(gms->ms_notifier.users, 1);
	ASSERT_EQ(get(mm), gms);
	ASSERT_EQ(get(mm), gms);
	ASSERT_EQ(gms->ms_notifier.users, 3);
	ASSERT_EQ(mm_count(mm), 3);
	others = get(other);
	ASSERT_NE(others, gms);
	ASSERT_EQ(mm_count(other), 2);
	ASSERT_EQ(STATISTIC(gms_alloc), 2);

	gru_drop_mmu_notifier(gms);
	gru_drop_mmu_notifier(gms);
	mmu_notifier_synchronize();
	ASSERT_EQ(STATISTIC(gms_free), 0);
	ASSERT_EQ(mm_count(mm), 3);
	use(gms, 0, 0x100, 1);
	change(0x10000, 0x11000);	/* it still listens */
	EXPECT_LOG("flush 0/3: 0x10000 1 0x100 0x1");
	gru_drop_mmu_notifier(gms);
	mmu_notifier_synchronize();
	ASSERT_EQ(STATISTIC(gms_free), 1);
	ASSERT_EQ(env_allocated(), 1);
	ASSERT_EQ(mm_count(mm), 2);
	change(0x10000, 0x11000);
	EXPECT_LOG();
	gru_drop_mmu_notifier(others);
	mmu_notifier_synchronize();
	ASSERT_EQ(mm_count(other), 1);
	mmput(other);
	teardown();
}

TEST(flushes_the_range_where_the_process_has_been)
{
	struct gru_mm_struct *gms;

	setup();
	gms = get(mm);
	change(0x10000, 0x11000);	/* nowhere yet */
	EXPECT_LOG();
	/* The handle is the processor's on its own blade, and a shared one elsewhere. */
	use(gms, 0, 0x100, 0x3);
	use(gms, 3, 0x200, 0x8);
	change(0x10000, 0x11000);
	EXPECT_LOG("flush 0/3: 0x10000 1 0x100 0x3", "flush 3/13: 0x10000 1 0x200 0x8");
	change(0x10000, 0x15000);
	EXPECT_LOG("flush 0/3: 0x10000 5 0x100 0x3", "flush 3/13: 0x10000 5 0x200 0x8");
	change(0x10000, 0x10000 + 2000 * PAGE_SIZE);	/* more than one order covers */
	EXPECT_LOG("flush 0/3: 0x10000 1024 0x100 0x3", "flush 3/13: 0x10000 1024 0x200 0x8");
	/* No context of it is loaded: the chiplet forgets the process instead, once. */
	use(gms, 3, 0x200, 0);
	change(0x20000, 0x21000);
	EXPECT_LOG("flush 0/3: 0x20000 1 0x100 0x3");
	ASSERT_EQ(gms->ms_asids[3].mt_asid, 0);
	ASSERT(!test_bit(3, gms->ms_asidmap) && test_bit(0, gms->ms_asidmap));
	ASSERT_EQ(STATISTIC(flush_tlb_gru_zero_asid), 1);
	change(0x20000, 0x21000);
	EXPECT_LOG("flush 0/3: 0x20000 1 0x100 0x3");
	ASSERT_EQ(STATISTIC(flush_tlb_gru_zero_asid), 1);
	ASSERT_EQ(STATISTIC(mmu_invalidate_range), 6);
	gru_flush_all_tlb(get_gru(1, 0));
	EXPECT_LOG("flush 2/13: all");
	gru_drop_mmu_notifier(gms);
	mmu_notifier_synchronize();
	teardown();
}

/* A fault of the device: it must not load a translation while a range is active. */
static void *fault(void *arg)
{
	struct gru_mm_struct *gms = arg;

	wait_event(gms->ms_wait_queue, active(gms) == 0);
	note("loaded");
	return NULL;
}

TEST(fault_waits_until_the_last_range_ends)
{
	struct env_range outer, inner;
	struct gru_mm_struct *gms;
	struct thread *faulting;

	setup();
	gms = get(mm);
	use(gms, 1, 0x100, 1);
	ASSERT_EQ(active(gms), 0);
	join(spawn(fault, gms));
	EXPECT_LOG("loaded");
	start(&outer, 0x10000, 0x20000);
	ASSERT_EQ(active(gms), 1);
	EXPECT_LOG("flush 1/3: 0x10000 16 0x100 0x1");
	faulting = spawn(fault, gms);
	while (!LOAD(gms->ms_wait_queue.sleepers))
		sched_yield();
	ASSERT_NOT_DONE(faulting);
	start(&inner, 0x12000, 0x13000);
	ASSERT_EQ(active(gms), 2);
	ASSERT_EQ(LOAD(gms->ms_wait_queue.wakeups), 0);
	end(&inner);
	ASSERT_EQ(active(gms), 1);
	ASSERT_EQ(LOAD(gms->ms_wait_queue.wakeups), 1);
	ASSERT_NOT_DONE(faulting);
	EXPECT_LOG("flush 1/3: 0x12000 1 0x100 0x1");
	end(&outer);
	ASSERT_EQ(active(gms), 0);
	join(faulting);
	ASSERT_EQ(LOAD(gms->ms_wait_queue.wakeups), 2);
	EXPECT_LOG("loaded");
	gru_drop_mmu_notifier(gms);
	mmu_notifier_synchronize();
	teardown();
}

/* The start op never refuses, and code of another kernel version can announce the change (DV-15). */
TEST(nonblockable_and_foreign_ranges)
{
	struct mmu_notifier_range foreign;
	struct gru_mm_struct *gms;
	struct env_range range;

	setup();
	gms = get(mm);
	use(gms, 0, 0x100, 1);
	env_range_init(&range, MMU_NOTIFY_UNMAP, mm, 0x10000, 0x12000);
	hold(mm);
	ASSERT_EQ(env_range_start_nonblock(&range), 0);
	ASSERT_EQ(active(gms), 1);
	EXPECT_LOG("flush 0/3: 0x10000 2 0x100 0x1");
	foreign = make_range(mm, 0x30000, 0x33000);
	range_start(&foreign);
	ASSERT_EQ(active(gms), 2);
	EXPECT_LOG("flush 0/3: 0x30000 3 0x100 0x1");
	range_end(&foreign);
	env_range_end(&range);
	let_go(mm);
	ASSERT_EQ(active(gms), 0);
	gru_drop_mmu_notifier(gms);
	mmu_notifier_synchronize();
	teardown();
}

static void *do_get(void *unused)
{
	(void)unused;
	return get(mm);
}

/* RG-9: who comes during a change waits for its end, so that no end comes without its start. */
TEST(newcomer_waits_for_the_range_under_way)
{
	struct gru_mm_struct *gms;
	struct env_range range;
	struct thread *newcomer;

	setup();
	start(&range, 0x10000, 0x11000);
	newcomer = spawn(do_get, NULL);
	wait_until_blocked(newcomer, MMU_NOTIFIER_WAIT_MMAP_LOCK);
	ASSERT_NOT_WOKEN(newcomer);
	ASSERT_EQ(STATISTIC(gms_alloc), 0);
	end(&range);
	gms = join(newcomer);
	ASSERT_EQ(active(gms), 0);
	ASSERT_EQ(gms->ms_wait_queue.wakeups, 0);
	ASSERT_EQ(STATISTIC(mmu_invalidate_range), 0);
	change(0x10000, 0x11000);
	ASSERT_EQ(active(gms), 0);
	ASSERT_EQ(gms->ms_wait_queue.wakeups, 1);
	ASSERT_EQ(STATISTIC(mmu_invalidate_range), 1);
	gru_drop_mmu_notifier(gms);
	mmu_notifier_synchronize();
	teardown();
}

static void *do_change(void *of)
{
	change_of(of, 0x10000, 0x11000);
	return NULL;
}

/* GP-5 to GP-7, DV-5: the last put does not wait; the memory and the count go when nobody is inside any more. */
TEST(drop_while_a_flush_runs)
{
	struct thread *changer, *leaver;
	struct gru_mm_struct *gms, *next;
	struct gate gate = { 0 };

	setup();
	gms = get(mm);
	use(gms, 0, 0x100, 1);
	flush_gate = &gate;
	changer = spawn(do_change, mm);
	gate_wait(&gate);
	gru_drop_mmu_notifier(gms);
	leaver = spawn(do_synchronize, NULL);
	WAIT_FOR(LOAD(leaver->reason) == MMU_NOTIFIER_WAIT_FREE || LOAD(leaver->reason) == MMU_NOTIFIER_WAIT_GRACE_PERIOD);
	ASSERT_NOT_DONE(leaver);
	ASSERT_EQ(STATISTIC(gms_free), 0);
	ASSERT_EQ(mm_count(mm), 3);
	EXPECT_LOG("flush 0/3: 0x10000 1 0x100 0x1");
	gate_open(&gate);
	join(changer);
	join(leaver);
	ASSERT_EQ(STATISTIC(gms_free), 1);
	ASSERT_EQ(env_allocated(), 0);
	ASSERT_EQ(mm_count(mm), 2);

	/* A process that comes back gets a new one. */
	next = get(mm);
	ASSERT_EQ(STATISTIC(gms_alloc), 2);
	ASSERT_EQ(mm_count(mm), 3);
	gru_drop_mmu_notifier(next);
	mmu_notifier_synchronize();
	teardown();
}

/* A dropped notifier that waits for its end is not handed out again. */
TEST(get_while_the_old_one_goes)
{
	struct gru_mm_struct *gms, *next, *others;
	struct mm_struct *other = mm_alloc();
	struct gate gate = { 0 };
	struct thread *changer;

	setup();
	others = get(other);
	use(others, 2, 0x300, 1);
	gms = get(mm);
	/* Someone is inside of a callback of another mm: DV-6. */
	flush_gate = &gate;
	changer = spawn(do_change, other);
	gate_wait(&gate);
	gru_drop_mmu_notifier(gms);
	next = get(mm);
	ASSERT_NE(next, gms);
	ASSERT_EQ(STATISTIC(gms_free), 0);
	ASSERT_EQ(mm_count(mm), 4);
	use(next, 0, 0x100, 1);
	change(0x40000, 0x41000);
	EXPECT_LOG("flush 2/13: 0x10000 1 0x300 0x1", "flush 0/3: 0x40000 1 0x100 0x1");
	gate_open(&gate);
	join(changer);
	mmu_notifier_synchronize();
	ASSERT_EQ(STATISTIC(gms_free), 1);
	ASSERT_EQ(mm_count(mm), 3);
	gru_drop_mmu_notifier(next);
	gru_drop_mmu_notifier(others);
	mmu_notifier_synchronize();
	ASSERT_EQ(mm_count(other), 1);
	mmput(other);
	teardown();
}

/* GP-9: the end of the process unlinks it; the drop is still owed, and frees it. */
TEST(process_exits_first)
{
	struct gru_mm_struct *gms;

	setup();
	gms = get(mm);
	ASSERT_EQ(get(mm), gms);
	use(gms, 0, 0x100, 1);
	mmput(mm);
	ASSERT_EQ(mm_users(mm), 0);
	ASSERT_EQ(mm_count(mm), 2);
	change(0x10000, 0x11000);
	EXPECT_LOG();
	gru_drop_mmu_notifier(gms);
	mmu_notifier_synchronize();
	ASSERT_EQ(STATISTIC(gms_free), 0);
	ASSERT_EQ(mm_count(mm), 2);
	gru_drop_mmu_notifier(gms);
	mmu_notifier_synchronize();
	ASSERT_EQ(STATISTIC(gms_free), 1);
	ASSERT_EQ(env_allocated(), 0);
	ASSERT_EQ(mm_count(mm), 1);
	mmdrop(mm);
	ASSERT_EQ(mmu_notifier_report_count(MMU_NOTIFIER_REPORT_WARN), 0);
}

/* On the process's own mm, whose real changes are flushed. */
TEST(changes_of_the_process)
{
	unsigned long at;
	struct gru_mm_struct *gms;
	char want[96], after[96];
	int users, count;

	machine();
	mm = current->mm;
	users = mm_users(mm);
	count = mm_count(mm);
	at = vm_mmap(NULL, 0, 4 * PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE, 0);
	ASSERT(!IS_ERR_VALUE(at));
	gms = get(mm);
	ASSERT_EQ(mm_count(mm), count + 1);
	use(gms, 0, 0x100, 1);
	ASSERT_EQ(mmu_notifier_mprotect(at, PAGE_SIZE, PROT_READ), 0);
	ASSERT_EQ(vm_munmap(at + PAGE_SIZE, 3 * PAGE_SIZE), 0);
	snprintf(want, sizeof(want), "flush 0/3: %#lx 1 0x100 0x1", at);
	snprintf(after, sizeof(after), "flush 0/3: %#lx 3 0x100 0x1", at + PAGE_SIZE);
	EXPECT_LOG(want, after);
	ASSERT_EQ(active(gms), 0);
	gru_drop_mmu_notifier(gms);
	mmu_notifier_synchronize();
	ASSERT_EQ(vm_munmap(at, PAGE_SIZE), 0);
	EXPECT_LOG();
	ASSERT_EQ(env_allocated(), 0);
	ASSERT_EQ(mm_users(mm), users);
	ASSERT_EQ(mm_count(mm), count);
}
