/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * List notifiers, and the grace periods between their unlink and their free.
 *
 * Each notifier carries an age, as the elements of the kernel's rcutorture do:
 * 0 while it is linked, 1 from when it may be unlinked, 2 once a grace period is
 * over (unregister has returned, or free_notifier is called), and one more for
 * each grace period that its last owner sees after that.  A callback that finds
 * 2 or more, when it begins or when it ends, has outlived a grace period.
 * The memory stays a notifier until the age is PIPE, so that a late callback
 * is seen for certain; its link leads into a trap.  With -f it is really freed.
 *
 * Besides: a walk that began after an unlink was over must not see the notifier
 * (HS-11); an end comes after the same range's start (RG-9); free_notifier is
 * called once.
 */
#include "torture.h"

#define MAGIC 0x600d600d600d600dul
#define DEAD 0xdeaddeaddeaddeadul

unsigned long epoch = 1;
static unsigned int generation;
/* Retired on the worker; whoever needs memory takes from here. */
static pthread_mutex_t freed_lock = PTHREAD_MUTEX_INITIALIZER;
static struct elem *freed_elems[4096];
static int n_freed_elems;
static const struct mmu_notifier_ops ops[N_KINDS];

void walk_begins(struct actor *a)
{
	a->began = acquire(&epoch);
}

void walk_ends(struct actor *a)
{
	a->began = 0;
}

/* ---- callbacks ---- */

static void look(struct actor *a, const struct elem *e, int when, const char *op)
{
	int age = get(&e->age);
	unsigned long gone = get(&e->gone);

	a->ages[when][age < 0 || age > PIPE ? PIPE : age]++;
	if (age > 1)
		fail("%s %s on a notifier of age %d: %d grace periods after its unlink",
		     op, when ? "is still running" : "begins", age, age - 1);
	if (!when && gone && gone <= a->began)
		fail("%s on a notifier that was unlinked before the walk began", op);
}

static struct elem *check(struct mmu_notifier *mn, struct mm_struct *mm, const char *op)
{
	struct elem *e = container_of(mn, struct elem, mn);
	struct actor *a = self();

	count(a, CALLBACK);
	look(a, e, 0, op);
	if (get(&e->magic) != MAGIC)
		fail("%s on something that is no notifier", op);
	if (e->mm != mm)
		fail("%s with another mm than the notifier's", op);
	return e;
}

/* Every callback but release begins and ends with this. */
static struct elem *enter(struct mmu_notifier *mn, struct mm_struct *mm, const char *op)
{
	struct elem *e = check(mn, mm, op);

	add(&e->inside, 1);
	return e;
}

static void leave(struct elem *e, const char *op)
{
	add(&e->inside, -1);
	look(self(), e, 1, op);
}

static void on_release(struct mmu_notifier *mn, struct mm_struct *mm)
{
	struct actor *a = self();
	struct elem *e;

	if (in_child)
		return;
	e = check(mn, mm, "release");
	count(a, RELEASE);
	if (add(&e->releases, 1ul) > 0)
		count(a, RELEASE_TWICE);
	if (a->n_ended < NOTES)
		a->ended[a->n_ended++] = (struct note){ NULL, e, e->gen };
	dawdle(a, true);
	look(a, e, 1, "release");
}

static int on_start(struct mmu_notifier *mn, const struct mmu_notifier_range *range)
{
	struct actor *a = self();
	struct elem *e;

	if (in_child)
		return 0;
	e = enter(mn, range->mm, "invalidate_range_start");
	if (a->n_notes == NOTES)
		fail("too many notes");
	a->notes[a->n_notes++] = (struct note){ range, e, e->gen };
	add(&e->starts, 1ul);
	if (mmu_notifier_range_blockable(range) && one_in(a, 256))
		domain_wait_inside(a);
	dawdle(a, mmu_notifier_range_blockable(range));
	leave(e, "invalidate_range_start");
	return 0;
}

static void on_end(struct mmu_notifier *mn, const struct mmu_notifier_range *range)
{
	struct actor *a = self();
	struct elem *e;
	int i;

	if (in_child)
		return;
	e = enter(mn, range->mm, "invalidate_range_end");
	for (i = a->n_notes - 1; i >= 0; i--)
		if (a->notes[i].range == range && a->notes[i].elem == e &&
		    a->notes[i].gen == e->gen)
			break;
	if (i < 0)
		fail("invalidate_range_end without its start (RG-9)");
	a->notes[i] = a->notes[--a->n_notes];
	add(&e->ends, 1ul);
	dawdle(a, mmu_notifier_range_blockable(range));
	leave(e, "invalidate_range_end");
}

/* The range is over: who was called but is unregistered by now owes nothing (UN-7). */
void forget_notes(struct actor *a, const struct mmu_notifier_range *range)
{
	int i;

	for (i = a->n_notes - 1; i >= 0; i--)
		if (a->notes[i].range == range)
			a->notes[i] = a->notes[--a->n_notes];
}

static int refusing_start(struct mmu_notifier *mn, const struct mmu_notifier_range *range)
{
	struct elem *e;
	int answer = 0;

	if (in_child)
		return 0;
	e = enter(mn, range->mm, "invalidate_range_start");
	if (!mmu_notifier_range_blockable(range) && one_in(self(), 4)) {
		count(self(), REFUSED_LIST);
		answer = -EAGAIN;
	}
	leave(e, "invalidate_range_start");
	return answer;
}

static int on_young(struct mmu_notifier *mn, struct mm_struct *mm,
		    unsigned long start, unsigned long end)
{
	struct elem *e;

	(void)start, (void)end;
	if (in_child)
		return 0;
	e = enter(mn, mm, "clear_young");
	dawdle(self(), false);
	leave(e, "clear_young");
	return 1;
}

static int on_test_young(struct mmu_notifier *mn, struct mm_struct *mm, unsigned long address)
{
	(void)address;
	if (in_child)
		return 0;
	leave(enter(mn, mm, "test_young"), "test_young");
	return 0;
}

static void on_change_pte(struct mmu_notifier *mn, struct mm_struct *mm,
			  unsigned long address, pte_t pte)
{
	struct elem *e;

	(void)address, (void)pte;
	if (in_child)
		return;
	e = enter(mn, mm, "change_pte");
	dawdle(self(), false);
	leave(e, "change_pte");
}

static void on_arch(struct mmu_notifier *mn, struct mm_struct *mm,
		    unsigned long start, unsigned long end)
{
	struct elem *e;

	(void)start, (void)end;
	if (in_child)
		return;
	e = enter(mn, mm, "arch_invalidate_secondary_tlbs");
	dawdle(self(), false);
	leave(e, "arch_invalidate_secondary_tlbs");
}

static struct mmu_notifier *on_alloc(struct mm_struct *mm)
{
	struct actor *a = self();

	count(a, ALLOC);
	return &elem_new(a, mm, GOT)->mn;
}

static void retire(struct elem *e);

static void on_free(struct mmu_notifier *mn)
{
	struct elem *e = container_of(mn, struct elem, mn);

	if (in_child)
		return;
	if (get(&e->magic) != MAGIC || swap(&e->freed, 1))
		fail("free_notifier twice");
	count(self(), mn->ops == &ops[GOT] ? FREE_GOT : FREE);
	set(&e->age, 2);
	/* The putter may still want to write down when the put was over. */
	if (mn->ops == &ops[GOT] || add(&e->handoff, 1) == 1)
		retire(e);
}

static const struct mmu_notifier_ops ops[N_KINDS] = {
	[FULL] = {
		.release = on_release, .invalidate_range_start = on_start,
		.invalidate_range_end = on_end, .clear_flush_young = on_young,
		.clear_young = on_young, .test_young = on_test_young,
		.change_pte = on_change_pte, .free_notifier = on_free,
	},
	[REFUSER] = {
		.release = on_release, .invalidate_range_start = refusing_start,
		.clear_young = on_young, .free_notifier = on_free,
	},
	[ARCH] = {
		.release = on_release, .arch_invalidate_secondary_tlbs = on_arch,
		.clear_flush_young = on_young, .free_notifier = on_free,
	},
	[BARE] = {
		.test_young = on_test_young, .free_notifier = on_free,
	},
	[GOT] = {
		.release = on_release, .invalidate_range_start = on_start,
		.invalidate_range_end = on_end, .test_young = on_test_young,
		.alloc_notifier = on_alloc, .free_notifier = on_free,
	},
};

/* ---- the memory ---- */

/* Where the link of a retired notifier leads to. */
static void trapped(struct mmu_notifier *mn, struct mm_struct *mm)
{
	(void)mn, (void)mm;
	fail("a walk follows the link of a notifier after its grace period");
}

static int trapped_start(struct mmu_notifier *mn, const struct mmu_notifier_range *range)
{
	trapped(mn, range->mm);
	return 0;
}

static void trapped_end(struct mmu_notifier *mn, const struct mmu_notifier_range *range)
{
	trapped(mn, range->mm);
}

static int trapped_young(struct mmu_notifier *mn, struct mm_struct *mm,
			 unsigned long start, unsigned long end)
{
	(void)start, (void)end;
	trapped(mn, mm);
	return 0;
}

static int trapped_test_young(struct mmu_notifier *mn, struct mm_struct *mm, unsigned long address)
{
	(void)address;
	trapped(mn, mm);
	return 0;
}

static const struct mmu_notifier_ops trap_ops = {
	.release = trapped, .invalidate_range_start = trapped_start,
	.invalidate_range_end = trapped_end, .clear_flush_young = trapped_young,
	.clear_young = trapped_young, .test_young = trapped_test_young,
};
static struct mmu_notifier trap = { .ops = &trap_ops };

/* Its age is 2 or more: nobody may call it. */
static void retire(struct elem *e)
{
	set(&e->magic, DEAD);
	if (really_free) {
		free(e);
		return;
	}
	e->mn.hlist.next = &trap.hlist;
	e->mn.hlist.pprev = NULL;
	e->mn.users = 0x5a5a5a5a;
	pthread_mutex_lock(&freed_lock);
	if (n_freed_elems < (int)ARRAY_SIZE(freed_elems))
		freed_elems[n_freed_elems++] = e;	/* else lost; at_rest looks */
	pthread_mutex_unlock(&freed_lock);
}

/* A grace period that this actor began and waited for is over. */
static void grow_older(struct actor *a, bool after_one)
{
	int i;

	for (i = 0; after_one && i < a->n_pipe; i++)
		if (a->pipe[i]->age < PIPE)
			set(&a->pipe[i]->age, a->pipe[i]->age + 1);
	if (really_free)
		return;
	pthread_mutex_lock(&freed_lock);
	while (n_freed_elems && a->n_pipe < (int)ARRAY_SIZE(a->pipe))
		a->pipe[a->n_pipe++] = freed_elems[--n_freed_elems];
	pthread_mutex_unlock(&freed_lock);
}

/* Memory of a notifier that is old enough, or new memory. */
static struct elem *elem_memory(struct actor *a)
{
	struct elem *e;
	int i;

	for (i = 0; i < a->n_pipe; i++) {
		if (get(&a->pipe[i]->age) < PIPE)
			continue;
		e = a->pipe[i];
		a->pipe[i] = a->pipe[--a->n_pipe];
		return e;
	}
	e = malloc(sizeof(*e));
	if (!e)
		fail("no memory");
	return e;
}

struct elem *elem_new(struct actor *a, struct mm_struct *mm, enum kind kind)
{
	struct elem *e = elem_memory(a);

	memset(e, 0x5a, sizeof(*e));	/* register reads nothing but ops (DV-9) */
	e->gone = e->starts = e->ends = e->releases = 0;
	e->freed = e->handoff = e->inside = 0;
	e->gen = add(&generation, 1u);
	e->mm = mm;
	e->mn.ops = &ops[kind];
	e->magic = MAGIC;
	set(&e->age, 0);
	return e;
}

void elem_register(struct actor *a, struct elem *e, bool locked)
{
	int result;

	doing(a, "register");
	result = locked ? __mmu_notifier_register(&e->mn, e->mm) : mmu_notifier_register(&e->mn, e->mm);
	if (result)
		fail("register: %d", result);
	count(a, REGISTER);
}

void elem_unregister(struct actor *a, struct elem *e)
{
	doing(a, "unregister");
	set(&e->age, 1);
	mmu_notifier_unregister(&e->mn, e->mm);
	set(&e->age, 2);
	count(a, UNREGISTER);
	if (e->mn.ops->release && e->releases != 1 && e->releases != 2)
		fail("release ran %lu times by the end of unregister", e->releases);
	release(&e->gone, add(&epoch, 1ul) + 1);
	grow_older(a, true);
	retire(e);
}

void elem_put(struct actor *a, struct elem *e)
{
	const char *before = a->op;

	doing(a, "put");
	set(&e->age, 1);
	mmu_notifier_put(&e->mn);
	release(&e->gone, add(&epoch, 1ul) + 1);
	count(a, PUT);
	if (add(&e->handoff, 1) == 1)
		retire(e);
	doing(a, before);
}

/* If this was the mm's last user: nobody is inside of what was released (RL-2). */
void end_users(struct actor *a, struct mm_struct *mm)
{
	int i;

	doing(a, "mmput");
	a->n_ended = 0;
	mmput(mm);
	for (i = 0; i < a->n_ended && !really_free; i++)
		if (acquire(&a->ended[i].elem->inside) && a->ended[i].elem->gen == a->ended[i].gen)
			fail("mm exit is over, and a callback runs (RL-2)");
}

/* ---- operations ---- */

/*
 * Calls whatever walks the list and is no range.  Mostly under no lock: such a
 * walk sees a registration or not, and memory is safe in either case (MO-1).
 */
void walk(struct actor *a, struct space *s)
{
	unsigned int what = rnd(a) % 8;
	unsigned int lock = rnd(a) % 16;

	if (!s->lists)
		s = &spaces[0];
	doing(a, "walk: lock");
	if (lock == 0)
		mmu_notifier_rmap_read_lock(s->mm);
	else if (lock == 1)
		mmap_read_lock(s->mm);
	doing(a, "walk");
	walk_begins(a);
	switch (what) {
	case 0:
		mmu_notifier_clear_flush_young(s->mm, 0, PAGE);
		break;
	case 1:
		mmu_notifier_clear_young(s->mm, 0, PAGE);
		break;
	case 2:
		mmu_notifier_change_pte(s->mm, PAGE, (pte_t){ 0 });
		break;
	case 3:
		mmu_notifier_arch_invalidate_secondary_tlbs(s->mm, 0, PAGE);
		break;
	default:
		mmu_notifier_test_young(s->mm, PAGE);
	}
	walk_ends(a);
	if (lock == 0)
		mmu_notifier_rmap_read_unlock(s->mm);
	else if (lock == 1)
		mmap_read_unlock(s->mm);
	count(a, WALK);
}

/* A put that returned before the call is paid by its end (DV-5). */
void synchronize(struct actor *a)
{
	unsigned long puts = total(PUT), frees;

	doing(a, "synchronize");
	mmu_notifier_synchronize();
	frees = total(FREE);
	if (frees < puts)
		fail("synchronize: %lu puts before it, %lu frees after it", puts, frees);
	count(a, SYNCHRONIZE);
	grow_older(a, true);
}

/* Registers what is not registered, and the other way round. */
void update(struct actor *a, struct space *s)
{
	struct elem_slot *slot;
	bool locked = one_in(a, 4);

	if (!s->lists)
		s = &spaces[0];
	slot = &s->elems[rnd(a) % ELEMS];
	if (one_in(a, 64)) {
		synchronize(a);
	} else if (change(&slot->state, EMPTY, BUSY)) {
		grow_older(a, false);
		slot->elem = elem_new(a, s->mm, rnd(a) % GOT);
		if (locked)
			write_lock(s);
		elem_register(a, slot->elem, locked);
		if (locked)
			write_unlock(s);
		release(&slot->state, LIVE);
	} else if (change(&slot->state, LIVE, BUSY)) {
		if (one_in(a, 3)) {
			elem_put(a, slot->elem);
		} else if (locked) {
			write_lock(s);
			elem_unregister(a, slot->elem);
			write_unlock(s);
		} else {
			elem_unregister(a, slot->elem);
		}
		release(&slot->state, EMPTY);
	}
}

/* As update(), from a callback: only a put is legal there (GP-6). */
void put_some(struct actor *a, struct space *s)
{
	struct elem_slot *slot = &s->elems[rnd(a) % ELEMS];

	if (!s->lists || !change(&slot->state, LIVE, BUSY))
		return;
	elem_put(a, slot->elem);
	count(a, PUT_INSIDE);
	release(&slot->state, EMPTY);
}

void get_and_put(struct actor *a, struct space *s)
{
	struct mmu_notifier *mn;
	struct elem *e;
	int i;

	if (!s->lists)
		s = &spaces[1];
	doing(a, "get");
	write_lock(s);
	mn = mmu_notifier_get_locked(&ops[GOT], s->mm);
	write_unlock(s);
	if (IS_ERR(mn))
		fail("get: %ld", PTR_ERR(mn));
	e = container_of(mn, struct elem, mn);
	count(a, GET);
	for (i = rnd(a) % 16; i >= 0; i--) {
		if (get(&e->magic) != MAGIC || get(&e->age) || get(&e->freed) || e->mm != s->mm)
			fail("a notifier that is got is freed, or another mm's");
		if (one_in(a, 8))
			sched_yield();
	}
	doing(a, "put of a get");
	mmu_notifier_put(mn);
}

void lists_at_rest(void)
{
	struct elem *e;
	int i, j;

	mmu_notifier_synchronize();
	/* One get is for fork: life_begin(). */
	if (total(PUT) != total(FREE) || total(ALLOC) != total(FREE_GOT) + 1)
		fail("at rest: %lu put and %lu freed, %lu allocated by gets and %lu freed",
		     total(PUT), total(FREE), total(ALLOC), total(FREE_GOT));
	for (i = 0; i < SPACES; i++) {
		for (j = 0; j < ELEMS; j++) {
			e = spaces[i].elems[j].elem;
			if (spaces[i].elems[j].state == LIVE && e->mn.ops == &ops[FULL] && e->starts != e->ends)
				fail("%lu starts, %lu ends at rest", e->starts, e->ends);
		}
	}
}

/* For life.c: a get, its object, and its put. */
void get_for(struct actor *a, struct mm_struct *mm, struct mmu_notifier **mn)
{
	doing(a, "get");
	*mn = mmu_notifier_get(&ops[GOT], mm);
	if (IS_ERR(*mn))
		fail("get: %ld", PTR_ERR(*mn));
	count(a, GET);
}
