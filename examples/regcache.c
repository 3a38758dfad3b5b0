// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * regcache - a memory registration cache, as RDMA libraries have one, that is never stale.
 *
 * Registering memory with a network card is slow: its pages are pinned, and their physical addresses go into a table
 * of the card. So registrations are kept and found again by address. But when the application frees the memory, and
 * the next malloc() gets the same address with other pages behind it, a registration that was kept is poison: the card
 * sends somebody else's data, or writes into it.
 *
 * Here the library tells us before the memory goes: free(), munmap(), a thread's stack, fork, whoever does it, from
 * whichever thread. The cache ("the cache" below) is what to copy. Its contract with the library has four parts:
 *
 *	1. insert before looking	mmu_interval_notifier_insert(): from now on we are told
 *	2. look, then check again	mmu_interval_read_begin(), pin, mmu_interval_read_retry() under the card's lock
 *	3. invalidate: stop the card	in the thread that takes the memory away; it waits for us
 *	4. remove, then free		mmu_interval_notifier_remove(): afterwards nobody calls us
 *
 * So the card does not touch memory that is gone. But it holds on to the pages until their registration is evicted, as
 * nothing slow may be done in (3). With --blocking it has given them back when munmap() returns: the same with
 * mmu_notifier_live_range_insert() and _remove(), where (3) is followed by
 *
 *	release: give it back		in a thread of the library; may allocate, free and lock; munmap() waits for it
 *
 * The card is simulated ("the card"), but its pins are real: vmsplice() puts references to the pages into a pipe, and
 * the card "sends" by reading what is in the pipe. So a stale registration really sends the old pages. Each access is
 * checked: the word that was sent must be the one that is in memory before and after; and, where /proc/self/pagemap
 * shows page frame numbers (as root), the page behind the address must be the one that was pinned.
 *
 * The rest ("the application") is a test: threads that get memory, send from it, and lose it again, in many ways.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <linux/futex.h>
#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <linux/interval_tree.h>
#include <linux/mm.h>
#include <linux/mmu_notifier.h>
#include <linux/sched.h>
#include <linux/spinlock.h>
#include <mmu_notifier/live.h>
#include <mmu_notifier/stage.h>

#define NR_KEYS		256		/* registrations that the card can hold */
#define MAX_PAGES	16		/* of one registration: what a pipe holds */
#define WAIT_MS		2000		/* --blocking: how long a thread that unmaps waits for the release */
#define NR_LOOKS	3		/* that agree before an access is called stale */
#define PROBE		2056		/* where in a page the word lies that is compared; the allocator's words lie elsewhere */
#define FRAME		((1UL << 55) - 1)	/* the page frame number in a word of pagemap */
#define PRESENT		(1UL << 63)		/* the word has one */

typedef _Atomic unsigned long counter;

/* ---------------------------------------------------------------------------------------------------- the card */

/* What the card knows of a registration. */
struct pins {
	unsigned long start;
	int nr_pages;
	int pipe[2];			/* holds a reference to each page */
	uint64_t frame[MAX_PAGES];	/* 0: not known */
};

/* An entry of the card's table. */
struct entry {
	spinlock_t lock;		/* held while the card accesses memory: who has it knows that the card does not */
	unsigned long key;		/* the key that the card accepts; 0: none */
	bool mapped;			/* the card has the pins */
	struct pins pins;
};

static struct entry table[NR_KEYS];	/* key % NR_KEYS is the index */
static unsigned long slow_us;		/* of each deregistration, for tests */
static counter accesses, refused, stale;

static int pagemap = -1;

/*
 * 0 where there is none to see: we may not know, or the kernel is about to migrate the page. It cannot, as the page is pinned,
 * but as long as it tries there is a swap entry in the page table, and not the frame.
 */
static void read_frames(const struct pins *pins, uint64_t *frame)
{
	size_t size = pins->nr_pages * sizeof(*frame);

	memset(frame, 0, size);
	if (pagemap >= 0 && pread(pagemap, frame, size, pins->start / PAGE_SIZE * sizeof(*frame)) != (ssize_t)size)
		memset(frame, 0, size);
	for (int i = 0; i < pins->nr_pages; i++)
		frame[i] = frame[i] & PRESENT ? frame[i] & FRAME : 0;
}

static bool is_other_frame(uint64_t frame, uint64_t pinned)
{
	return frame && pinned && frame != pinned;
}

static void unpin(struct pins *pins)
{
	close(pins->pipe[0]);
	close(pins->pipe[1]);
}

/*
 * The page is there and this process's alone, not shared with a child: for adds 0 to a word of it, atomically. An error
 * if there is no page to write to. (MADV_POPULATE_WRITE would be a change of the memory, of which we would be told.)
 */
static bool own_page(unsigned long page)
{
	static unsigned int nobody;

	return syscall(SYS_futex, &nobody, FUTEX_WAKE_OP_PRIVATE, 0, 0L, page,
		       FUTEX_OP(FUTEX_OP_ADD, 0, FUTEX_OP_CMP_EQ, 0)) >= 0;
}

/* What ibv_reg_mr() does first, in the kernel: takes a reference to each page, as it is when it is written to. */
static int pin(struct pins *pins, unsigned long start, unsigned long size)
{
	struct iovec memory = { (void *)start, size };

	pins->start = start;
	pins->nr_pages = size / PAGE_SIZE;
	for (unsigned long page = start; page < start + size; page += PAGE_SIZE)
		if (!own_page(page))
			return -EFAULT;
	if (pipe2(pins->pipe, O_CLOEXEC))
		return -errno;
	if (vmsplice(pins->pipe[1], &memory, 1, SPLICE_F_NONBLOCK) != (ssize_t)size) {
		unpin(pins);
		return -EFAULT;
	}
	read_frames(pins, pins->frame);
	return 0;
}

/* The card's own way to the memory: through the pins. Takes the probe of each page. */
static void read_pins(const struct pins *pins, uint64_t *probe)
{
	static __thread char data[MAX_PAGES * PAGE_SIZE];
	size_t size = pins->nr_pages * PAGE_SIZE;
	int copy[2];

	if (pipe2(copy, O_CLOEXEC) || tee(pins->pipe[0], copy[1], size, 0) != (ssize_t)size ||
	    read(copy[0], data, size) != (ssize_t)size) {
		perror("regcache: the card");
		_exit(3);
	}
	close(copy[0]);
	close(copy[1]);
	for (int i = 0; i < pins->nr_pages; i++)
		memcpy(&probe[i], data + i * PAGE_SIZE + PROBE, sizeof(*probe));
}

/* The application's way: through its page table, but with an error where it would get a signal. */
static bool read_memory(const struct pins *pins, uint64_t *probe)
{
	size_t size = pins->nr_pages * sizeof(*probe);
	struct iovec local = { probe, size }, remote[MAX_PAGES];

	for (int i = 0; i < pins->nr_pages; i++)
		remote[i] = (struct iovec){ (void *)(pins->start + i * PAGE_SIZE + PROBE), sizeof(*probe) };
	return process_vm_readv(getpid(), &local, 1, remote, pins->nr_pages, 0) == (ssize_t)size;
}

/* One look. The application may write meanwhile: a word that changes says nothing. */
static bool looks_current(const struct pins *pins, bool tell)
{
	uint64_t before[MAX_PAGES], sent[MAX_PAGES], after[MAX_PAGES], frame[MAX_PAGES];

	if (!read_memory(pins, before))
		return false;
	read_pins(pins, sent);
	if (!read_memory(pins, after))
		return false;
	read_frames(pins, frame);
	for (int i = 0; i < pins->nr_pages; i++) {
		if (!is_other_frame(frame[i], pins->frame[i]) && (before[i] != after[i] || sent[i] == before[i]))
			continue;
		if (tell)
			fprintf(stderr, "regcache: stale: %#lx has frame %#lx and word %#lx; sent frame %#lx and word %#lx\n",
				pins->start + i * PAGE_SIZE, frame[i], before[i], pins->frame[i], sent[i]);
		return false;
	}
	return true;
}

/*
 * Are the pinned pages those behind the addresses? What is stale stays so, as the lock is held: so look twice. A word of the
 * allocator, or of a struct in the same page, may change and change back during a look.
 */
static bool is_current(const struct pins *pins)
{
	for (int look = 0; look < NR_LOOKS; look++)
		if (looks_current(pins, look == NR_LOOKS - 1))
			return true;
	return false;
}

static struct entry *entry_of(unsigned long key)
{
	return &table[key % NR_KEYS];
}

/* The card reads all of a registration, and sends it. False: it does not know the key (any more). */
static bool card_send(unsigned long key)
{
	struct entry *entry = entry_of(key);
	bool known;

	spin_lock(&entry->lock);
	known = entry->key == key;
	if (known && !is_current(&entry->pins))
		stale++;
	spin_unlock(&entry->lock);
	++*(known ? &accesses : &refused);
	return known;
}

/* ibv_dereg_mr(): slow, and nothing to be done inside somebody's munmap(). */
static void card_deregister(unsigned long key)
{
	struct entry *entry = entry_of(key);
	struct pins pins;
	bool mapped;

	if (slow_us)
		usleep(slow_us);
	spin_lock(&entry->lock);
	mapped = entry->mapped;
	pins = entry->pins;
	entry->mapped = false;
	entry->key = 0;
	spin_unlock(&entry->lock);
	if (mapped)
		unpin(&pins);
}

/* --------------------------------------------------------------------------------------------------- the cache */

/* A registration. */
struct region {
	struct mmu_notifier_live_range range;	/* tells us before the memory changes; or only range.interval does */
	struct interval_tree_node node;		/* in cache->tree, from start to last address */
	struct cache *cache;
	unsigned long key;			/* never 0, and never used again */
	unsigned long epoch;			/* when it was made */
	bool changed;				/* its memory has; under the lock of its entry */
	_Atomic bool ready;			/* to be found */
	_Atomic int refs;			/* one of the range until it is done, one of each user */
};

struct cache {
	spinlock_t lock;			/* guards the next three; nothing is allocated, freed or waited for under it */
	struct rb_root_cached tree;
	struct region *slot[NR_KEYS];		/* whose is the entry of the card's table */
	unsigned long last_key;
	unsigned int timeout_ms;		/* how long who unmaps waits for the release; 0: there is none */
	bool forget_retry;			/* a mistake, to show that it matters */
	void (*in_the_middle)(struct region *region);	/* for tests: called in the middle of each registration */
};

static counter hits, misses, again;

static void region_put(struct region *region)
{
	if (!--region->refs)
		free(region);
}

/*
 * From here on the region is not found any more, and the card does not touch its memory: an access that is under way
 * has ended, as we have the lock of the entry. The entry may be another region's by now.
 */
static void region_stop(struct region *region)
{
	struct entry *entry = entry_of(region->key);

	if (entry->key == region->key)
		entry->key = 0;
	region->ready = false;
}

/*
 * Inside a system call of any thread, perhaps inside its malloc() or free(): so nothing may be allocated here, and no lock
 * taken that anybody holds over malloc(), free() or munmap(). The card's lock is held over nothing of that kind.
 * mmu_interval_set_seq() comes under the lock under which mmu_interval_read_retry() is called.
 */
static bool region_invalidate(struct mmu_interval_notifier *interval, const struct mmu_notifier_range *event,
			      unsigned long seq)
{
	struct region *region = container_of(interval, struct region, range.interval);
	spinlock_t *lock = &entry_of(region->key)->lock;

	if (mmu_notifier_range_blockable(event))
		spin_lock(lock);
	else if (!spin_trylock(lock))
		return false;
	mmu_interval_set_seq(interval, seq);
	region->changed = true;
	region_stop(region);
	spin_unlock(lock);
	return true;
}

static const struct mmu_interval_notifier_ops interval_ops = { .invalidate = region_invalidate };

/* Gives everything back. Slow. */
static void region_release(struct region *region)
{
	struct cache *cache = region->cache;

	card_deregister(region->key);
	spin_lock(&cache->lock);
	interval_tree_remove(&region->node, &cache->tree);
	cache->slot[region->key % NR_KEYS] = NULL;	/* not before the card has forgotten the key */
	spin_unlock(&cache->lock);
}

/* The stages of --blocking. */
static bool stage_invalidate(struct mmu_notifier_live_range *range, const struct mmu_notifier_range *event,
			     unsigned long seq)
{
	return region_invalidate(&range->interval, event, seq);
}

/*
 * On a thread of the library, once. The thread that takes the memory away waits until this returns, so this must not
 * wait for anything that such a thread may hold: cache->lock is none of that.
 */
static void stage_release(struct mmu_notifier_live_range *range)
{
	region_release(container_of(range, struct region, range));
}

/* The library does not touch the range any more. Who still uses the region finds its key refused. */
static void stage_done(struct mmu_notifier_live_range *range)
{
	region_put(container_of(range, struct region, range));
}

static const struct mmu_notifier_live_range_ops stage_ops = {
	.invalidate = stage_invalidate, .release = stage_release, .done = stage_done,
};

static int region_watch(struct region *region)
{
	unsigned long start = region->node.start, size = region->node.last + 1 - start;
	unsigned int timeout_ms = region->cache->timeout_ms;

	if (timeout_ms)
		return mmu_notifier_live_range_insert(&region->range, current->mm, start, size, &stage_ops, timeout_ms);
	return mmu_interval_notifier_insert(&region->range.interval, current->mm, start, size, &interval_ops);
}

/* Waits until nobody is in our callbacks. False: the library has released the region, or is about to. */
static bool region_unwatch(struct region *region)
{
	if (region->cache->timeout_ms)
		return mmu_notifier_live_range_remove(&region->range);
	mmu_interval_notifier_remove(&region->range.interval);
	return true;
}

/* Ends a registration that the caller has a reference to, unless a change of its memory is doing so already. */
static void region_retire(struct region *region)
{
	spinlock_t *lock = &entry_of(region->key)->lock;

	spin_lock(lock);
	region_stop(region);
	spin_unlock(lock);
	if (region_unwatch(region)) {
		region_release(region);
		region_put(region);
	}
}

/*
 * Gives the region a key and puts it into the cache, not to be found yet. cache->lock is held. -EAGAIN: all keys are
 * taken; *old, which has no users, is to be retired first. -ENOSPC: all are in use.
 */
static int cache_try_add(struct cache *cache, struct region *region, struct region **old)
{
	for (int tries = 0; tries < NR_KEYS; tries++) {
		struct region **slot = &cache->slot[++cache->last_key % NR_KEYS];

		*old = *slot;
		if (!*old) {
			*slot = region;
			region->key = cache->last_key;
			interval_tree_insert(&region->node, &cache->tree);
			return 0;
		}
		if ((*old)->refs == 1) {
			(*old)->refs++;
			return -EAGAIN;
		}
	}
	return -ENOSPC;
}

static int cache_add(struct cache *cache, struct region *region)
{
	struct region *old;
	int err;

	do {
		spin_lock(&cache->lock);
		err = cache_try_add(cache, region, &old);
		spin_unlock(&cache->lock);
		if (err == -EAGAIN) {
			region_retire(old);		/* sleeps and frees: not under cache->lock */
			region_put(old);
		}
	} while (err == -EAGAIN);
	return err;
}

/*
 * Registers the memory with the card. Between the look at the pages and the use of what was seen, anything may happen
 * to them: so the look is valid only if read_retry() says so under the lock that invalidate takes. -ESTALE: it is not.
 * (A range with stages is good for one change: if that came before read_begin(), only `changed` tells.)
 */
static int region_register(struct region *region)
{
	struct mmu_interval_notifier *interval = &region->range.interval;
	struct entry *entry = entry_of(region->key);
	unsigned long seq = mmu_interval_read_begin(interval);	/* sleeps while the memory is being changed */
	struct pins pins;
	bool valid;
	int err = pin(&pins, region->node.start, region->node.last + 1 - region->node.start);

	if (err)
		return err;
	if (region->cache->in_the_middle)
		region->cache->in_the_middle(region);
	spin_lock(&entry->lock);
	valid = (!mmu_interval_read_retry(interval, seq) && !region->changed) || region->cache->forget_retry;
	if (valid) {
		entry->pins = pins;
		entry->mapped = true;
		entry->key = region->key;
		region->ready = true;
	}
	spin_unlock(&entry->lock);
	if (valid)
		return 0;
	unpin(&pins);
	return -ESTALE;
}

static int region_insert(struct region *region)
{
	int err = region_watch(region);

	if (err) {					/* nobody will call us */
		region_release(region);
		region_put(region);
		return err;
	}
	err = region_register(region);
	if (err)
		region_retire(region);
	return err;
}

/* A new region, with a reference for the caller. */
static int cache_miss(struct cache *cache, unsigned long start, unsigned long last, struct region **found)
{
	struct region *region = calloc(1, sizeof(*region));	/* before any lock: it may unmap memory itself */
	int err;

	if (!region)
		return -ENOMEM;
	region->cache = cache;
	region->node.start = start;
	region->node.last = last;
	region->refs = 2;
	region->epoch = mmu_notifier_live_epoch();
	err = cache_add(cache, region);
	if (err) {
		free(region);
		return err;
	}
	err = region_insert(region);
	if (err)
		region_put(region);
	else
		*found = region;
	return err;
}

/*
 * The epoch has risen if the library missed a change, so that no region of an older one may be trusted. Such regions
 * are not found any more, and evicted sooner or later.
 */
static struct region *cache_lookup(struct cache *cache, unsigned long start, unsigned long last)
{
	unsigned long epoch = mmu_notifier_live_epoch();
	struct interval_tree_node *node;
	struct region *region = NULL;

	spin_lock(&cache->lock);
	for (node = interval_tree_iter_first(&cache->tree, start, last); node;
	     node = interval_tree_iter_next(node, start, last)) {
		struct region *here = container_of(node, struct region, node);

		if (node->start <= start && node->last >= last && here->ready && here->epoch == epoch) {
			region = here;
			region->refs++;
			break;
		}
	}
	spin_unlock(&cache->lock);
	return region;
}

/*
 * The registration of a buffer, from the cache or new; NULL with errno. The caller gives it back with region_put().
 * Its memory may change while the caller has it: then the card refuses the key, and the caller gets a new one.
 */
static struct region *cache_get(struct cache *cache, const void *buffer, size_t size)
{
	unsigned long start = (unsigned long)buffer & PAGE_MASK;
	unsigned long last = ((unsigned long)buffer + size - 1) | ~PAGE_MASK;
	struct region *region = cache_lookup(cache, start, last);
	int err;

	++*(region ? &hits : &misses);
	while (!region) {
		err = cache_miss(cache, start, last, &region);
		if (err == -ESTALE) {
			again++;
		} else if (err) {
			errno = -err;
			return NULL;
		}
	}
	return region;
}

/* No user is left. */
static void cache_end(struct cache *cache)
{
	for (int i = 0; i < NR_KEYS; i++) {
		struct region *region;

		spin_lock(&cache->lock);
		region = cache->slot[i];
		if (region)
			region->refs++;
		spin_unlock(&cache->lock);
		if (region) {
			region_retire(region);
			region_put(region);
		}
	}
}

/* --------------------------------------------------------------------------------------------- the application */

#define NR_WORKERS	4
#define NR_SLEEPS	16		/* of the peer, between two rounds over the card's table: one in so many accesses */
#define WATCHDOG	120		/* seconds beyond the planned end */

struct worker {
	pthread_t thread;
	struct cache *cache;
	unsigned long seed;
};

static struct cache cache;
static counter sent;
static _Atomic bool stop;
static char *window;			/* memory that all workers send from, while any of them replaces it */

static void must(bool ok, const char *what)
{
	if (!ok) {
		fprintf(stderr, "regcache: %s: %s\n", what, strerror(errno));
		_exit(3);
	}
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

static char *map(void *addr, size_t size, int flags)
{
	char *buffer = mmap(addr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);

	must(buffer != MAP_FAILED, "mmap");
	return buffer;
}

/* Moves what is at `from` to `to`, over what is there. */
static void move(char *from, char *to, size_t size)
{
	must(mremap(from, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to, "mremap");
}

/* Words that were in no page before: whoever has another page than this one has something else. */
static void fill(char *buffer, size_t size)
{
	static counter next;
	char *end = buffer + size;

	for (char *page = (char *)((unsigned long)buffer & PAGE_MASK); page < end; page += PAGE_SIZE)
		if (page + PROBE >= buffer && page + PROBE + sizeof(next) <= end)
			*(counter *)(page + PROBE) = ++next;
}

/* Sends the buffer, as an RDMA library would: by a key from the cache, and once more if the key is not good any more. */
static void send_buffer(const char *buffer, size_t size)
{
	bool ok;

	do {
		struct region *region = cache_get(&cache, buffer, size);

		must(region, "cache_get");
		ok = card_send(region->key);
		region_put(region);
	} while (!ok);
	sent++;
}

static void fill_and_send(char *buffer, size_t size)
{
	fill(buffer, size);
	send_buffer(buffer, size);
}

static size_t some_pages(struct worker *w)
{
	return (1 + random_below(w, MAX_PAGES)) * PAGE_SIZE;
}

/* Small ones come from a heap, which is trimmed now and then; large ones have a mapping of their own. */
static void use_malloc(struct worker *w)
{
	char *buffers[8];

	for (int i = 0; i < 8; i++) {
		size_t size = some_pages(w) * 3 / 4;

		buffers[i] = malloc(size);
		must(buffers[i], "malloc");
		fill_and_send(buffers[i], size);
		if (random_below(w, 4))
			continue;
		buffers[i] = realloc(buffers[i], size / 2);
		must(buffers[i], "realloc");
		fill_and_send(buffers[i], size / 2);
	}
	for (int i = 0; i < 8; i++)
		free(buffers[i]);
}

/* The buffer stays mapped all the time, or others would get its address. */
static void use_mmap(struct worker *w)
{
	size_t size = some_pages(w);
	char *buffer = map(NULL, size, 0), *other;

	fill_and_send(buffer, size);
	switch (random_below(w, 4)) {
	case 0:
		map(buffer, size, MAP_FIXED);
		break;
	case 1:
		must(!madvise(buffer, size, MADV_DONTNEED), "madvise");
		break;
	case 2:
		other = mremap(buffer, size, size, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, NULL);
		must(other != MAP_FAILED, "mremap");
		fill_and_send(other, size);
		munmap(other, size);
		break;
	case 3:
		must(!mprotect(buffer, size, PROT_NONE) && !mprotect(buffer, size, PROT_READ | PROT_WRITE), "mprotect");
		break;
	}
	fill_and_send(buffer, size);
	munmap(buffer, size);
}

static void *stack_thread(void *data)
{
	char buffer[4 * PAGE_SIZE];

	(void)data;
	fill_and_send(buffer, sizeof(buffer));
	return NULL;
}

/* Memory of a thread's stack; the stack of the next thread is at the same place. */
static void use_thread(struct worker *w)
{
	pthread_t thread;

	must(!(errno = pthread_create(&thread, NULL, stack_thread, w)), "pthread_create");
	pthread_join(thread, NULL);
}

/* As long as the child lives, who writes first gets another page: that is what we do here, in fill(). */
static void use_fork(struct worker *w)
{
	size_t size = some_pages(w);
	char *buffer = map(NULL, size, 0);
	pid_t child;

	fill_and_send(buffer, size);
	child = fork();
	must(child >= 0, "fork");
	if (!child) {
		usleep(500);
		_exit(0);
	}
	fill_and_send(buffer, size);
	waitpid(child, NULL, 0);
	munmap(buffer, size);
}

/* Somebody replaces memory that others are registering and sending. */
static void use_window(struct worker *w)
{
	char *fresh;

	send_buffer(window, MAX_PAGES * PAGE_SIZE);
	if (random_below(w, 4))
		return;
	fresh = map(NULL, MAX_PAGES * PAGE_SIZE, 0);
	fill(fresh, MAX_PAGES * PAGE_SIZE);
	move(fresh, window, MAX_PAGES * PAGE_SIZE);
}

static void *worker_thread(void *data)
{
	static void (*const uses[])(struct worker *w) = { use_malloc, use_mmap, use_thread, use_window };
	struct worker *w = data;

	while (!stop) {
		uses[random_below(w, sizeof(uses) / sizeof(uses[0]))](w);
		if (!random_below(w, 100))
			use_fork(w);
	}
	return NULL;
}

/* Whoever was told a key may use it at any time, as in a one-sided RDMA read: also in the middle of an munmap(). */
static void *peer_thread(void *data)
{
	struct worker *w = data;

	while (!stop) {
		unsigned long key = table[random_below(w, NR_KEYS)].key;

		if (key)
			card_send(key);
		if (!key || !random_below(w, NR_SLEEPS))
			usleep(50);
	}
	return NULL;
}

static void play(double seconds)
{
	static struct worker worker[NR_WORKERS + 1];
	double end = now() + seconds;

	window = map(NULL, MAX_PAGES * PAGE_SIZE, 0);
	for (int i = 0; i <= NR_WORKERS; i++) {
		worker[i].seed = 0x9e3779b97f4a7c15UL * (i + 1);
		must(!(errno = pthread_create(&worker[i].thread, NULL, i ? worker_thread : peer_thread, &worker[i])),
		     "pthread_create");
	}
	while (now() < end)
		usleep(100000);
	stop = true;
	for (int i = 0; i <= NR_WORKERS; i++)
		pthread_join(worker[i].thread, NULL);
}

/* ------------------------------------------------------------------------------------------- two tests of one step */

static void discard(char *buffer, size_t size)
{
	must(!madvise(buffer, size, MADV_DONTNEED), "madvise");
}

static void replace(char *buffer, size_t size)
{
	munmap(buffer, size);
	map(buffer, size, MAP_FIXED);
}

static void move_over(char *buffer, size_t size)
{
	move(map(NULL, size, 0), buffer, size);
}

static void (*const changes[])(char *buffer, size_t size) = { discard, replace, move_over };
#define NR_CHANGES	((int)(sizeof(changes) / sizeof(changes[0])))

static int change;

/* The card has looked at the pages, and is about to use what it saw. */
static void change_in_the_middle(struct region *region)
{
	char *buffer = (char *)region->node.start;
	size_t size = region->node.last + 1 - region->node.start;

	cache.in_the_middle = NULL;
	changes[change](buffer, size);
	fill(buffer, size);
}

/* How many registrations are stale whose memory changed while they were made. */
static int test_registration(size_t size)
{
	unsigned long before = stale;

	for (change = 0; change < NR_CHANGES; change++) {
		char *buffer = map(NULL, size, 0);	/* stays, so that the next one is elsewhere */

		fill(buffer, size);
		cache.in_the_middle = change_in_the_middle;
		send_buffer(buffer, size);
	}
	return stale - before;
}

/* How many changes return while the card still has the pages, if it takes its time. */
static int test_release(size_t size)
{
	int late = 0;

	slow_us = 20000;
	for (change = 0; change < NR_CHANGES; change++) {
		char *buffer = map(NULL, size, 0);
		struct region *region = cache_get(&cache, buffer, size);

		must(region, "cache_get");
		changes[change](buffer, size);
		late += entry_of(region->key)->mapped;
		region_put(region);
	}
	slow_us = 0;
	return late;
}

/* ------------------------------------------------------------------------------------------------------ the program */

struct options {
	double seconds;
	bool off, blocking;
};

static void __attribute__((noreturn)) usage(int status)
{
	fprintf(status ? stderr : stdout, "Usage: regcache [-t SECONDS] [--blocking] [--off] [--forget-retry]\n\n"
		"  --blocking       munmap() and its like return when the card has given the pages back\n"
		"  --off            without live events: stale accesses are to be expected\n"
		"  --forget-retry   the registration does not check again\n\n"
		"Exit status: 0 nothing stale; 1 something stale, or with --blocking given back late; 3 trouble, or a hang.\n");
	exit(status);
}

static struct options parse(int argc, char **argv)
{
	static const struct option longs[] = {
		{ "blocking", no_argument, NULL, 'b' },	    { "off", no_argument, NULL, 'o' },
		{ "forget-retry", no_argument, NULL, 'f' }, { "help", no_argument, NULL, 'h' }, { NULL, 0, NULL, 0 },
	};
	struct options options = { .seconds = 10 };
	int c;

	while ((c = getopt_long(argc, argv, "t:h", longs, NULL)) != -1) {
		if (c == 't')
			options.seconds = atof(optarg);
		else if (c == 'b')
			options.blocking = true;
		else if (c == 'o')
			options.off = true;
		else if (c == 'f')
			cache.forget_retry = true;
		else
			usage(c == 'h' ? 0 : 3);
	}
	if (optind < argc)
		usage(3);
	return options;
}

static struct mmu_notifier_live_status live_status(void)
{
	struct mmu_notifier_live_status status = { .size = sizeof(status) };

	mmu_notifier_live_status(&status);
	return status;
}

/* Whoever cannot be told must not cache: a library would register and deregister around each use from here on. */
static void live_on(void)
{
	int err = mmu_notifier_live_enable();

	if (!err)
		return;
	fprintf(stderr, "regcache: no live events: %s (%s)\n", strerror(-err), live_status().reason);
	exit(3);
}

static void print(const char *name, unsigned long value)
{
	printf("%-28s %10lu\n", name, value);
}

static void print_table(void)
{
	struct mmu_notifier_live_status status = live_status();

	print("buffers sent", sent);
	print("hits", hits);
	print("misses", misses);
	print("changed while registering", again);
	print("accesses by the card", accesses);
	print("refused by the card", refused);
	print("live events", status.events);
	print("releases not waited for", status.release_timeouts);
	print("epoch", status.epoch);
}

int main(int argc, char **argv)
{
	struct options options = parse(argc, argv);
	int unsafe, late;

	alarm(options.seconds + WATCHDOG);
	mallopt(M_MMAP_THRESHOLD, 8 * PAGE_SIZE);
	mallopt(M_TRIM_THRESHOLD, 8 * PAGE_SIZE);
	pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	cache.tree = RB_ROOT_CACHED;
	cache.timeout_ms = options.blocking ? WAIT_MS : 0;
	if (!options.off)
		live_on();

	unsafe = test_registration(4 * PAGE_SIZE);
	late = test_release(4 * PAGE_SIZE);
	play(options.seconds);
	cache_end(&cache);
	print_table();
	if (!options.off)
		mmu_notifier_live_disable();

	printf("changed while registering:   %d of %d trusted\n", unsafe, NR_CHANGES);
	printf("change returned:             %d of %d while the card had the pages\n", late, NR_CHANGES);
	printf("stale accesses: %lu\n", stale);
	return stale || (options.blocking && late);
}
