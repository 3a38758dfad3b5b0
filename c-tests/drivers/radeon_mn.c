/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * radeon's radeon_mn.c, unmodified: a buffer object over memory of the process, which is moved out of the device before that
 * memory changes, as soon as the device is done with it. The functions of the driver, of TTM and of the fences that it
 * calls are here, and log.
 */
#include "test.h"
#include "env.h"
#include "radeon.h"

/* ----------------------------------------------------------- the driver's other half */

struct ttm_tt {
	bool bound;		/* in the device's page table */
};

/* What the device still does with the buffer. */
struct dma_resv {
	struct gate fence;	/* open: nothing */
};

struct buffer {
	struct radeon_bo bo;
	struct ttm_tt tt;
	struct dma_resv resv;
	const char *name;
	bool reserved;
	int reserve_fails;
	int errors;
};

static struct buffer *failing;	/* of the next error */

static struct buffer *buffer_of(struct radeon_bo *bo) { return container_of(bo, struct buffer, bo); }

bool radeon_ttm_tt_is_bound(struct ttm_device *device, struct ttm_tt *ttm)
{
	(void)device;
	return LOAD(ttm->bound);
}

int radeon_bo_reserve(struct radeon_bo *bo, bool no_intr)
{
	struct buffer *self = buffer_of(bo);

	note("%s.reserve", self->name);
	ASSERT(no_intr);
	failing = self;
	if (self->reserve_fails)
		return self->reserve_fails;
	ASSERT(!self->reserved);
	self->reserved = true;
	return 0;
}

void radeon_bo_unreserve(struct radeon_bo *bo)
{
	struct buffer *self = buffer_of(bo);

	note("%s.unreserve", self->name);
	ASSERT(self->reserved);
	self->reserved = false;
}

long dma_resv_wait_timeout(struct dma_resv *resv, enum dma_resv_usage usage, bool interruptible, unsigned long timeout)
{
	struct buffer *self = container_of(resv, struct buffer, resv);

	ASSERT(self->reserved);
	ASSERT_EQ(usage, DMA_RESV_USAGE_BOOKKEEP);
	ASSERT(!interruptible);
	ASSERT_EQ(timeout, MAX_SCHEDULE_TIMEOUT);
	note("%s.wait", self->name);
	gate_pass(&resv->fence);
	note("%s.idle", self->name);
	return 1;
}

void radeon_ttm_placement_from_domain(struct radeon_bo *bo, u32 domain)
{
	bo->placement.domain = domain;
}

int ttm_bo_validate(struct ttm_buffer_object *tbo, struct ttm_placement *placement, struct ttm_operation_ctx *ctx)
{
	struct buffer *self = container_of(tbo, struct buffer, bo.tbo);

	ASSERT(self->reserved);
	ASSERT_EQ(placement->domain, RADEON_GEM_DOMAIN_CPU);
	ASSERT(!ctx->interruptible && !ctx->no_wait_gpu);
	note("%s.unbind", self->name);
	STORE(self->tt.bound, false);
	return 0;
}

void radeon_error(const char *format, ...)
{
	(void)format;
	failing->errors++;
}

/* A buffer of `size` bytes that the device has mapped and is done with. */
static void buffer(struct buffer *self, const char *name, unsigned long size)
{
	memset(self, 0, sizeof(*self));
	self->name = name;
	self->tt.bound = true;
	self->resv.fence.open = 1;
	self->bo.tbo.base.size = size;
	self->bo.tbo.base.resv = &self->resv;
	self->bo.tbo.ttm = &self->tt;
}

#define EXPECT_UNBOUND(name) \
	EXPECT_LOG(name ".reserve", name ".wait", name ".idle", name ".unbind", name ".unreserve")

static struct mm_struct *mm;

static void setup(void)
{
	mm = mm_alloc();
	mmgrab(mm);
	current->mm = mm;
}

static void teardown(void)
{
	EXPECT_LOG();
	ASSERT_EQ(mm_users(mm), 1);
	ASSERT_EQ(mm_count(mm), 2);
	mmput(mm);
	ASSERT_EQ(mm_count(mm), 1);
	mmdrop(mm);
	ASSERT_EQ(mmu_notifier_report_count(MMU_NOTIFIER_REPORT_WARN), 0);
}

static void start(struct env_range *range, unsigned long first, unsigned long end)
{
	env_range_init(range, MMU_NOTIFY_UNMAP, mm, first, end);
	hold(mm);
	env_range_start(range);
}

static int start_nonblock(struct env_range *range, unsigned long first, unsigned long end)
{
	int result;

	env_range_init(range, MMU_NOTIFY_UNMAP, mm, first, end);
	hold(mm);
	result = env_range_start_nonblock(range);
	if (result)
		let_go(mm);
	return result;
}

static void end(struct env_range *range)
{
	env_range_end(range);
	let_go(mm);
}

static void change(unsigned long first, unsigned long last)
{
	struct env_range range;

	start(&range, first, last);
	end(&range);
}

/* ------------------------------------------------------------------------------- cases */

TEST(register_and_unregister)
{
	struct buffer a;

	setup();
	buffer(&a, "a", 0x3000);
	radeon_mn_unregister(&a.bo);	/* never registered: nothing */
	ASSERT_EQ(mm_count(mm), 2);
	ASSERT_EQ(radeon_mn_register(&a.bo, 0x10000), 0);
	ASSERT_EQ(mm_count(mm), 3);
	ASSERT_EQ(a.bo.notifier.mm, mm);
	ASSERT_EQ(a.bo.notifier.interval_tree.start, 0x10000);
	ASSERT_EQ(a.bo.notifier.interval_tree.last, 0x12fff);
	radeon_mn_unregister(&a.bo);
	ASSERT_EQ(mm_count(mm), 2);
	ASSERT_EQ(a.bo.notifier.mm, NULL);
	radeon_mn_unregister(&a.bo);
	ASSERT_EQ(mm_count(mm), 2);
	change(0x10000, 0x11000);
	EXPECT_LOG();
	/* Memory that does not exist. */
	ASSERT_EQ(radeon_mn_register(&a.bo, -0x2000UL), -EOVERFLOW);
	ASSERT_EQ(mm_count(mm), 2);
	teardown();
}

TEST(exactly_the_overlapping_buffers_are_unbound)
{
	struct buffer a, b, c;

	setup();
	buffer(&a, "a", 0x1000);
	buffer(&b, "b", 0x2000);
	buffer(&c, "c", 0x1000);
	/* c before b: the order of the calls is that of the addresses. */
	ASSERT_EQ(radeon_mn_register(&c.bo, 0x30000), 0);
	ASSERT_EQ(radeon_mn_register(&b.bo, 0x20000), 0);
	ASSERT_EQ(radeon_mn_register(&a.bo, 0x10000), 0);
	ASSERT_EQ(mm_count(mm), 5);
	change(0x0, 0x10000);
	change(0x11000, 0x20000);
	change(0x22000, 0x30000);
	EXPECT_LOG();
	change(0x21fff, 0x30000);
	EXPECT_UNBOUND("b");
	ASSERT(a.tt.bound && !b.tt.bound && c.tt.bound);
	change(0x20000, 0x22000);	/* not bound: nothing to do */
	EXPECT_LOG();
	b.tt.bound = true;
	change(0x10fff, 0x30001);
	EXPECT_LOG("a.reserve", "a.wait", "a.idle", "a.unbind", "a.unreserve",
		   "b.reserve", "b.wait", "b.idle", "b.unbind", "b.unreserve",
		   "c.reserve", "c.wait", "c.idle", "c.unbind", "c.unreserve");
	c.bo.tbo.ttm = NULL;		/* no pages yet */
	change(0x30000, 0x31000);
	EXPECT_LOG();
	radeon_mn_unregister(&b.bo);
	radeon_mn_unregister(&a.bo);
	radeon_mn_unregister(&c.bo);
	teardown();
}

static void *do_change(void *unused)
{
	change(0x10000, 0x11000);
	note("changed");
	return unused;
}

static void *do_join(void *buffer)
{
	long result;

	current->mm = mm;
	result = radeon_mn_register(&((struct buffer *)buffer)->bo, 0x10000);
	note("registered");
	return (void *)result;
}

static void *do_leave(void *buffer)
{
	radeon_mn_unregister(&((struct buffer *)buffer)->bo);
	note("unregistered");
	return NULL;
}

/*
 * The changer waits for the device; who registers or unregisters a buffer meanwhile waits for the changer: RB-3, IR-6. It
 * does not matter whose memory is changed.
 */
TEST(who_waits_for_whom)
{
	struct buffer a, b, c;
	struct thread *changer, *newcomer, *leaver, *other;

	setup();
	buffer(&a, "a", 0x1000);
	buffer(&b, "b", 0x1000);
	buffer(&c, "c", 0x1000);
	ASSERT_EQ(radeon_mn_register(&a.bo, 0x10000), 0);
	ASSERT_EQ(radeon_mn_register(&c.bo, 0x80000), 0);
	a.resv.fence.open = 0;
	changer = spawn(do_change, NULL);
	gate_wait(&a.resv.fence);
	EXPECT_LOG("a.reserve", "a.wait");

	newcomer = spawn(do_join, &b);
	wait_until_blocked(newcomer, MMU_NOTIFIER_WAIT_READ_BEGIN);
	leaver = spawn(do_leave, &a);
	wait_until_blocked(leaver, MMU_NOTIFIER_WAIT_REMOVE);
	other = spawn(do_leave, &c);
	wait_until_blocked(other, MMU_NOTIFIER_WAIT_REMOVE);
	/* users' 1 and the case's 1; a, b and c */
	ASSERT_EQ(mm_count(mm), 5);
	ASSERT_NOT_DONE(changer);
	ASSERT_NOT_WOKEN(newcomer);
	ASSERT_NOT_WOKEN(leaver);
	ASSERT_NOT_WOKEN(other);
	EXPECT_LOG();

	gate_open(&a.resv.fence);
	join(changer);
	ASSERT_EQ(join(newcomer), 0);
	join(leaver);
	join(other);
	ASSERT(logged("a.idle") && logged("a.unbind") && logged("a.unreserve"));
	ASSERT(logged("changed") && logged("registered") && logged("unregistered"));
	ASSERT_EQ(LOAD(test_log_end), 7);
	STORE(test_log_end, 0);
	ASSERT_EQ(mm_count(mm), 3);
	/* Of a and b, which had the same memory, b is left. */
	change(0x10000, 0x11000);
	EXPECT_UNBOUND("b");
	radeon_mn_unregister(&b.bo);
	teardown();
}

/* A range that touches no buffer does not keep one from leaving (IR-4), but a new one begins to count only at its end (II-7). */
TEST(unrelated_change_under_way)
{
	struct buffer a, b;
	struct env_range range;
	struct thread *newcomer;

	setup();
	buffer(&a, "a", 0x1000);
	buffer(&b, "b", 0x1000);
	ASSERT_EQ(radeon_mn_register(&a.bo, 0x10000), 0);
	start(&range, 0x90000, 0x91000);
	radeon_mn_unregister(&a.bo);
	ASSERT_EQ(mm_count(mm), 2);
	newcomer = spawn(do_join, &b);
	wait_until_blocked(newcomer, MMU_NOTIFIER_WAIT_READ_BEGIN);
	end(&range);
	ASSERT_EQ(join(newcomer), 0);
	EXPECT_LOG("registered");
	radeon_mn_unregister(&b.bo);
	teardown();
}

/* RS-4: a bound buffer refuses a range that may not block; those to the right are not asked, and nobody is left waiting. */
TEST(nonblockable_range_is_refused)
{
	struct buffer a, b;
	struct env_range range;

	setup();
	buffer(&a, "a", 0x1000);
	buffer(&b, "b", 0x1000);
	ASSERT_EQ(radeon_mn_register(&a.bo, 0x10000), 0);
	ASSERT_EQ(radeon_mn_register(&b.bo, 0x20000), 0);
	ASSERT_EQ(start_nonblock(&range, 0x10000, 0x30000), -EAGAIN);
	EXPECT_LOG();
	ASSERT(a.tt.bound && b.tt.bound);
	/* Neither of these may sleep: no range is active. */
	radeon_mn_unregister(&b.bo);
	ASSERT_EQ(radeon_mn_register(&b.bo, 0x20000), 0);
	a.tt.bound = false;
	ASSERT_EQ(start_nonblock(&range, 0x10000, 0x11000), 0);
	end(&range);
	ASSERT_EQ(start_nonblock(&range, 0x10000, 0x20001), -EAGAIN);
	b.tt.bound = false;
	ASSERT_EQ(start_nonblock(&range, 0x10000, 0x20001), 0);
	end(&range);
	a.tt.bound = b.tt.bound = true;
	change(0x10000, 0x11000);
	EXPECT_UNBOUND("a");
	radeon_mn_unregister(&a.bo);
	radeon_mn_unregister(&b.bo);
	teardown();
}

/* The driver swallows its own failures: the range goes on. */
TEST(failing_reserve_is_no_refusal)
{
	struct buffer a, b;

	setup();
	buffer(&a, "a", 0x1000);
	buffer(&b, "b", 0x1000);
	a.reserve_fails = -ERANGE;
	ASSERT_EQ(radeon_mn_register(&a.bo, 0x10000), 0);
	ASSERT_EQ(radeon_mn_register(&b.bo, 0x11000), 0);
	change(0x10000, 0x12000);
	EXPECT_LOG("a.reserve", "b.reserve", "b.wait", "b.idle", "b.unbind", "b.unreserve");
	ASSERT_EQ(a.errors, 1);
	ASSERT_EQ(b.errors, 0);
	radeon_mn_unregister(&a.bo);
	radeon_mn_unregister(&b.bo);
	teardown();
}

/* RL-1: the end of the process unbinds all; the buffers go later, and each drops its count. */
TEST(process_exits_first)
{
	struct buffer a, b;

	setup();
	buffer(&a, "a", 0x1000);
	buffer(&b, "b", 0x1000);
	ASSERT_EQ(radeon_mn_register(&a.bo, 0x10000), 0);
	ASSERT_EQ(radeon_mn_register(&b.bo, 0x7fff00000000), 0);
	mmput(mm);
	EXPECT_LOG("a.reserve", "a.wait", "a.idle", "a.unbind", "a.unreserve",
		   "b.reserve", "b.wait", "b.idle", "b.unbind", "b.unreserve");
	ASSERT_EQ(mm_users(mm), 0);
	ASSERT_EQ(mm_count(mm), 3);
	radeon_mn_unregister(&a.bo);
	ASSERT_EQ(mm_count(mm), 2);
	radeon_mn_unregister(&b.bo);
	ASSERT_EQ(mm_count(mm), 1);
	mmdrop(mm);
	ASSERT_EQ(mmu_notifier_report_count(MMU_NOTIFIER_REPORT_WARN), 0);
}

static void *do_munmap(void *at)
{
	return (void *)(long)vm_munmap((unsigned long)at, PAGE_SIZE);
}

/* On the process's own mm: the memory stays mapped until the device is done. */
TEST(munmap_of_the_process)
{
	unsigned long at = vm_mmap(NULL, 0, 2 * PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE, 0);
	struct thread *unmapper;
	struct buffer a, b;
	int users, count;

	ASSERT(!IS_ERR_VALUE(at));
	mm = current->mm;
	users = mm_users(mm);
	count = mm_count(mm);
	buffer(&a, "a", PAGE_SIZE);
	buffer(&b, "b", PAGE_SIZE);
	ASSERT_EQ(radeon_mn_register(&a.bo, at), 0);
	ASSERT_EQ(radeon_mn_register(&b.bo, at + PAGE_SIZE), 0);
	ASSERT_EQ(mm_count(mm), count + 2);
	a.resv.fence.open = 0;
	unmapper = spawn(do_munmap, (void *)at);
	gate_wait(&a.resv.fence);
	*(volatile char *)at = 1;
	ASSERT_NOT_DONE(unmapper);
	gate_open(&a.resv.fence);
	ASSERT_EQ(join(unmapper), 0);
	EXPECT_UNBOUND("a");
	ASSERT_EQ(msync((void *)at, PAGE_SIZE, MS_ASYNC), -1);
	*(volatile char *)(at + PAGE_SIZE) = 1;
	ASSERT(b.tt.bound);
	radeon_mn_unregister(&a.bo);
	radeon_mn_unregister(&b.bo);
	ASSERT_EQ(vm_munmap(at, 2 * PAGE_SIZE), 0);
	EXPECT_LOG();
	ASSERT_EQ(mm_users(mm), users);
	ASSERT_EQ(mm_count(mm), count);
}
