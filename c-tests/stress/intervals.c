/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Interval notifiers: a simulated page table, devices that mirror it, and
 * those who change it.
 *
 * A page of a space's table is a stamp, changed only between start and end.  A
 * device holds copies of stamps, made by the protocol of SPEC 4.3.  Each copy
 * equals its page whenever the device looks: else it uses a stale mapping.
 *
 * Besides: cur_seq is odd, one for a whole busy period, and the next period's
 * is 2 more (ST-5, ST-6); read_begin does not return in the period of its
 * number (RB-3); nothing is called after its remove (IR-8); a start calls
 * whatever a read_begin has returned for, once, in ascending order (RS-2, RS-6).
 *
 * Every range that was started writes its cur_seq into space.active before
 * anything else and takes it out before its end; so what stands there belongs to
 * the present busy period, and whoever is called in that period compares.
 */
#include "torture.h"

#define MAGIC 0x1d1e1d1e1d1e1d1eul
#define DEAD 0xdeaddeaddeaddeadul

static const struct mmu_interval_notifier_ops ops;

/* ---- sequence numbers ---- */

/* An odd number that the library has let us see. */
static void note_seq(struct actor *a, struct space *s, unsigned long seq)
{
	unsigned char bit = 1u << (seq / 2 % 8), *byte = &s->seen[seq / 16 % (SEQS / 8)];
	unsigned long top = get(&s->top);

	if (!(seq & 1))
		fail("sequence number %lu is even", seq);
	if (!(get(byte) & bit) && !(__atomic_fetch_or(byte, bit, __ATOMIC_RELAXED) & bit))
		count(a, PERIOD);
	while (top < seq && !__atomic_compare_exchange_n(&s->top, &top, seq, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		;
}

/* Fails if a range that is in flight has told another number, or (same) this one. */
static void compare_seq(struct space *s, unsigned long seq, bool same, const char *what)
{
	unsigned long other;
	int i, n = get(&n_actors);

	for (i = 0; i < n; i++) {
		other = acquire(&s->active[i]);
		if (other && (other == seq) == same)
			fail("%s: number %lu, %s has a range of %lu in flight", what, seq,
			     actors[i].name, other);
	}
}

static unsigned long *active_of(struct actor *a, struct space *s)
{
	return &s->active[a - actors];
}

/* ---- the callback ---- */

static bool in_order(struct actor *a, const struct ival *i)
{
	const struct ival *last = a->n_called ? a->called[a->n_called - 1] : NULL;
	int k;

	for (k = 0; k < a->n_called; k++)
		if (a->called[k] == i)
			return false;
	if (a->n_called < NOTES)
		a->called[a->n_called++] = i;
	return !last || last->sub.interval_tree.start <= i->sub.interval_tree.start;
}

static void drop_mappings(struct ival *i, const struct mmu_notifier_range *range)
{
	unsigned long last = range->end - 1;
	int p;

	for (p = i->first; p < i->first + i->pages; p++)
		if (p * PAGE <= last && p * PAGE + PAGE - 1 >= range->start)
			i->shadow[p] = 0;
}

static bool take_user_lock(struct actor *a, struct ival *i, const struct mmu_notifier_range *range)
{
	if (mmu_notifier_range_blockable(range)) {
		pthread_mutex_lock(&i->user_lock);
		return true;
	}
	if (!one_in(a, 16) && !pthread_mutex_trylock(&i->user_lock))
		return true;
	count(a, REFUSED_TREE);
	return false;
}

static bool on_invalidate(struct mmu_interval_notifier *sub,
			  const struct mmu_notifier_range *range, unsigned long seq)
{
	struct ival *i = container_of(sub, struct ival, sub);
	struct actor *a = self();

	if (in_child)
		return true;
	count(a, INVALIDATE);
	if (get(&i->magic) != MAGIC)
		fail("invalidate of an interval that was removed");
	if (range->mm != i->mm)
		fail("invalidate with another mm than the interval's");
	if (range->event != MMU_NOTIFY_RELEASE && !in_order(a, i))
		fail("invalidate twice in a range, or out of order (RS-2, RS-6)");
	if (i->space) {
		note_seq(a, i->space, seq);
		compare_seq(i->space, seq, false, "two numbers in one busy period (ST-6)");
	} else if (!(seq & 1)) {
		fail("sequence number %lu is even", seq);
	}
	a->seq = seq;
	if (!take_user_lock(a, i, range))
		return false;
	if (seq < i->seq)
		fail("sequence number %lu after %lu", seq, i->seq);
	i->seq = seq;
	if (i->space)	/* what the insert stored, should its thread be too late to look */
		note_seq(a, i->space, get(&sub->invalidate_seq));
	mmu_interval_set_seq(sub, seq);
	drop_mappings(i, range);
	if (range->event == MMU_NOTIFY_RELEASE)
		i->releases++;
	if (one_in(a, 8))
		dawdle(a, mmu_notifier_range_blockable(range));
	pthread_mutex_unlock(&i->user_lock);
	if (i->space && one_in(a, 64))
		put_some(a, i->space);
	if (one_in(a, 64))
		mmput_inside(a);
	dawdle(a, mmu_notifier_range_blockable(range));
	if (get(&i->magic) != MAGIC)
		fail("invalidate still runs after the interval was removed");
	return true;
}

static const struct mmu_interval_notifier_ops ops = { .invalidate = on_invalidate };

/* ---- intervals ---- */

struct ival *ival_new(struct actor *a, struct mm_struct *mm)
{
	struct ival *i = malloc(sizeof(*i));

	if (!i)
		fail("no memory");
	memset(i, 0x5a, sizeof(*i));	/* insert reads nothing (DV-9) */
	pthread_mutex_init(&i->user_lock, NULL);
	i->mm = mm;
	i->space = NULL;
	i->dead = i->ready = false;
	i->first = rnd(a) % PAGES;
	i->pages = 1 + rnd(a) % 16;
	if (i->first + i->pages > PAGES)
		i->pages = PAGES - i->first;
	memset(i->shadow, 0, sizeof(i->shadow));
	i->seq = i->releases = 0;
	set(&i->magic, MAGIC);
	return i;
}

void ival_insert(struct actor *a, struct ival *i, bool locked)
{
	int (*insert)(struct mmu_interval_notifier *, struct mm_struct *, unsigned long,
		      unsigned long, const struct mmu_interval_notifier_ops *) =
		locked ? mmu_interval_notifier_insert_locked : mmu_interval_notifier_insert;
	unsigned long seq, before = i->space ? get(&i->space->top) : 0;
	int result;

	doing(a, "insert");
	result = insert(&i->sub, i->mm, i->first * PAGE, i->pages * PAGE, &ops);
	if (result)
		fail("insert: %d", result);
	count(a, INSERT);
	if (i->space)
		release(&i->space->itree, true);
	seq = get(&i->sub.invalidate_seq);
	if (!(seq & 1))
		fail("insert stores the even number %lu (ST-7)", seq);
	if (i->space && seq > 1) {
		note_seq(a, i->space, seq);
		if (seq > before && get(&i->space->top) == seq)
			count(a, INSERT_ODD);
	}
}

/* Nobody uses the device any more. */
void ival_remove(struct actor *a, struct ival *i)
{
	struct ival **oldest;

	doing(a, "remove: user lock");
	pthread_mutex_lock(&i->user_lock);
	i->dead = true;
	memset(i->shadow, 0, sizeof(i->shadow));
	pthread_mutex_unlock(&i->user_lock);
	doing(a, "remove");
	mmu_interval_notifier_remove(&i->sub);
	count(a, REMOVE);
	set(&i->magic, DEAD);
	if (really_free) {
		free(i);
		return;
	}
	oldest = &a->quarantine[a->n_quarantine++ % ARRAY_SIZE(a->quarantine)];
	free(*oldest);
	*oldest = i;
}

/* An interval that stays inserted until unpin(). */
static struct ival *pin(struct ival_slot *slot)
{
	add(&slot->pins, 1);
	if (acquire(&slot->state) == LIVE)
		return slot->ival;
	add(&slot->pins, -1);
	return NULL;
}

static void unpin(struct ival_slot *slot)
{
	add(&slot->pins, -1);
}

static unsigned long read_begin(struct actor *a, struct ival *i)
{
	unsigned long seq;

	doing(a, "read_begin");
	seq = mmu_interval_read_begin(&i->sub);
	doing(a, "fault");
	if (!(seq & 1))
		fail("read_begin returns the even number %lu (RB-5)", seq);
	if (i->space)
		compare_seq(i->space, seq, true, "read_begin returns in its own busy period (RB-3)");
	release(&i->ready, true);
	return seq;
}

/* Whatever the device has mapped is what the page table says.  Under user_lock. */
static void access_all(struct actor *a, struct ival *i)
{
	int p;

	for (p = i->first; p < i->first + i->pages; p++)
		if (i->shadow[p] && i->shadow[p] != acquire(&i->space->table[p]))
			fail("a device accesses page %d through a stale mapping", p);
	count(a, ACCESS);
}

/* SPEC 4.3, once. */
static bool map_once(struct actor *a, struct ival *i)
{
	int p = i->first + rnd(a) % i->pages;
	unsigned long seq = read_begin(a, i), stamp = acquire(&i->space->table[p]);
	bool retry;

	if (one_in(a, 16))
		sched_yield();
	if (one_in(a, 4) && mmu_interval_check_retry(&i->sub, seq))
		return false;
	pthread_mutex_lock(&i->user_lock);
	retry = mmu_interval_read_retry(&i->sub, seq);
	if (!retry && !i->dead)
		i->shadow[p] = stamp;
	access_all(a, i);
	pthread_mutex_unlock(&i->user_lock);
	return !retry;
}

void fault(struct actor *a, struct space *s)
{
	struct ival_slot *slot = &s->ivals[rnd(a) % IVALS];
	struct ival *i = pin(slot);
	int n = 1 + rnd(a) % 8, tries = 64;

	if (!i)
		return;
	while (n && tries--) {
		if (map_once(a, i)) {
			count(a, FAULT);
			n--;
		} else {
			count(a, RETRY);
		}
	}
	unpin(slot);
}

void churn(struct actor *a, struct space *s)
{
	struct ival_slot *slot = &s->ivals[rnd(a) % IVALS];
	bool locked = one_in(a, 8);

	if (change(&slot->state, EMPTY, BUSY)) {
		slot->ival = ival_new(a, s->mm);
		slot->ival->space = s;
		if (locked)
			write_lock(s);
		ival_insert(a, slot->ival, locked);
		if (locked)
			write_unlock(s);
		release(&slot->state, LIVE);
	} else if (one_in(a, 4) && change(&slot->state, LIVE, BUSY)) {
		doing(a, "remove: pins");
		while (acquire(&slot->pins))
			sched_yield();
		if (locked)
			write_lock(s);
		ival_remove(a, slot->ival);
		if (locked)
			write_unlock(s);
		release(&slot->state, EMPTY);
	}
}

/* ---- those who change the page table ---- */

void write_lock(struct space *s)
{
	mmap_write_lock(s->mm);
	if (swap(&s->writer, 1))
		fail("two writers of mmap_lock");
}

void write_unlock(struct space *s)
{
	set(&s->writer, 0);
	mmap_write_unlock(s->mm);
}

enum how { READ, WRITE, RMAP, NO_LOCK };

static enum how lock(struct actor *a, struct space *s)
{
	enum how how = rnd(a) % 8 < 4 ? READ : rnd(a) % 2 ? RMAP : WRITE;

	doing(a, "range: lock");
	if (s->lockless && !one_in(a, 4)) {
		count(a, BY_NONE);
		return NO_LOCK;
	}
	if (how == RMAP) {
		mmu_notifier_rmap_read_lock(s->mm);
		count(a, BY_RMAP);
		return RMAP;
	}
	if (how == WRITE) {
		write_lock(s);
		if (one_in(a, 2)) {
			set(&s->writer, 0);
			mmap_write_downgrade(s->mm);
			how = READ;
		}
	} else if (!one_in(a, 4) || !mmap_read_trylock(s->mm)) {
		mmap_read_lock(s->mm);
	}
	count(a, BY_MMAP);
	return how;
}

static void unlock(struct space *s, enum how how)
{
	if (how == READ && get(&s->writer))
		fail("a writer of mmap_lock besides a reader");
	if (how == READ)
		mmap_read_unlock(s->mm);
	else if (how == WRITE)
		write_unlock(s);
	else if (how == RMAP)
		mmu_notifier_rmap_read_unlock(s->mm);
}

static void stamp(struct actor *a, struct space *s, int from, int to)
{
	int p;

	for (p = from; p < to; p++)
		release(&s->table[p], ((unsigned long)(a - actors) + 1) << 40 | ++a->stamp);
}

/* Intervals that a range of these pages has to call; they stay until unpin_all(). */
static void pin_ready(struct space *s, int from, int to, struct ival *pinned[IVALS])
{
	int k;

	for (k = 0; k < IVALS; k++) {
		struct ival *i = pinned[k] = pin(&s->ivals[k]);

		if (i && (!acquire(&i->ready) || i->first >= to || i->first + i->pages <= from)) {
			unpin(&s->ivals[k]);
			pinned[k] = NULL;
		}
	}
}

static void unpin_all(struct space *s, struct ival *pinned[IVALS])
{
	int k;

	for (k = 0; k < IVALS; k++)
		if (pinned[k])
			unpin(&s->ivals[k]);
}

/* Between start and end: all were called, and no device maps a page of the range. */
static void check_exactly(struct actor *a, int from, int to, struct ival *pinned[IVALS])
{
	int k, n, p;

	for (k = 0; k < IVALS; k++) {
		struct ival *i = pinned[k];

		if (!i)
			continue;
		for (n = 0; n < a->n_called && a->called[n] != i; n++)
			;
		if (n == a->n_called && n < NOTES)
			fail("a start does not call an interval that is inserted (RS-6)");
		pthread_mutex_lock(&i->user_lock);
		for (p = i->first; p < i->first + i->pages; p++)
			if (p >= from && p < to && i->shadow[p])
				fail("page %d is mapped inside a range", p);
		pthread_mutex_unlock(&i->user_lock);
	}
	count(a, EXACT);
}

/* An insert in the middle of one's own range, which is deferred if the period is odd. */
static struct ival *insert_inside(struct actor *a, struct space *s)
{
	unsigned long *active = active_of(a, s);
	struct ival *i = ival_new(a, s->mm);
	unsigned long seq;

	i->space = s;
	ival_insert(a, i, false);
	seq = get(&i->sub.invalidate_seq);
	if (*active) {
		if (seq != *active)
			fail("a deferred insert stores %lu in the busy period of %lu (II-7c)", seq, *active);
		count(a, INSERT_DEFERRED);
	}
	compare_seq(s, seq, false, "an insert in a busy period of another number (II-7)");
	release(active, seq);
	if (one_in(a, 2))
		return i;
	if (RB_EMPTY_NODE(&i->sub.interval_tree.rb)) {
		ival_remove(a, i);
		count(a, REMOVE_UNDEFER);
		return NULL;
	}
	return i;
}

static bool start(struct actor *a, struct mmu_notifier_range *range, bool nonblock)
{
	bool started = true;

	doing(a, "range: start");
	a->n_called = 0;
	a->seq = 0;
	walk_begins(a);
	if (nonblock)
		started = !mmu_notifier_invalidate_range_start_nonblock(range);
	else
		mmu_notifier_invalidate_range_start(range);
	walk_ends(a);
	doing(a, "range: inside");
	if (!started) {
		count(a, REFUSED);
		forget_notes(a, range);
	}
	return started;
}

static void end(struct actor *a, struct mmu_notifier_range *range)
{
	doing(a, "range: end");
	walk_begins(a);
	mmu_notifier_invalidate_range_end(range);
	walk_ends(a);
	forget_notes(a, range);
	count(a, PAIR);
}

/* A second range inside the first, of the same busy period. */
static void nest(struct actor *a, struct space *s, int from, int to)
{
	unsigned long *active = active_of(a, s);
	struct mmu_notifier_range range;

	mmu_notifier_range_init(&range, MMU_NOTIFY_CLEAR, 0, s->mm, from * PAGE, to * PAGE);
	if (!start(a, &range, one_in(a, 4)))
		return;
	if (a->seq)
		release(active, a->seq);
	count(a, NESTED);
	stamp(a, s, from, to);
	if (one_in(a, 4))
		mmu_notifier_change_pte(s->mm, from * PAGE, (pte_t){ 0 });
	end(a, &range);
}

/* What happens between start and end.  Returns an interval to remove later. */
static struct ival *change_pages(struct actor *a, struct space *s, int from, int to)
{
	struct ival *later = NULL;

	stamp(a, s, from, to);
	if (one_in(a, 8))
		nest(a, s, from, to);
	if (acquire(&s->itree) && one_in(a, 16))
		later = insert_inside(a, s);
	doing(a, "range: inside");
	if (one_in(a, 4)) {
		if (one_in(a, 2))
			sched_yield();
		dawdle(a, true);
		stamp(a, s, from, to);
	}
	return later;
}

void mutate(struct actor *a, struct space *s)
{
	unsigned long *active = active_of(a, s);
	int from = rnd(a) % PAGES, to = from + 1 + rnd(a) % 8;
	bool nonblock = one_in(a, 4), exact = one_in(a, 8);
	struct ival *pinned[IVALS] = { NULL }, *later = NULL;
	struct mmu_notifier_range range;
	enum how how;

	if (one_in(a, 32))
		from = 0, to = PAGES;
	if (to > PAGES)
		to = PAGES;
	if (exact)
		pin_ready(s, from, to, pinned);
	how = lock(a, s);
	mmu_notifier_range_init(&range, rnd(a) % MMU_NOTIFY_RELEASE, 0, s->mm, from * PAGE, to * PAGE);
	if (start(a, &range, nonblock)) {
		release(active, a->seq);
		if (nonblock)
			count(a, NONBLOCK);
		if (exact)
			check_exactly(a, from, to, pinned);
		later = change_pages(a, s, from, to);
		release(active, 0ul);
		end(a, &range);
	}
	unlock(s, how);
	unpin_all(s, pinned);
	if (later) {
		map_once(a, later);
		ival_remove(a, later);
	}
}

/* A range over all of a short-lived mm. */
void plain_range(struct actor *a, struct mm_struct *mm)
{
	struct mmu_notifier_range range;

	mmap_read_lock(mm);
	mmu_notifier_range_init(&range, MMU_NOTIFY_UNMAP, 0, mm, 0, PAGES * PAGE);
	if (start(a, &range, one_in(a, 4)))
		end(a, &range);
	mmap_read_unlock(mm);
}
