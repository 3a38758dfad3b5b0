/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * hfi1's mmu_rb.c, unmodified: a cache of pinned buffers in an interval tree, which a notifier empties. The buffers here
 * are struct pinned; the driver calls `remove` for those that it gives up, from a work queue after an invalidation.
 */
#include "test.h"
#include "env.h"
#include "mmu_rb.h"
#include "trace.h"

/* ----------------------------------------------------------- the driver's other half */

struct pinned {
	struct mmu_rb_node node;
	const char *name;
	bool removed;
};

static struct mm_struct *mm;
static struct mmu_rb_handler *handler;
static struct workqueue_struct *queue;
/* Where the next `remove`, or the next traced event of that name, stands. */
static struct gate *remove_gate;
static const char *trace_at;
static struct gate *trace_gate;
/* Does `remove` take mmap_lock for writing? */
static bool remove_locks;

void hfi1_trace(const char *event)
{
	struct gate *gate = LOAD(trace_gate);

	if (gate && trace_at && !strcmp(event, trace_at)) {
		STORE(trace_gate, NULL);
		gate_pass(gate);
	}
}

static void on_remove(void *arg, struct mmu_rb_node *node)
{
	struct pinned *self = container_of(node, struct pinned, node);
	struct gate *gate = LOAD(remove_gate);

	ASSERT_EQ(arg, &mm);
	ASSERT_EQ(spin_is_locked(&handler->lock), 0);
	if (gate) {
		STORE(remove_gate, NULL);
		gate_pass(gate);
	}
	if (remove_locks) {
		mmap_write_lock(mm);
		mmap_write_unlock(mm);
	}
	ASSERT(!self->removed);
	note("%s.remove", self->name);
	STORE(self->removed, true);
}

/* Evicts `arg` bytes and then stops. */
static int on_evict(void *arg, struct mmu_rb_node *node, void *evict_arg, bool *stop)
{
	unsigned long *bytes = evict_arg;

	ASSERT_EQ(arg, &mm);
	note("%s.evict", container_of(node, struct pinned, node)->name);
	*bytes -= node->len < *bytes ? node->len : *bytes;
	*stop = !*bytes;
	return 1;
}

static struct mmu_rb_ops ops = { .remove = on_remove, .evict = on_evict };

static struct pinned pinned(const char *name, unsigned long addr, unsigned long len)
{
	struct pinned self = { .node = { .addr = addr, .len = len }, .name = name };

	kref_init(&self.node.refcount);
	return self;
}

static int insert(struct pinned *pinned) { return hfi1_mmu_rb_insert(handler, &pinned->node); }

static struct pinned *first(unsigned long addr, unsigned long len)
{
	struct mmu_rb_node *node;

	spin_lock(&handler->lock);
	node = hfi1_mmu_rb_get_first(handler, addr, len);
	spin_unlock(&handler->lock);
	return node ? container_of(node, struct pinned, node) : NULL;
}

/* An mm of one's own, which the case also holds a count of, and the driver on it. */
static void setup(void)
{
	mm = mm_alloc();
	mmgrab(mm);
	current->mm = mm;
	queue = env_workqueue();
	ASSERT_EQ(hfi1_mmu_rb_register(&mm, &ops, queue, &handler), 0);
	ASSERT_EQ(mm_users(mm), 1);
	ASSERT_EQ(mm_count(mm), 3);
}

static void *unregister(void *unused)
{
	hfi1_mmu_rb_unregister(handler);
	return unused;
}

/* The driver is gone and has given back all that it had. */
static void teardown(void)
{
	ASSERT_EQ(env_allocated(), 0);
	ASSERT_EQ(mm_users(mm), 1);
	ASSERT_EQ(mm_count(mm), 2);
	mmput(mm);
	ASSERT_EQ(mm_count(mm), 1);
	mmdrop(mm);
	ASSERT_EQ(mmu_notifier_report_count(MMU_NOTIFIER_REPORT_WARN), 0);
}

/* Announces a change of the addresses, in the driver's kernel's own terms. */
static void announce(unsigned long start, unsigned long end)
{
	struct env_range range;

	env_range_init(&range, MMU_NOTIFY_CLEAR, mm, start, end);
	hold(mm);
	env_range_start(&range);
	env_range_end(&range);
	let_go(mm);
}

/* And lets the driver do what it has put off. */
static void change(unsigned long start, unsigned long end)
{
	announce(start, end);
	flush_work(&handler->del_work);
}

/* ------------------------------------------------------------------------------- cases */

TEST(insert_and_search)
{
	struct pinned a = pinned("a", 0x10100, 0x100), b = pinned("b", 0x20000, 0x2000), again = pinned("again", 0x21000, 1);
	struct mm_struct *other = mm_alloc();

	setup();
	ASSERT_EQ(insert(&a), 0);
	ASSERT_EQ(insert(&b), 0);
	ASSERT_EQ(insert(&again), -EEXIST);
	current->mm = other;
	ASSERT_EQ(insert(&again), -EPERM);
	current->mm = mm;
	/* A buffer takes up whole pages. */
	ASSERT_EQ(first(0x10000, 1), &a);
	ASSERT_EQ(first(0x10fff, 1), &a);
	ASSERT_EQ(first(0x0ffff, 1), NULL);
	ASSERT_EQ(first(0x11000, 0xf000), NULL);
	ASSERT_EQ(first(0x11000, 0xf001), &b);
	ASSERT_EQ(first(0, 0x30000), &a);
	EXPECT_LOG();
	unregister(NULL);
	ASSERT(a.removed && b.removed && !again.removed);
	mmput(other);
	teardown();
}

TEST(invalidation_removes_exactly_what_it_overlaps)
{
	struct pinned a = pinned("a", 0x10100, 0x100), b = pinned("b", 0x12000, 0x1000), c = pinned("c", 0x14000, 0x3000),
		d = pinned("d", 0x20000, 0x1000);

	setup();
	ASSERT_EQ(insert(&d), 0);
	ASSERT_EQ(insert(&c), 0);
	ASSERT_EQ(insert(&b), 0);
	ASSERT_EQ(insert(&a), 0);
	change(0x11000, 0x12000);	/* the hole between a and b */
	change(0x13000, 0x14000);	/* between b and c */
	change(0x17000, 0x20000);	/* between c and d */
	change(0x21000, 0x40000);
	EXPECT_LOG();
	change(0x16fff, 0x20000);	/* the last byte of c */
	EXPECT_LOG("c.remove");
	ASSERT_EQ(first(0x14000, 0x3000), NULL);
	change(0x10fff, 0x12001);	/* the last of a, the first of b */
	ASSERT(logged("a.remove") && logged("b.remove"));
	ASSERT_EQ(LOAD(test_log_end), 2);
	ASSERT_EQ(first(0, ~0UL), &d);
	STORE(test_log_end, 0);
	/* What was removed can come back, at another place. */
	a = pinned("a", 0x50000, 0x1000);
	ASSERT_EQ(insert(&a), 0);
	change(0x50000, 0x51000);
	EXPECT_LOG("a.remove");
	unregister(NULL);
	EXPECT_LOG("d.remove");
	teardown();
}

/* The start op never refuses, and code of another kernel version can announce the change (DV-15). */
TEST(nonblockable_and_foreign_ranges)
{
	struct pinned a = pinned("a", 0x10000, 0x1000), b = pinned("b", 0x20000, 0x1000), c = pinned("c", 0x30000, 0x1000);
	struct mmu_notifier_range foreign;
	struct env_range range;

	setup();
	ASSERT_EQ(insert(&a), 0);
	ASSERT_EQ(insert(&b), 0);
	ASSERT_EQ(insert(&c), 0);
	env_range_init(&range, MMU_NOTIFY_UNMAP, mm, 0x10000, 0x11000);
	hold(mm);
	ASSERT_EQ(env_range_start_nonblock(&range), 0);
	env_range_end(&range);
	let_go(mm);
	flush_work(&handler->del_work);
	EXPECT_LOG("a.remove");
	foreign = make_range(mm, 0x20000, 0x21000);
	range_start(&foreign);
	range_end(&foreign);
	flush_work(&handler->del_work);
	EXPECT_LOG("b.remove");
	unregister(NULL);
	EXPECT_LOG("c.remove");
	teardown();
}

/* A buffer that is in use leaves the tree at once, and is removed when its last user is done. */
TEST(buffer_in_use_is_removed_later)
{
	struct pinned a = pinned("a", 0x10000, 0x1000);

	setup();
	ASSERT_EQ(insert(&a), 0);
	kref_get(&a.node.refcount);
	change(0x10000, 0x11000);
	EXPECT_LOG();
	ASSERT_EQ(first(0x10000, 0x1000), NULL);
	kref_put(&a.node.refcount, hfi1_mmu_rb_release);
	flush_work(&handler->del_work);
	EXPECT_LOG("a.remove");
	unregister(NULL);
	EXPECT_LOG();
	teardown();
}

TEST(evict_in_lru_order)
{
	struct pinned a = pinned("a", 0x10000, 0x1000), b = pinned("b", 0x20000, 0x1000), c = pinned("c", 0x30000, 0x1000),
		d = pinned("d", 0x40000, 0x1000);
	struct mm_struct *other = mm_alloc();
	unsigned long bytes = 0x2000;

	setup();
	ASSERT_EQ(insert(&a), 0);
	ASSERT_EQ(insert(&b), 0);
	ASSERT_EQ(insert(&c), 0);
	ASSERT_EQ(insert(&d), 0);
	ASSERT_EQ(first(0x10000, 1), &a);	/* a is the youngest now */
	kref_get(&b.node.refcount);
	current->mm = other;
	hfi1_mmu_rb_evict(handler, &bytes);	/* refused: not the driver's process */
	EXPECT_LOG();
	current->mm = mm;
	hfi1_mmu_rb_evict(handler, &bytes);	/* b is in use: c and d */
	EXPECT_LOG("c.evict", "d.evict", "d.remove", "c.remove");
	ASSERT_EQ(bytes, 0);
	ASSERT_EQ(first(0x30000, 0x20000), NULL);
	ASSERT_EQ(first(0, 0x20000), &a);
	kref_put(&b.node.refcount, hfi1_mmu_rb_release);
	unregister(NULL);
	ASSERT(a.removed && b.removed);
	mmput(other);
	teardown();
}

/* `remove` may take mmap_lock: it runs on a thread that the changer, who holds it, does not wait for. */
TEST(remove_waits_for_the_changer_not_the_other_way_round)
{
	struct pinned a = pinned("a", 0x10000, 0x1000);
	struct env_range range;

	setup();
	remove_locks = true;
	ASSERT_EQ(insert(&a), 0);
	env_range_init(&range, MMU_NOTIFY_UNMAP, mm, 0x10000, 0x11000);
	hold(mm);
	env_range_start(&range);
	ASSERT_EQ(first(0x10000, 0x1000), NULL);
	wait_until_worker_blocked(MMU_NOTIFIER_WAIT_MMAP_LOCK);
	ASSERT(!LOAD(a.removed));
	env_range_end(&range);
	ASSERT(!LOAD(a.removed));
	let_go(mm);
	flush_work(&handler->del_work);
	EXPECT_LOG("a.remove");
	unregister(NULL);
	teardown();
}

static void *do_change(void *unused)
{
	announce(0x10000, 0x11000);
	return unused;
}

/* UN-4: unregister returns when no callback runs any more, and its own flush when no work does. */
TEST(unregister_waits_for_callback_and_work)
{
	struct pinned a = pinned("a", 0x10000, 0x1000), b = pinned("b", 0x20000, 0x1000);
	struct gate callback = { 0 }, work = { 0 };
	struct thread *changer, *leaver;

	setup();
	ASSERT_EQ(insert(&a), 0);
	ASSERT_EQ(insert(&b), 0);
	trace_at = "invalidate";
	trace_gate = &callback;
	remove_gate = &work;
	changer = spawn(do_change, NULL);
	gate_wait(&callback);
	leaver = spawn(unregister, NULL);
	wait_until_blocked(leaver, MMU_NOTIFIER_WAIT_GRACE_PERIOD);
	ASSERT_NOT_DONE(leaver);
	ASSERT(!LOAD(a.removed) && !LOAD(b.removed));
	gate_open(&callback);
	gate_wait(&work);
	join(changer);		/* it does not wait for the work */
	ASSERT_NOT_DONE(leaver);
	ASSERT(!LOAD(a.removed) && !LOAD(b.removed));
	gate_open(&work);
	join(leaver);
	EXPECT_LOG("a.remove", "b.remove");
	teardown();
}

/* Two drivers on one mm: both hear of a change, the newer first; one can go while the other stays. */
TEST(two_handlers)
{
	struct pinned a = pinned("a", 0x10000, 0x1000), b = pinned("b", 0x10000, 0x1000), c = pinned("c", 0x20000, 0x1000);
	struct mmu_rb_handler *older, *newer;

	setup();
	older = handler;
	ASSERT_EQ(hfi1_mmu_rb_register(&mm, &ops, queue, &newer), 0);
	ASSERT_EQ(mm_count(mm), 4);
	ASSERT_EQ(hfi1_mmu_rb_insert(older, &a.node), 0);
	ASSERT_EQ(hfi1_mmu_rb_insert(newer, &b.node), 0);
	ASSERT_EQ(hfi1_mmu_rb_insert(older, &c.node), 0);
	change(0x10000, 0x11000);
	flush_work(&newer->del_work);
	EXPECT_LOG("b.remove", "a.remove");
	handler = newer;
	unregister(NULL);
	ASSERT_EQ(mm_count(mm), 3);
	handler = older;
	change(0x20000, 0x21000);
	EXPECT_LOG("c.remove");
	unregister(NULL);
	teardown();
}

/* RL-2, RL-4: the end of the mm unlinks the notifier, which has no release op; unregister is still owed. */
TEST(process_exits_first)
{
	struct pinned a = pinned("a", 0x10000, 0x1000);

	setup();
	ASSERT_EQ(insert(&a), 0);
	mmput(mm);
	ASSERT_EQ(mm_users(mm), 0);
	ASSERT_EQ(mm_count(mm), 2);
	ASSERT(hlist_unhashed(&handler->mn.hlist));
	change(0x10000, 0x11000);	/* nobody listens */
	EXPECT_LOG();
	unregister(NULL);
	EXPECT_LOG("a.remove");
	ASSERT_EQ(mm_count(mm), 1);
	ASSERT_EQ(env_allocated(), 0);
	mmdrop(mm);
	ASSERT_EQ(mmu_notifier_report_count(MMU_NOTIFIER_REPORT_WARN), 0);
}

/* On the process's own mm, where real unmapping is what empties the cache. */
TEST(munmap_of_the_process)
{
	unsigned long at = vm_mmap(NULL, 0, 4 * PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE, 0);
	struct pinned a = pinned("a", at, 100), b = pinned("b", at + 3 * PAGE_SIZE, 100);
	int users, count;

	ASSERT(!IS_ERR_VALUE(at));
	mm = current->mm;
	users = mm_users(mm);
	count = mm_count(mm);
	queue = env_workqueue();
	ASSERT_EQ(hfi1_mmu_rb_register(&mm, &ops, queue, &handler), 0);
	ASSERT_EQ(mm_count(mm), count + 1);
	ASSERT_EQ(insert(&a), 0);
	ASSERT_EQ(insert(&b), 0);
	ASSERT_EQ(vm_munmap(at, 3 * PAGE_SIZE), 0);
	flush_work(&handler->del_work);
	EXPECT_LOG("a.remove");
	ASSERT_EQ(first(at, 4 * PAGE_SIZE), &b);
	unregister(NULL);
	EXPECT_LOG("b.remove");
	ASSERT_EQ(vm_munmap(at, 4 * PAGE_SIZE), 0);
	ASSERT_EQ(env_allocated(), 0);
	ASSERT_EQ(mm_users(mm), users);
	ASSERT_EQ(mm_count(mm), count);
}
