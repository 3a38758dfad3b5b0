// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * mirror - a software device that mirrors the page table of its own process.
 *
 * The scene: a device (a GPU, a network card) works on the memory of a process. Its shadow table says which physical
 * page is behind a virtual one. When the process changes its address space, the shadow table must follow at once, or
 * the device reads and writes memory that belongs to somebody else.
 *
 * Physical memory is a memfd. The device sees all of it, always, through a mapping of its own: it can never fault, and
 * nothing but the shadow table keeps it off the wrong page. The process maps pages of the same memfd into a working set
 * of 64 slots, cut into 4 mirrors: each an mmu_interval_notifier, its user_lock and its part of the shadow table.
 * Device threads read and write random slots through the shadow table. What it lacks is filled in by device_fault(),
 * what goes away is taken out by invalidate():
 *
 *	device_fault()					invalidate()
 *	1. seq = mmu_interval_read_begin()		a. take the user_lock: the device has stopped
 *	2. walk: find the page behind the address	b. mmu_interval_set_seq()
 *	3. take the user_lock; if			c. drop the shadow entries of the range
 *	   mmu_interval_read_retry(seq): go to 1	d. release the user_lock
 *	4. install the shadow entry, still locked
 *
 * Mutator threads meanwhile unmap, replace, protect, drop, move and migrate the same pages, with the system calls that
 * any program makes. Live events (<mmu_notifier/live.h>) have the library put each between a range start and its end.
 *
 * How staleness is seen: a physical page carries two numbers. `gen` counts up before the page is taken away, and a
 * shadow entry remembers the gen that it was made at. When the system call has returned, `oldest` is raised to that gen:
 * the entries from before the change must be gone by now. So an access through an entry with gen < oldest is stale,
 * and no other is. Two witnesses need no numbers: a free page is full of POISON and must still be when it is used
 * again, and a page that is write-protected or out of place must not change. With --broken=MODE the device forgets
 * one step of the protocol, and the witnesses have to see it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <getopt.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include <linux/mmu_notifier.h>
#include <linux/sched/mm.h>
#include <mmu_notifier/live.h>
#include <mmu_notifier/mm.h>
#include <mmu_notifier/report.h>
#include <mmu_notifier/wait.h>

#define NR_MIRRORS	4
#define MIRROR_PAGES	16
#define NR_SLOTS	(NR_MIRRORS * MIRROR_PAGES)
#define NR_PAGES	(2 * NR_SLOTS)
#define NR_WORDS	32		/* words of a page that the device works on */
#define NR_DEVICES	2		/* threads */
#define NR_MUTATORS	2
#define NR_WORKERS	(NR_DEVICES + NR_MUTATORS)
#define NR_EVENTS	8
#define MAX_RUN		4		/* slots that one change takes at most */
#define POISON		0x6b6b6b6b6b6b6b6bUL
#define FREE		(~0UL)		/* `oldest` of a free page: no entry may be in use */
#define FAULT_SECONDS	1.0		/* a fault that has to retry for so long gives up */
#define ENOUGH_STALE	10		/* a broken mode is caught well enough */
#define BROKEN_SECONDS	60		/* a broken mode that was not caught by then is a failure */
#define WATCHDOG	120		/* seconds beyond the planned end */

typedef _Atomic unsigned long counter;

/* What is at the start of every page of physical memory. */
struct phys_page {
	unsigned long pfn;		/* the page's own number: how a walk knows it */
	unsigned long probe;		/* a walk writes here to learn whether it may */
	counter gen;			/* goes up before the page is taken away */
	counter oldest;			/* no shadow entry of an older gen may be in use */
	counter data[NR_WORDS];
};

/* A virtual page. Its spare page, for when it gets another one, is pfn ^ 1. The lock is for mutators only. */
struct slot {
	pthread_mutex_t lock;
	unsigned long pfn;
};

struct shadow_entry {
	bool present;
	bool writable;
	unsigned long pfn;
	unsigned long gen;
};

struct mirror {
	struct mmu_interval_notifier sub;
	struct device *dev;
	pthread_mutex_t lock;		/* the user_lock: guards shadow[], the device holds it while it accesses */
	struct shadow_entry shadow[MIRROR_PAGES];
};

/* The chain notifier: it sees every range, and only counts. */
struct statistics {
	struct mmu_notifier sub;
	counter started[NR_EVENTS];
	counter open;			/* ranges that have started and not ended */
};

enum count { READS, WRITES, FAULTS, RETRIES, REFUSED, CHANGES, STALE, NR_COUNTS };

struct worker {
	pthread_t thread;
	struct device *dev;
	unsigned long seed;
	unsigned long scratch;		/* a slot past the working set, for pages on the move */
	counter count[NR_COUNTS];
};

enum broken { NOT_BROKEN, BROKEN_SET_SEQ, BROKEN_RETRY, BROKEN_KEEP, NR_BROKEN };

struct device {
	enum broken broken;
	double seconds;			/* run so long, */
	unsigned long invalidations;	/* and until there were so many */
	int memfd;
	char *memory;			/* all of physical memory, as the device sees it */
	char *working_set;		/* NR_SLOTS virtual pages, then a scratch page for each worker */
	struct slot slot[NR_SLOTS];
	struct mirror mirror[NR_MIRRORS];
	struct statistics stats;
	struct worker worker[NR_WORKERS];
	counter invalidated[NR_EVENTS];
	counter nr_stale;
	char first_stale[80];
	_Atomic bool stop;
};

static struct device device;		/* static for the watchdog's sake */
static counter busy_waits;		/* static because the wait hook may be called at any time */

static const char *const event_name[NR_EVENTS] = {
	"UNMAP", "CLEAR", "PROTECTION_VMA", "PROTECTION_PAGE", "SOFT_DIRTY", "RELEASE", "MIGRATE", "EXCLUSIVE",
};

static const char *const broken_name[NR_BROKEN] = { "none", "set_seq", "retry", "keep" };

/* ---- small things ---- */

/* A negative result is an error, the kernel's way. */
static void must(const char *what, int ret)
{
	if (ret < 0) {
		fprintf(stderr, "mirror: %s: %s\n", what, strerror(-ret));
		_exit(3);
	}
}

/* libc's way. */
static void must_be(const char *what, bool ok)
{
	must(what, ok ? 0 : -errno);
}

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec / 1e9;
}

static unsigned long random_below(struct worker *w, unsigned long limit)
{
	w->seed ^= w->seed << 13;
	w->seed ^= w->seed >> 7;
	w->seed ^= w->seed << 17;
	return (w->seed >> 11) % limit;
}

/* Now and then lose some time, so that others get into the middle of what we do. */
static void dawdle(struct worker *w)
{
	unsigned long r = random_below(w, 64);

	if (r < 8)
		sched_yield();
	else if (r < 24)
		for (volatile unsigned long i = r * 16; i; i--)
			;
}

static unsigned long total(const struct device *dev, enum count which)
{
	unsigned long sum = 0;

	for (int i = 0; i < NR_WORKERS; i++)
		sum += dev->worker[i].count[which];
	return sum;
}

static unsigned long total_events(const counter *count)
{
	unsigned long sum = 0;

	for (int i = 0; i < NR_EVENTS; i++)
		sum += count[i];
	return sum;
}

/* Count a stale access; the first one is kept in words. */
static void stale(struct worker *w, const char *what, unsigned long vpn, unsigned long pfn)
{
	struct device *dev = w->dev;

	w->count[STALE]++;
	if (!dev->nr_stale++)
		snprintf(dev->first_stale, sizeof(dev->first_stale), "%s: slot %lu, page %lu", what, vpn, pfn);
}

static struct phys_page *page_of(const struct device *dev, unsigned long pfn)
{
	return (struct phys_page *)(dev->memory + pfn * PAGE_SIZE);
}

static char *slot_address(const struct device *dev, unsigned long vpn)
{
	return dev->working_set + vpn * PAGE_SIZE;
}

/* ---- the device: walk, fault, access, invalidate ---- */

/*
 * What hmm_range_fault() or get_user_pages() is to a driver: find the page behind an address. process_vm_readv() on
 * ourselves goes through the real page table, races with real system calls, and returns an error where we would get
 * a signal. The page says which one it is.
 */
static int walk(struct device *dev, unsigned long vpn, bool write, struct shadow_entry *entry)
{
	struct phys_page *there = (struct phys_page *)slot_address(dev, vpn);
	unsigned long word;
	struct iovec local = { &word, sizeof(word) };
	struct iovec pfn = { &there->pfn, sizeof(word) };
	struct iovec probe = { &there->probe, sizeof(word) };

	if (process_vm_readv(getpid(), &local, 1, &pfn, 1, 0) != sizeof(word))
		return -errno;
	entry->present = true;
	entry->writable = write;
	entry->pfn = word;
	entry->gen = page_of(dev, word)->gen;
	if (write && process_vm_writev(getpid(), &local, 1, &probe, 1, 0) != sizeof(word))
		return -errno;
	return 0;
}

/* The numbers are those of the comment at the top. */
static int device_fault(struct worker *w, struct mirror *m, unsigned long vpn, bool write)
{
	double deadline = now() + FAULT_SECONDS;
	struct shadow_entry entry;
	unsigned long seq;
	bool retry;
	int err;

	w->count[FAULTS]++;
	do {
		seq = mmu_interval_read_begin(&m->sub);		/* 1 */
		dawdle(w);
		err = walk(w->dev, vpn, write, &entry);		/* 2 */
		dawdle(w);
		pthread_mutex_lock(&m->lock);			/* 3 */
		retry = mmu_interval_read_retry(&m->sub, seq) && w->dev->broken != BROKEN_RETRY;
		if (!retry && !err)
			m->shadow[vpn % MIRROR_PAGES] = entry;	/* 4 */
		pthread_mutex_unlock(&m->lock);
		if (!retry)
			return err;
		w->count[RETRIES]++;
	} while (now() < deadline);
	return -ETIME;
}

/* The access itself, under the user_lock: this is what may never go to the wrong page. */
static void access_page(struct worker *w, unsigned long vpn, const struct shadow_entry *entry, bool write)
{
	struct phys_page *page = page_of(w->dev, entry->pfn);
	counter *word = &page->data[random_below(w, NR_WORDS)];
	unsigned long value = write ? ++*word : *word;

	w->count[write ? WRITES : READS]++;
	if (page->oldest == FREE || value == POISON)
		stale(w, write ? "write to a free page" : "read of a free page", vpn, entry->pfn);
	else if (entry->gen < page->oldest)
		stale(w, write ? "write through an old entry" : "read through an old entry", vpn, entry->pfn);
}

/* Returns false if the shadow table does not allow the access. */
static bool device_try(struct worker *w, struct mirror *m, unsigned long vpn, bool write)
{
	struct shadow_entry *entry = &m->shadow[vpn % MIRROR_PAGES];
	bool allowed;

	pthread_mutex_lock(&m->lock);
	allowed = entry->present && (entry->writable || !write);
	if (allowed)
		access_page(w, vpn, entry, write);
	pthread_mutex_unlock(&m->lock);
	return allowed;
}

static void *device_thread(void *data)
{
	struct worker *w = data;

	while (!w->dev->stop) {
		unsigned long vpn = random_below(w, NR_SLOTS);
		struct mirror *m = &w->dev->mirror[vpn / MIRROR_PAGES];
		bool write = random_below(w, 2);

		if (device_try(w, m, vpn, write))
			continue;
		if (device_fault(w, m, vpn, write))
			w->count[REFUSED]++;
		else
			device_try(w, m, vpn, write);	/* unless the entry is gone again */
	}
	return NULL;
}

static void drop_entries(struct mirror *m, const struct mmu_notifier_range *range)
{
	unsigned long addr = m->sub.interval_tree.start;

	for (int i = 0; i < MIRROR_PAGES; i++, addr += PAGE_SIZE)
		if (addr < range->end && addr + PAGE_SIZE > range->start)
			m->shadow[i].present = false;
}

/* The address space is about to change: take out what the shadow table has of the range. */
static bool invalidate(struct mmu_interval_notifier *sub, const struct mmu_notifier_range *range, unsigned long cur_seq)
{
	struct mirror *m = container_of(sub, struct mirror, sub);

	if (mmu_notifier_range_blockable(range))
		pthread_mutex_lock(&m->lock);			/* a */
	else if (pthread_mutex_trylock(&m->lock))
		return false;
	if (m->dev->broken != BROKEN_SET_SEQ)
		mmu_interval_set_seq(sub, cur_seq);		/* b */
	if (m->dev->broken != BROKEN_KEEP)
		drop_entries(m, range);				/* c */
	pthread_mutex_unlock(&m->lock);				/* d */
	m->dev->invalidated[range->event]++;
	return true;
}

static const struct mmu_interval_notifier_ops mirror_ops = { .invalidate = invalidate };

/* ---- the chain notifier: statistics ---- */

static int stats_start(struct mmu_notifier *sub, const struct mmu_notifier_range *range)
{
	struct statistics *stats = container_of(sub, struct statistics, sub);

	stats->started[range->event]++;
	stats->open++;
	return 0;
}

static void stats_end(struct mmu_notifier *sub, const struct mmu_notifier_range *range)
{
	(void)range;
	container_of(sub, struct statistics, sub)->open--;
}

/* The address space ends, or we unregister. A device with page tables of its own would let go of everything here. */
static void stats_release(struct mmu_notifier *sub, struct mm_struct *mm)
{
	(void)sub;
	(void)mm;
}

static const struct mmu_notifier_ops stats_ops = {
	.invalidate_range_start = stats_start, .invalidate_range_end = stats_end, .release = stats_release,
};

/* ---- the mutators: what happens to pages ---- */

/* Neighbouring slots, locked by one mutator. They may belong to two mirrors. */
struct run {
	unsigned long first, nr;
	unsigned long addr, len;
};

static struct run run_lock(struct worker *w, unsigned long nr)
{
	struct run run = { .first = random_below(w, NR_SLOTS - nr + 1), .nr = nr, .len = nr * PAGE_SIZE };

	run.addr = (unsigned long)slot_address(w->dev, run.first);
	for (unsigned long i = 0; i < nr; i++)
		pthread_mutex_lock(&w->dev->slot[run.first + i].lock);
	return run;
}

static struct run run_lock_some(struct worker *w)
{
	return run_lock(w, 1 + random_below(w, MAX_RUN));
}

static void run_unlock(struct worker *w, const struct run *run)
{
	for (unsigned long i = 0; i < run->nr; i++)
		pthread_mutex_unlock(&w->dev->slot[run->first + i].lock);
}

static struct phys_page *run_page(struct worker *w, const struct run *run, unsigned long i)
{
	return page_of(w->dev, w->dev->slot[run->first + i].pfn);
}

/* Before the pages are taken away, in any manner: entries made from now on can be told from older ones. */
static void run_change_begin(struct worker *w, const struct run *run)
{
	for (unsigned long i = 0; i < run->nr; i++)
		run_page(w, run, i)->gen++;
}

/* The system call has returned: the entries from before must be gone. */
static void run_change_end(struct worker *w, const struct run *run)
{
	for (unsigned long i = 0; i < run->nr; i++) {
		struct phys_page *page = run_page(w, run, i);

		page->oldest = page->gen;
	}
}

/* The pages are in nobody's reach for a while: they may not change. */
static void run_watch(struct worker *w, const struct run *run)
{
	unsigned long before[MAX_RUN][NR_WORDS];

	for (unsigned long i = 0; i < run->nr; i++)
		for (int word = 0; word < NR_WORDS; word++)
			before[i][word] = run_page(w, run, i)->data[word];
	dawdle(w);
	dawdle(w);
	for (unsigned long i = 0; i < run->nr; i++)
		for (int word = 0; word < NR_WORDS; word++)
			if (run_page(w, run, i)->data[word] != before[i][word])
				stale(w, "a page changed that nobody may write", run->first + i,
				      run_page(w, run, i)->pfn);
}

/* Nothing maps the page any more, and nothing may touch it. */
static void page_free(struct phys_page *page)
{
	page->oldest = FREE;
	for (int i = 0; i < NR_WORDS; i++)
		page->data[i] = POISON;
}

/* The slot's spare page, cleared, becomes its page. It is not mapped yet. Returns the page that it replaces. */
static struct phys_page *slot_turn(struct worker *w, unsigned long vpn)
{
	struct slot *slot = &w->dev->slot[vpn];
	struct phys_page *old = page_of(w->dev, slot->pfn), *new = page_of(w->dev, slot->pfn ^= 1);

	for (int i = 0; i < NR_WORDS; i++) {
		if (new->data[i] != POISON)
			stale(w, "a free page changed", vpn, slot->pfn);
		new->data[i] = 0;
	}
	new->oldest = ++new->gen;
	return old;
}

static void slot_map(struct device *dev, unsigned long vpn)
{
	must_be("mmap", mmap(slot_address(dev, vpn), PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
			     dev->memfd, dev->slot[vpn].pfn * PAGE_SIZE) != MAP_FAILED);
}

static void slot_move(struct device *dev, unsigned long from, unsigned long to)
{
	must_be("mremap", mremap(slot_address(dev, from), PAGE_SIZE, PAGE_SIZE, MREMAP_MAYMOVE | MREMAP_FIXED,
				 slot_address(dev, to)) != MAP_FAILED);
}

/* ---- the mutators: changes to the address space ---- */

/* Other pages for the slots, after an munmap or right over what is there. */
static void change_remap(struct worker *w)
{
	struct run run = run_lock_some(w);

	if (random_below(w, 2)) {
		must_be("munmap", !munmap((void *)run.addr, run.len));
		run_watch(w, &run);
	}
	for (unsigned long vpn = run.first; vpn < run.first + run.nr; vpn++) {
		struct phys_page *old = slot_turn(w, vpn);

		slot_map(w->dev, vpn);
		page_free(old);
	}
	run_unlock(w, &run);
}

static void change_protect(struct worker *w)
{
	struct run run = run_lock_some(w);
	int prot = random_below(w, 2) ? PROT_READ : PROT_NONE;

	run_change_begin(w, &run);
	must_be("mprotect", !mprotect((void *)run.addr, run.len, prot));
	run_change_end(w, &run);
	run_watch(w, &run);
	must_be("mprotect", !mprotect((void *)run.addr, run.len, PROT_READ | PROT_WRITE));
	run_unlock(w, &run);
}

/* The file keeps its page, but the kernel might as well give another one: no entry may outlive this. */
static void change_drop(struct worker *w)
{
	struct run run = run_lock_some(w);

	run_change_begin(w, &run);
	must_be("madvise", !madvise((void *)run.addr, run.len, MADV_DONTNEED));
	run_change_end(w, &run);
	run_unlock(w, &run);
}

/* Two neighbours exchange their pages, by way of the scratch page. */
static void change_swap(struct worker *w)
{
	struct run run = run_lock(w, 2), second = { .first = run.first + 1, .nr = 1 };
	struct slot *slot = &w->dev->slot[run.first];
	unsigned long pfn = slot[0].pfn;

	run_change_begin(w, &run);
	slot_move(w->dev, run.first, w->scratch);
	slot_move(w->dev, run.first + 1, run.first);
	slot[0].pfn = slot[1].pfn;
	slot[1].pfn = pfn;
	run_change_end(w, &run);
	run_watch(w, &second);		/* its page is still in the scratch place */
	slot_move(w->dev, w->scratch, run.first + 1);
	run_unlock(w, &run);
}

/*
 * What the kernel does on its own account: another page with the same content takes the page's place. Here we are the
 * producer of the event, as the device has to stop before we copy. Holding the reverse-map lock, not mmap_lock, lets
 * this range run at the same time as others'. The mmap() is a live event of its own inside it.
 */
static void change_migrate(struct worker *w)
{
	struct run run = run_lock(w, 1);
	struct phys_page *old = slot_turn(w, run.first), *new = run_page(w, &run, 0);
	struct mm_struct *mm = current->mm;
	struct mmu_notifier_range range;

	mmu_notifier_rmap_read_lock(mm);
	mmu_notifier_range_init(&range, MMU_NOTIFY_CLEAR, 0, mm, run.addr, run.addr + run.len);
	mmu_notifier_invalidate_range_start(&range);
	for (int i = 0; i < NR_WORDS; i++)
		new->data[i] = old->data[i];
	dawdle(w);
	slot_map(w->dev, run.first);
	mmu_notifier_invalidate_range_end(&range);
	mmu_notifier_rmap_read_unlock(mm);
	page_free(old);
	run_unlock(w, &run);
}

static void *mutator_thread(void *data)
{
	static void (*const changes[])(struct worker *w) = {
		change_remap, change_protect, change_drop, change_swap, change_migrate,
	};
	struct worker *w = data;

	while (!w->dev->stop) {
		changes[random_below(w, sizeof(changes) / sizeof(changes[0]))](w);
		w->count[CHANGES]++;
		usleep(random_below(w, 50));	/* or the device would do nothing but fault */
	}
	return NULL;
}

/* ---- setting up and taking down ---- */

/*
 * The working set lies low, below everything else: slots that are unmapped for a moment leave holes, and the
 * kernel, which looks from the top, always has something better for other people's mappings.
 */
static void memory_init(struct device *dev)
{
	dev->memfd = memfd_create("mirror", MFD_CLOEXEC);
	must_be("memfd", dev->memfd >= 0 && !ftruncate(dev->memfd, NR_PAGES * PAGE_SIZE));
	dev->memory = mmap(NULL, NR_PAGES * PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, dev->memfd, 0);
	dev->working_set = mmap((void *)0x1000000000UL, (NR_SLOTS + NR_WORKERS) * PAGE_SIZE, PROT_NONE,
				MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	must_be("mmap", dev->memory != MAP_FAILED && dev->working_set != MAP_FAILED);

	for (unsigned long pfn = 0; pfn < NR_PAGES; pfn++) {
		page_of(dev, pfn)->pfn = pfn;
		if (pfn % 2)		/* somebody's spare page */
			page_free(page_of(dev, pfn));
	}
	for (unsigned long vpn = 0; vpn < NR_SLOTS; vpn++) {
		pthread_mutex_init(&dev->slot[vpn].lock, NULL);
		dev->slot[vpn].pfn = 2 * vpn;
		slot_map(dev, vpn);
	}
}

static void memory_exit(struct device *dev)
{
	for (int i = 0; i < NR_SLOTS; i++)
		pthread_mutex_destroy(&dev->slot[i].lock);
	munmap(dev->working_set, (NR_SLOTS + NR_WORKERS) * PAGE_SIZE);
	munmap(dev->memory, NR_PAGES * PAGE_SIZE);
	close(dev->memfd);
}

static struct mmu_notifier_live_status live_status(void)
{
	struct mmu_notifier_live_status status = { .size = sizeof(status) };

	mmu_notifier_live_status(&status);
	return status;
}

/* From here on, system calls tell the notifiers. */
static void live_init(void)
{
	int err = mmu_notifier_live_enable();

	if (err)
		fprintf(stderr, "mirror: no live events: %s\n", live_status().reason);
	must("mmu_notifier_live_enable", err);
}

static void notifiers_init(struct device *dev)
{
	dev->stats.sub.ops = &stats_ops;
	must("mmu_notifier_register", mmu_notifier_register(&dev->stats.sub, current->mm));
	for (int i = 0; i < NR_MIRRORS; i++) {
		struct mirror *m = &dev->mirror[i];
		unsigned long addr = (unsigned long)slot_address(dev, i * MIRROR_PAGES);

		m->dev = dev;
		pthread_mutex_init(&m->lock, NULL);
		must("mmu_interval_notifier_insert",
		     mmu_interval_notifier_insert(&m->sub, current->mm, addr, MIRROR_PAGES * PAGE_SIZE, &mirror_ops));
	}
}

static void notifiers_exit(struct device *dev)
{
	for (int i = 0; i < NR_MIRRORS; i++) {
		mmu_interval_notifier_remove(&dev->mirror[i].sub);
		pthread_mutex_destroy(&dev->mirror[i].lock);
	}
	mmu_notifier_unregister(&dev->stats.sub, current->mm);
}

static void workers_start(struct device *dev)
{
	for (int i = 0; i < NR_WORKERS; i++) {
		struct worker *w = &dev->worker[i];

		w->dev = dev;
		w->seed = 0x9e3779b97f4a7c15UL * (i + 1);
		w->scratch = NR_SLOTS + i;
		must("pthread_create",
		     -pthread_create(&w->thread, NULL, i < NR_DEVICES ? device_thread : mutator_thread, w));
	}
}

static void workers_stop(struct device *dev)
{
	dev->stop = true;
	for (int i = 0; i < NR_WORKERS; i++)
		pthread_join(dev->worker[i].thread, NULL);
}

/* The library's wait hook: a fault that finds a busy period sleeps in mmu_interval_read_begin(). */
static void count_wait(void *data, const void *queue, enum mmu_notifier_wait_reason reason)
{
	(void)queue;
	if (data && reason == MMU_NOTIFIER_WAIT_READ_BEGIN)
		++*(counter *)data;
}

static void ignore_wait(void *data, const void *queue, enum mmu_notifier_wait_reason reason)
{
	count_wait(NULL, queue, reason);
	(void)data;
}

static const struct mmu_notifier_wait_hook wait_hook = {
	.wait_begin = count_wait, .wait_end = ignore_wait, .wake = ignore_wait, .data = &busy_waits,
};

/* ---- what is printed ---- */

static void print_progress(const struct device *dev, double seconds, bool tty)
{
	printf("%s%3.0f s: %lu changes, %lu invalidations, %.1f M accesses, %lu stale%s", tty ? "\r" : "", seconds,
	       total(dev, CHANGES), total_events(dev->invalidated), (total(dev, READS) + total(dev, WRITES)) / 1e6,
	       total(dev, STALE), tty ? "  " : "\n");
	fflush(stdout);
}

static void print_count(const char *name, unsigned long value, const char *remark)
{
	printf("%-18s %12lu%s%s\n", name, value, *remark ? "   " : "", remark);
}

static void print_table(const struct device *dev, double seconds)
{
	printf("\n%-18s %12s %14s\n", "event", "ranges", "invalidations");
	for (int i = 0; i < NR_EVENTS; i++)
		if (dev->stats.started[i] || dev->invalidated[i])
			printf("%-18s %12lu %14lu\n", event_name[i], dev->stats.started[i], dev->invalidated[i]);
	printf("%-18s %12lu %14lu\n\n", "all", total_events(dev->stats.started), total_events(dev->invalidated));

	printf("%.1f s, %d device threads, %d mutators\n", seconds, NR_DEVICES, NR_MUTATORS);
	print_count("changes", total(dev, CHANGES), "");
	print_count("faults", total(dev, FAULTS), "");
	print_count("  retries", total(dev, RETRIES), "read_retry() said so");
	print_count("  waits", busy_waits, "read_begin() slept");
	print_count("  refused", total(dev, REFUSED), "nothing there, or read-only");
	print_count("reads", total(dev, READS), "");
	print_count("writes", total(dev, WRITES), "");
	print_count("accesses/s", (total(dev, READS) + total(dev, WRITES)) / seconds, "");
	print_count("ranges left open", dev->stats.open, "");
	print_count("events missed", live_status().epoch, "");
	print_count("warnings", mmu_notifier_report_count(MMU_NOTIFIER_REPORT_WARN), "reported by the library");
	print_count("bugs", mmu_notifier_report_count(MMU_NOTIFIER_REPORT_BUG), "reported by the library");
	if (total(dev, STALE))
		printf("%-18s %s\n", "first stale access", dev->first_stale);
	printf("stale accesses: %lu\n", total(dev, STALE));
}

/* SIGALRM. We end here, so it does no harm that snprintf() is not made for signal handlers. */
static void watchdog(int signal)
{
	char text[256];
	int len = snprintf(text, sizeof(text), "\nmirror: watchdog: it hangs, or is far too slow: %lu changes, "
			   "%lu invalidations, %lu faults, %lu retries, %lu waits, %lu ranges open, %lu stale\n",
			   total(&device, CHANGES), total_events(device.invalidated), total(&device, FAULTS),
			   total(&device, RETRIES), busy_waits, device.stats.open, total(&device, STALE));

	(void)signal;
	if (write(STDERR_FILENO, text, len) != len)
		_exit(4);
	_exit(3);
}

/* ---- main ---- */

static void __attribute__((noreturn)) usage(int status)
{
	fprintf(status ? stderr : stdout, "Usage: mirror [-t SECONDS] [-n INVALIDATIONS] [--broken=MODE]\n"
		"Runs for at least SECONDS (12) and INVALIDATIONS (100000).\n\n"
		"  --broken=set_seq   invalidate() forgets mmu_interval_set_seq()\n"
		"  --broken=retry     the fault ignores mmu_interval_read_retry()\n"
		"  --broken=keep      invalidate() keeps the shadow entries\n\n"
		"Exit status: 0 nothing stale and nothing reported; 1 stale accesses (a broken mode was caught),\n"
		"reports, ranges left open or events missed; 2 a broken mode was not caught in %d s; 3 trouble, or a hang.\n",
		BROKEN_SECONDS);
	exit(status);
}

static enum broken parse_broken(const char *name)
{
	for (int i = NOT_BROKEN + 1; i < NR_BROKEN; i++)
		if (!strcmp(name, broken_name[i]))
			return i;
	usage(3);
}

static void parse(struct device *dev, int argc, char **argv)
{
	static const struct option longs[] = {
		{ "broken", required_argument, NULL, 'b' }, { "help", no_argument, NULL, 'h' }, { NULL, 0, NULL, 0 },
	};
	int c;

	dev->seconds = 12;
	dev->invalidations = 100000;
	while ((c = getopt_long(argc, argv, "t:n:h", longs, NULL)) != -1) {
		if (c == 't')
			dev->seconds = atof(optarg);
		else if (c == 'n')
			dev->invalidations = strtoul(optarg, NULL, 0);
		else if (c == 'b')
			dev->broken = parse_broken(optarg);
		else
			usage(c == 'h' ? 0 : 3);
	}
	if (optind < argc)
		usage(3);
}

static bool finished(const struct device *dev, double seconds)
{
	if (dev->broken)
		return total(dev, STALE) >= ENOUGH_STALE || seconds >= BROKEN_SECONDS;
	return seconds >= dev->seconds && total_events(dev->invalidated) >= dev->invalidations;
}

/* Let them run, and say how long it took. */
static double play(struct device *dev)
{
	const struct timespec tick = { .tv_nsec = 100000000 };
	bool tty = isatty(STDOUT_FILENO);
	double start = now(), shown = 0, seconds = 0;

	workers_start(dev);
	while (!finished(dev, seconds)) {
		nanosleep(&tick, NULL);
		seconds = now() - start;
		if (seconds - shown >= (tty ? 0.5 : 2)) {
			print_progress(dev, seconds, tty);
			shown = seconds;
		}
	}
	workers_stop(dev);
	if (tty && shown)
		printf("\n");
	return now() - start;
}

static int verdict(const struct device *dev, double seconds)
{
	unsigned long n = total(dev, STALE);

	if (dev->broken && n)
		printf("caught: %lu stale accesses (broken mode %s)\n", n, broken_name[dev->broken]);
	else if (dev->broken)
		printf("NOT caught (broken mode %s)\n", broken_name[dev->broken]);
	print_table(dev, seconds);
	if (dev->broken)
		return n ? 1 : 2;
	return n || dev->stats.open || mmu_notifier_live_epoch() || mmu_notifier_report_count(MMU_NOTIFIER_REPORT_WARN) ||
	       mmu_notifier_report_count(MMU_NOTIFIER_REPORT_BUG);
}

int main(int argc, char **argv)
{
	struct device *dev = &device;
	double seconds;

	parse(dev, argc, argv);
	signal(SIGALRM, watchdog);
	alarm(WATCHDOG + (dev->broken ? BROKEN_SECONDS : dev->seconds));
	mmu_notifier_set_wait_hook(&wait_hook);

	memory_init(dev);
	live_init();
	notifiers_init(dev);
	seconds = play(dev);
	notifiers_exit(dev);
	must("mmu_notifier_live_disable", mmu_notifier_live_disable());
	memory_exit(dev);

	mmu_notifier_set_wait_hook(NULL);
	return verdict(dev, seconds);
}
