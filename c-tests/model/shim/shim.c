/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The library as src/library sees it: public headers only, everything a
 * function of plain numbers and pointers. Objects are filled with POISON
 * before they are used, and again when the contract says that the library has
 * done with them.
 */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <linux/mmu_notifier.h>
#include <linux/sched/mm.h>
#include <mmu_notifier/report.h>
#include <mmu_notifier/wait.h>

#define POISON 0x5a
#define SETS 64
#define RANGES 64

/* The order of src/contract/ops.rs, enum Op. */
enum { REL, CFY, CY, TY, CPTE, START, END, TLB, ALLOC, FREE, INV };

/* What src/library/shim.rs has for us. */
extern long mn_on_list(int op, size_t id, struct mm_struct *mm, unsigned long a, unsigned long b);
extern long mn_on_range(int op, size_t id, struct mm_struct *mm, unsigned long start,
			unsigned long end, unsigned int flags, int event, unsigned long owner,
			unsigned long seq);
extern void *mn_on_alloc(struct mm_struct *mm);
extern void mn_on_free(size_t id);
extern void mn_on_report(int kind, const char *rule);
extern void mn_on_wait_begin(const void *queue, int reason);
extern void mn_on_wait_end(const void *queue, int reason);
extern void mn_on_wake(const void *queue, int reason);

struct list_object { struct mmu_notifier sub; size_t id; };
struct interval_object { struct mmu_interval_notifier sub; size_t id; };

/* ---------------------------------------------------------- objects */

struct list_object *mn_list_new(size_t id)
{
	struct list_object *o = malloc(sizeof(*o));

	memset(o, POISON, sizeof(*o));
	o->id = id;
	return o;
}

struct interval_object *mn_interval_new(size_t id)
{
	struct interval_object *o = malloc(sizeof(*o));

	memset(o, POISON, sizeof(*o));
	o->id = id;
	return o;
}

static bool is_poison(const void *memory, size_t size)
{
	const unsigned char *byte = memory;

	for (size_t i = 0; i < size; i++)
		if (byte[i] != POISON)
			return false;
	return true;
}

void mn_list_poison(struct list_object *o) { memset(&o->sub, POISON, sizeof(o->sub)); }
void mn_interval_poison(struct interval_object *o) { memset(&o->sub, POISON, sizeof(o->sub)); }
bool mn_list_untouched(struct list_object *o) { return is_poison(&o->sub, sizeof(o->sub)); }
bool mn_interval_untouched(struct interval_object *o) { return is_poison(&o->sub, sizeof(o->sub)); }
void mn_free_memory(void *memory) { free(memory); }

/* The driver's view of a list subscriber: its users, and is it linked? */
unsigned int mn_list_users(struct list_object *o) { return o->sub.users; }
void mn_list_set_users(struct list_object *o, unsigned int users) { o->sub.users = users; }
bool mn_list_linked(struct list_object *o) { return !hlist_unhashed(&o->sub.hlist); }

/* ---------------------------------------------------------- callbacks */

static struct list_object *list_of(struct mmu_notifier *sub)
{
	return container_of(sub, struct list_object, sub);
}

static void on_release(struct mmu_notifier *sub, struct mm_struct *mm)
{
	mn_on_list(REL, list_of(sub)->id, mm, 0, 0);
}

static int on_cfy(struct mmu_notifier *sub, struct mm_struct *mm, unsigned long start, unsigned long end)
{
	return mn_on_list(CFY, list_of(sub)->id, mm, start, end);
}

static int on_cy(struct mmu_notifier *sub, struct mm_struct *mm, unsigned long start, unsigned long end)
{
	return mn_on_list(CY, list_of(sub)->id, mm, start, end);
}

static int on_ty(struct mmu_notifier *sub, struct mm_struct *mm, unsigned long address)
{
	return mn_on_list(TY, list_of(sub)->id, mm, address, 0);
}

static void on_cpte(struct mmu_notifier *sub, struct mm_struct *mm, unsigned long address, pte_t pte)
{
	unsigned long value;

	memcpy(&value, &pte, sizeof(value));
	mn_on_list(CPTE, list_of(sub)->id, mm, address, value);
}

static void on_tlb(struct mmu_notifier *sub, struct mm_struct *mm, unsigned long start, unsigned long end)
{
	mn_on_list(TLB, list_of(sub)->id, mm, start, end);
}

static long on_range(int op, size_t id, const struct mmu_notifier_range *r, unsigned long seq)
{
	return mn_on_range(op, id, r->mm, r->start, r->end, r->flags, r->event,
			   (unsigned long)r->owner, seq);
}

static int on_start(struct mmu_notifier *sub, const struct mmu_notifier_range *r)
{
	return on_range(START, list_of(sub)->id, r, 0);
}

static void on_end(struct mmu_notifier *sub, const struct mmu_notifier_range *r)
{
	on_range(END, list_of(sub)->id, r, 0);
}

static bool on_invalidate(struct mmu_interval_notifier *sub, const struct mmu_notifier_range *r,
			  unsigned long seq)
{
	return on_range(INV, container_of(sub, struct interval_object, sub)->id, r, seq);
}

static struct mmu_notifier *on_alloc(struct mm_struct *mm) { return mn_on_alloc(mm); }
static void on_free(struct mmu_notifier *sub) { mn_on_free(list_of(sub)->id); }

static struct mmu_notifier_ops list_ops[SETS];
static struct mmu_interval_notifier_ops interval_ops[SETS];

/* has: a bit for each op. */
void mn_define_ops(size_t set, unsigned int has)
{
	struct mmu_notifier_ops *ops = &list_ops[set];

	ops->release = has & 1 << REL ? on_release : NULL;
	ops->clear_flush_young = has & 1 << CFY ? on_cfy : NULL;
	ops->clear_young = has & 1 << CY ? on_cy : NULL;
	ops->test_young = has & 1 << TY ? on_ty : NULL;
	ops->change_pte = has & 1 << CPTE ? on_cpte : NULL;
	ops->invalidate_range_start = has & 1 << START ? on_start : NULL;
	ops->invalidate_range_end = has & 1 << END ? on_end : NULL;
	ops->arch_invalidate_secondary_tlbs = has & 1 << TLB ? on_tlb : NULL;
	ops->alloc_notifier = has & 1 << ALLOC ? on_alloc : NULL;
	ops->free_notifier = has & 1 << FREE ? on_free : NULL;
}

void mn_define_interval_ops(size_t set) { interval_ops[set].invalidate = on_invalidate; }

/* ---------------------------------------------------------- hooks */

static void on_report(const struct mmu_notifier_report *report, void *data)
{
	(void)data;
	mn_on_report(report->kind, report->rule);
}

static void on_wait_begin(void *data, const void *queue, enum mmu_notifier_wait_reason reason)
{
	(void)data;
	mn_on_wait_begin(queue, reason);
}

static void on_wait_end(void *data, const void *queue, enum mmu_notifier_wait_reason reason)
{
	(void)data;
	mn_on_wait_end(queue, reason);
}

static void on_wake(void *data, const void *queue, enum mmu_notifier_wait_reason reason)
{
	(void)data;
	mn_on_wake(queue, reason);
}

void mn_install(void)
{
	static const struct mmu_notifier_wait_hook hook = { on_wait_begin, on_wait_end, on_wake, NULL };

	mmu_notifier_set_report_handler(on_report, NULL);
	mmu_notifier_set_wait_hook(&hook);
}

/* ---------------------------------------------------------- calls */

struct mm_struct *mn_mm_alloc(void) { return mm_alloc(); }
void mn_mmget(struct mm_struct *mm) { mmget(mm); }
bool mn_mmget_not_zero(struct mm_struct *mm) { return mmget_not_zero(mm); }
void mn_mmput(struct mm_struct *mm) { mmput(mm); }
void mn_mmgrab(struct mm_struct *mm) { mmgrab(mm); }
void mn_mmdrop(struct mm_struct *mm) { mmdrop(mm); }
long mn_mm_users(struct mm_struct *mm) { return atomic_read(&mm->mm_users); }
long mn_mm_count(struct mm_struct *mm) { return atomic_read(&mm->mm_count); }
bool mn_has(struct mm_struct *mm) { return mm_has_notifiers(mm); }

void mn_lock(struct mm_struct *mm, bool write) { write ? mmap_write_lock(mm) : mmap_read_lock(mm); }
void mn_unlock(struct mm_struct *mm, bool write) { write ? mmap_write_unlock(mm) : mmap_read_unlock(mm); }

long mn_register(struct list_object *o, struct mm_struct *mm, size_t set, bool locked)
{
	o->sub.ops = &list_ops[set];
	return locked ? __mmu_notifier_register(&o->sub, mm) : mmu_notifier_register(&o->sub, mm);
}

void mn_unregister(struct list_object *o, struct mm_struct *mm) { mmu_notifier_unregister(&o->sub, mm); }
void mn_put(struct list_object *o) { mmu_notifier_put(&o->sub); }
void mn_synchronize(void) { mmu_notifier_synchronize(); }

/* The id in *id and 0, or the error. */
long mn_get(struct mm_struct *mm, size_t set, bool locked, size_t *id)
{
	struct mmu_notifier *sub = locked ? mmu_notifier_get_locked(&list_ops[set], mm)
					  : mmu_notifier_get(&list_ops[set], mm);

	if (IS_ERR(sub))
		return PTR_ERR(sub);
	*id = list_of(sub)->id;
	return 0;
}

/* Does the subscriber name this mm and these ops? */
bool mn_list_is_of(struct list_object *o, struct mm_struct *mm, size_t set)
{
	return o->sub.mm == mm && o->sub.ops == &list_ops[set];
}

long mn_insert(struct interval_object *o, struct mm_struct *mm, unsigned long start,
	       unsigned long length, size_t set, bool locked)
{
	return locked ? mmu_interval_notifier_insert_locked(&o->sub, mm, start, length, &interval_ops[set])
		      : mmu_interval_notifier_insert(&o->sub, mm, start, length, &interval_ops[set]);
}

void mn_remove(struct interval_object *o) { mmu_interval_notifier_remove(&o->sub); }
unsigned long mn_read_begin(struct interval_object *o) { return mmu_interval_read_begin(&o->sub); }
bool mn_read_retry(struct interval_object *o, unsigned long seq) { return mmu_interval_read_retry(&o->sub, seq); }
bool mn_check_retry(struct interval_object *o, unsigned long seq) { return mmu_interval_check_retry(&o->sub, seq); }
void mn_set_seq(struct interval_object *o, unsigned long seq) { mmu_interval_set_seq(&o->sub, seq); }

/* The fields of an interval subscriber that the contract speaks of. */
struct mm_struct *mn_interval_mm(struct interval_object *o) { return o->sub.mm; }
unsigned long mn_interval_start(struct interval_object *o) { return o->sub.interval_tree.start; }
unsigned long mn_interval_last(struct interval_object *o) { return o->sub.interval_tree.last; }
unsigned long mn_interval_seq(struct interval_object *o) { return o->sub.invalidate_seq; }
bool mn_interval_empty(struct interval_object *o) { return RB_EMPTY_NODE(&o->sub.interval_tree.rb); }

bool mn_interval_item_untouched(struct interval_object *o)
{
	return is_poison(&o->sub.deferred_item, sizeof(o->sub.deferred_item));
}

/* The set, or SETS for other ops. */
size_t mn_interval_ops(struct interval_object *o)
{
	for (size_t set = 0; set < SETS; set++)
		if (o->sub.ops == &interval_ops[set])
			return set;
	return SETS;
}

static struct mmu_notifier_range ranges[RANGES];

void mn_range_init(size_t slot, struct mm_struct *mm, unsigned long start, unsigned long end,
		   unsigned int flags, int event, bool owned, unsigned long owner)
{
	struct mmu_notifier_range *r = &ranges[slot];

	memset(r, 0, sizeof(*r));
	if (owned)
		mmu_notifier_range_init_owner(r, event, flags, mm, start, end, (void *)owner);
	else
		mmu_notifier_range_init(r, event, flags, mm, start, end);
}

void mn_start(size_t slot) { mmu_notifier_invalidate_range_start(&ranges[slot]); }
long mn_start_nonblock(size_t slot) { return mmu_notifier_invalidate_range_start_nonblock(&ranges[slot]); }
void mn_end(size_t slot) { mmu_notifier_invalidate_range_end(&ranges[slot]); }
unsigned int mn_range_flags(size_t slot) { return ranges[slot].flags; }

long mn_clear_flush_young(struct mm_struct *mm, unsigned long start, unsigned long end)
{
	return mmu_notifier_clear_flush_young(mm, start, end);
}

long mn_clear_young(struct mm_struct *mm, unsigned long start, unsigned long end)
{
	return mmu_notifier_clear_young(mm, start, end);
}

long mn_test_young(struct mm_struct *mm, unsigned long address) { return mmu_notifier_test_young(mm, address); }

void mn_change_pte(struct mm_struct *mm, unsigned long address, unsigned long value)
{
	pte_t pte;

	memset(&pte, 0, sizeof(pte));
	memcpy(&pte, &value, sizeof(pte) < sizeof(value) ? sizeof(pte) : sizeof(value));
	mmu_notifier_change_pte(mm, address, pte);
}

void mn_tlb(struct mm_struct *mm, unsigned long start, unsigned long end)
{
	mmu_notifier_arch_invalidate_secondary_tlbs(mm, start, end);
}
