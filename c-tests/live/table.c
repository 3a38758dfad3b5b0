// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * table - which changes of a mapping are noticed, before and after, and is the caller held until the subscriber is done?
 *
 * Each row (rows_*.c) runs in a process of its own, once for each column: `off` is the ground truth, nobody watches; `live` has
 * the library's live events; `ucx` has UCX's memory hooks (libucm, by dlopen); `ucx,live` and `live,ucx` have both, in that
 * order, and show what live events see, then what UCX sees.
 *
 *	B	a callback ran before the change: the old contents were still there, read with process_vm_readv
 *	A	a callback ran after it: the contents were gone
 *	w	the change waited: a callback that stalled found the old contents to its end, and the call returned after it
 *
 * Usage: table [-r ROW] COLUMN...; LIVE_TABLE_OFF=1 leaves live events off in every column, which must fail every row.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <linux/mmu_notifier.h>
#include <linux/sched/mm.h>
#include <mmu_notifier/live.h>

#include "rows.h"

enum { STALL_MS = 20, LATE_MS = 100, ROW_SECONDS = 30, EVENTS = 16, COLUMNS = 6, MAX_ROWS = 128 };

/* What one subscriber saw of the watched range. */
struct seen {
	unsigned int begun, finished;		/* callbacks that began, and that have come to their end */
	unsigned int ends;			/* end callbacks */
	bool before, held, after, waited;
	unsigned int nr;
	struct { unsigned long start, end; int event; } event[EVENTS];
};

enum who { LIVE, UCX, NR_WHO };

/* What a row's process tells. */
struct result {
	struct watch watch;
	bool lost;		/* the old state is gone when the call has returned */
	bool enabled;		/* live events are */
	bool net;		/* the userfaultfd net is in force */
	char no_net[160];	/* or why it is not */
	bool awake;		/* a munmap afterwards is noticed (asked in rows without events) */
	struct seen seen[NR_WHO];
};

/* ------------------------------------------------------------ in the row's process */

static const struct row *row;
static struct watch watch;
static struct result result;
static int pagemap;
static bool closed;		/* what comes now does not count */

static bool pagemap_bit(int bit)
{
	uint64_t entry;

	return pread(pagemap, &entry, sizeof(entry), (uintptr_t)watch.probe / PAGE * sizeof(entry)) == sizeof(entry) &&
	       entry >> bit & 1;
}

/* Is everything as it was? Makes system calls only, and none that changes mappings. */
static bool old_state(void)
{
	unsigned long word = SENTINEL;
	struct iovec here = { &word, sizeof(word) }, there = { watch.probe, sizeof(word) };

	switch (row->state) {
	case WRITABLE:
		return process_vm_writev(getpid(), &here, 1, &there, 1, 0) == sizeof(word);
	case EXCLUSIVE:
		return pagemap_bit(56);
	case PRESENT:
		return pagemap_bit(63);
	default:
		return process_vm_readv(getpid(), &here, 1, &there, 1, 0) == sizeof(word) && word == SENTINEL;
	}
}

static bool is_watched(unsigned long start, unsigned long end)
{
	return !closed && start < (unsigned long)watch.start + watch.length && end > (unsigned long)watch.start;
}

/* A callback before the change, as it says. It stalls. */
static void on_begin(enum who who, unsigned long start, unsigned long end, int event)
{
	struct seen *seen = &result.seen[who];
	struct timespec stall = { .tv_nsec = STALL_MS * 1000000 };
	bool before = old_state();

	__atomic_add_fetch(&seen->begun, 1, __ATOMIC_SEQ_CST);
	if (seen->nr < EVENTS) {
		seen->event[seen->nr].start = start;
		seen->event[seen->nr].end = end;
		seen->event[seen->nr++].event = event;
	}
	if (!before && row->state != NOTHING)
		seen->after = true;		/* too late: the contents are gone */
	while (syscall(SYS_nanosleep, &stall, &stall) && errno == EINTR)
		;
	if (before) {
		seen->held = (!seen->before || seen->held) && old_state();
		seen->before = true;
	}
	__atomic_add_fetch(&seen->finished, 1, __ATOMIC_SEQ_CST);
}

static void on_end(enum who who)
{
	struct seen *seen = &result.seen[who];

	seen->ends++;
	if (!old_state() && row->state != NOTHING)
		seen->after = true;
}

/* ---- live events: an interval notifier, and a notifier of the whole address space ---- */

static bool interval_before, chain_before;

static bool invalidate(struct mmu_interval_notifier *sub, const struct mmu_notifier_range *range, unsigned long seq)
{
	mmu_interval_set_seq(sub, seq);
	if (is_watched(range->start, range->end)) {
		interval_before |= old_state();
		on_begin(LIVE, range->start, range->end, (int)range->event);
	}
	return true;
}

static int range_start(struct mmu_notifier *sub, const struct mmu_notifier_range *range)
{
	(void)sub;
	if (is_watched(range->start, range->end))
		chain_before |= old_state();
	return 0;
}

static void range_end(struct mmu_notifier *sub, const struct mmu_notifier_range *range)
{
	(void)sub;
	if (is_watched(range->start, range->end))
		on_end(LIVE);
}

static const struct mmu_interval_notifier_ops interval_ops = { .invalidate = invalidate };
static const struct mmu_notifier_ops chain_ops = { .invalidate_range_start = range_start, .invalidate_range_end = range_end };
static struct mmu_interval_notifier interval;
static struct mmu_notifier chain = { .ops = &chain_ops };

static void live_enable(void)
{
	struct mmu_notifier_live_status status = { .size = sizeof(status) };
	int error;

	if (getenv("LIVE_TABLE_OFF"))
		return;
	error = mmu_notifier_live_enable_with(MMU_NOTIFIER_LIVE_NET);
	if (error) {
		mmu_notifier_live_status(&status);
		dprintf(STDERR_FILENO, "mmu_notifier_live_enable: %s: %s\n", strerror(-error), status.reason);
		_exit(3);
	}
	mmu_notifier_live_status(&status);
	result.enabled = true;
	result.net = status.mechanisms & MMU_NOTIFIER_LIVE_BY_NET;
	memcpy(result.no_net, status.reason, sizeof(result.no_net));
}

static void live_subscribe(void)
{
	MUST(!mmu_notifier_register(&chain, current->mm));
	MUST(!mmu_interval_notifier_insert(&interval, current->mm, (unsigned long)watch.start, watch.length, &interval_ops));
}

/* ---- UCX: its interface, of <ucm/api/ucm.h> ---- */

enum { UCM_EVENT_VM_UNMAPPED = 1 << 17 };
union ucm_event { struct { void *address; size_t size; } unmapped; };

static void ucx_unmapped(int type, union ucm_event *event, void *unused)
{
	unsigned long start = (unsigned long)event->unmapped.address;

	(void)type;
	(void)unused;
	if (is_watched(start, start + event->unmapped.size))
		on_begin(UCX, start, start + event->unmapped.size, MMU_NOTIFY_UNMAP);
}

static void ucx_enable(void)
{
	void *libucm = dlopen("libucs.so.0", RTLD_NOW);		/* needs libucm, which cannot be loaded alone */
	int (*set_event_handler)(int, int, void (*)(int, union ucm_event *, void *), void *);
	int error;

	if (!libucm)
		cannot("no libucs.so.0 (libucx0): %s", dlerror());
	set_event_handler = (__typeof__(set_event_handler))dlsym(libucm, "ucm_set_event_handler");
	error = set_event_handler ? set_event_handler(UCM_EVENT_VM_UNMAPPED, 0, ucx_unmapped, NULL) : -1;
	if (error)
		dprintf(STDERR_FILENO, "ucm_set_event_handler: %d\n", error), _exit(3);
}

/* ---- a row ---- */

static void enable(const char *column)
{
	for (const char *name = column; name; name = strchr(name, ',') ? strchr(name, ',') + 1 : NULL)
		if (!strncmp(name, "live", 4))
			live_enable();
		else if (!strncmp(name, "ucx", 3))
			ucx_enable();
}

/* Late events get some time; the first one that has to come, as much as a busy machine may need. */
static void wait_for_late_events(void)
{
	struct timespec late = { .tv_nsec = LATE_MS * 1000000 };
	const unsigned int *finished = &result.seen[LIVE].finished;
	bool must_come = row->want == NET && result.net;

	for (int n = 0; must_come && !__atomic_load_n(finished, __ATOMIC_SEQ_CST) && n < ROW_SECONDS * 1000 / LATE_MS / 2; n++)
		nanosleep(&late, NULL);
	nanosleep(&late, NULL);
}

/* The call has returned: who was waited for? */
static void judge(void)
{
	for (int who = 0; who < NR_WHO; who++) {
		struct seen *seen = &result.seen[who];

		seen->waited = seen->before && seen->held && !(seen->after && !seen->ends && who == LIVE) &&
			       __atomic_load_n(&seen->begun, __ATOMIC_SEQ_CST) ==
				       __atomic_load_n(&seen->finished, __ATOMIC_SEQ_CST);
	}
	result.lost = !old_state();
	if (row->want == NET || row->want == UNSEEN)
		wait_for_late_events();
	/* Both kinds of subscriber were told in time. */
	result.seen[LIVE].before = interval_before && (chain_before || row->want == NET);
	if (row->state == LAZY) {
		closed = true;
		inline_call(SYS_madvise, (long)watch.start, watch.length, MADV_PAGEOUT, 0, 0, 0);
		result.lost = !old_state();
		for (int who = 0; who < NR_WHO; who++)
			result.seen[who].after |= result.seen[who].ends && result.lost;
	}
}

/* Where nothing is to be noticed, show that something can be. */
static void check_awake(void)
{
	struct seen copy[NR_WHO];

	memcpy(copy, result.seen, sizeof(copy));
	if (row->want != QUIET && row->want != SPURIOUS && row->want != UNSEEN)
		return;
	munmap(watch.start, watch.length);
	result.awake = result.seen[LIVE].begun > copy[LIVE].begun;
	memcpy(result.seen, copy, sizeof(copy));
}

static int run_row(const char *column, int to)
{
	alarm(ROW_SECONDS);
	pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	if (row->flags & EARLY)
		row->prepare(&watch);
	enable(column);
	if (!(row->flags & EARLY))
		row->prepare(&watch);
	if (strstr(column, "live"))
		live_subscribe();
	MUST(old_state());
	row->change(&watch);
	judge();
	check_awake();
	result.watch = watch;
	return write(to, &result, sizeof(result)) == sizeof(result) ? 0 : 3;
}

/* ------------------------------------------------------------------- in the parent */

/* One cell of the table. */
struct cell {
	int status;		/* of the row's process: 0, 77 (skipped), or a failure */
	char said[200];		/* what it wrote on stderr */
	struct result result;
};

static const struct row *const groups[] = { rows_map, rows_libc, rows_file, rows_other, rows_where, rows_none };

static void read_all(int fd, char *text, size_t size)
{
	size_t length = 0;
	ssize_t got;

	while (length < size && (got = read(fd, text + length, size - length)) > 0)
		length += (size_t)got;
}

static struct cell run_cell(const char *name, const char *column)
{
	struct cell cell = { .status = 3 };
	int answer[2], words[2], status;
	char number[16];
	pid_t child;

	if (pipe(answer) || pipe(words))
		exit(3);
	child = fork();
	if (!child) {
		dup2(words[1], STDERR_FILENO);
		snprintf(number, sizeof(number), "%d", dup(answer[1]));
		close(answer[0]), close(answer[1]), close(words[0]), close(words[1]);
		execl("/proc/self/exe", "table", "--row", name, column, number, NULL);
		_exit(3);
	}
	close(answer[1]), close(words[1]);
	if (waitpid(child, &status, 0) == child)
		cell.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
	read_all(answer[0], (char *)&cell.result, sizeof(cell.result));
	read_all(words[0], cell.said, sizeof(cell.said) - 1);
	cell.said[strcspn(cell.said, "\n")] = 0;
	close(answer[0]), close(words[0]);
	return cell;
}

static const char *letters(const struct seen *seen, char text[8])
{
	snprintf(text, 8, "%s%s%s", seen->before ? "B" : "", seen->after ? "A" : "", seen->waited ? "w" : "");
	return *text ? text : seen->begun ? "fires" : "-";
}

static const char *show(const char *column, const struct cell *cell, char text[40])
{
	char one[8], two[8];

	if (cell->status == 77)
		return "skip";
	if (cell->status)
		snprintf(text, 40, "died %d", cell->status);
	else if (!strcmp(column, "off"))
		snprintf(text, 40, "%s", cell->result.lost ? "lost" : "kept");
	else if (strchr(column, ','))
		snprintf(text, 40, "%s/%s", letters(&cell->result.seen[LIVE], one), letters(&cell->result.seen[UCX], two));
	else
		snprintf(text, 40, "%s", letters(&cell->result.seen[*column == 'u' ? UCX : LIVE], one));
	return text;
}

static bool noticed(const struct seen *seen) { return seen->before || seen->after; }

/* An event of the right kind that covers what changes; with EXACT nothing more. */
static const char *check_range(const struct row *row, const struct result *result)
{
	const struct seen *seen = &result->seen[LIVE];
	unsigned long start = (unsigned long)result->watch.changed, end = start + result->watch.changed_length;
	bool kind = row->event == EVENT_ANY, covers = false, exact = false;

	for (unsigned int i = 0; i < seen->nr; i++) {
		kind |= seen->event[i].event == row->event;
		covers |= seen->event[i].start <= start && seen->event[i].end >= end;
		exact |= seen->event[i].start == start && seen->event[i].end == end;
	}
	if (!kind)
		return "the wrong kind of event";
	if (!covers)
		return "the event does not cover what changed";
	return exact || !(row->flags & EXACT) ? NULL : "the event covers more than what changed";
}

static struct seen const *live_of(const struct cell *cell) { return &cell->result.seen[LIVE]; }

/* NULL, or why the row fails. */
static const char *verdict_live(const struct row *row, const struct cell *cell)
{
	const struct seen *seen = live_of(cell);

	switch (row->want) {
	case BAW:
		return !seen->before ? "not noticed before" : !seen->after ? "not noticed after" :
		       !seen->waited ? "the caller did not wait" : check_range(row, &cell->result);
	case NET:
		if (cell->result.enabled && !cell->result.net)
			return noticed(seen) ? "noticed without the net: the table is out of date" : NULL;
		return !noticed(seen) ? "not noticed" : seen->before && seen->after && seen->waited ?
		       "better than expected: the table is out of date" : NULL;
	case QUIET:
		return seen->begun ? "an event for nothing" : !cell->result.awake ? "the subscriber sleeps" : NULL;
	case SPURIOUS:
		return !cell->result.awake ? "the subscriber sleeps" : NULL;
	case UNSEEN:
		return noticed(seen) ? "better than expected: the table is out of date" :
		       !cell->result.awake ? "the subscriber sleeps" : NULL;
	}
	return "unknown expectation";
}

static const char *verdict_off(const struct row *row, const struct cell *cell)
{
	return row->state == NOTHING ? (cell->result.lost ? "something was lost" : NULL) :
	       !cell->result.lost ? "nothing was lost: the row proves nothing" : NULL;
}

struct sums { int passed, failed, skipped, anchors, noticed[NR_WHO], in_time[NR_WHO], net_missing; char no_net[160]; };

/* A row that UCX alone breaks (Debian 12's drops the fifth argument of mremap) is not ours to carry out with it. */
static bool ucx_breaks(char *const columns[], const struct cell cells[], int c)
{
	while (--c >= 0)
		if (!strcmp(columns[c], "ucx") && cells[c].status)
			return true;
	return false;
}

static const char *row_verdict(const struct row *row, char *const columns[], const struct cell cells[])
{
	const char *why = NULL;

	for (int c = 0; columns[c] && !why; c++) {
		if (!strcmp(columns[c], "ucx") || (strstr(columns[c], "ucx") && ucx_breaks(columns, cells, c)))
			continue;
		if (cells[c].status)
			why = *cells[c].said ? cells[c].said : "the process died";
		else
			why = (*columns[c] == 'o' ? verdict_off : verdict_live)(row, &cells[c]);
	}
	return why;
}

/* What the closing line says, of the rows that other libraries were measured with. */
static void add_up(const struct row *row, char *const columns[], const struct cell cells[], struct sums *sums)
{
	for (int c = 0; columns[c] && row->flags & ANCHOR; c++) {
		enum who who = *columns[c] == 'u' ? UCX : LIVE;
		const struct seen *seen = &cells[c].result.seen[who];

		if (strcmp(columns[c], "live") && strcmp(columns[c], "ucx"))
			continue;
		sums->anchors += who == LIVE;
		sums->noticed[who] += noticed(seen);
		sums->in_time[who] += seen->before && seen->waited;
		if (who == LIVE && row->want == NET && cells[c].result.enabled && !cells[c].result.net) {
			sums->net_missing++;
			memcpy(sums->no_net, cells[c].result.no_net, sizeof(sums->no_net));
		}
	}
}

static void print_row(const struct row *row, char *const columns[], struct sums *sums)
{
	struct cell cells[COLUMNS];
	const char *why;
	char text[40];

	printf("%c %-42s", row->flags & ANCHOR ? '+' : ' ', row->name);
	for (int c = 0; columns[c]; c++) {
		cells[c] = run_cell(row->name, columns[c]);
		printf(" %-9s", show(columns[c], &cells[c], text));
		fflush(stdout);
		if (cells[c].status == 77) {
			printf("\nSKIP %s (%s): %s\n", row->name, columns[c], cells[c].said);
			sums->skipped++;
			return;
		}
	}
	why = row_verdict(row, columns, cells);
	printf("%s%s\n", why ? " FAIL " : "", why ? why : "");
	why ? sums->failed++ : sums->passed++;
	add_up(row, columns, cells, sums);
}

static const struct row *find_row(const char *name)
{
	for (size_t g = 0; g < sizeof(groups) / sizeof(groups[0]); g++)
		for (const struct row *r = groups[g]; r->name; r++)
			if (!strcmp(r->name, name))
				return r;
	fprintf(stderr, "no row \"%s\"\n", name);
	exit(3);
}

int main(int argc, char **argv)
{
	struct sums sums = { 0 };
	const char *only = NULL;

	if (argc == 5 && !strcmp(argv[1], "--row")) {
		row = find_row(argv[2]);
		return run_row(argv[3], atoi(argv[4]));
	}
	if (argc > 2 && !strcmp(argv[1], "-r"))
		only = argv[2], argv += 2, argc -= 2;
	if (argc < 2 || argc > COLUMNS)
		return fprintf(stderr, "Usage: table [-r ROW] COLUMN...\n"), 3;
	printf("  %-42s", "");
	for (int c = 1; argv[c]; c++)
		printf(" %-9s", argv[c]);
	printf("\n");
	for (size_t g = 0; g < sizeof(groups) / sizeof(groups[0]); g++)
		for (const struct row *r = groups[g]; r->name; r++)
			if (!only || !strcmp(r->name, only))
				print_row(r, argv + 1, &sums);
	printf("noticed %d of %d (the rows marked +), in time and blocking %d\n", sums.noticed[LIVE], sums.anchors,
	       sums.in_time[LIVE]);
	if (sums.noticed[UCX])
		printf("UCX: noticed %d, in time and blocking %d\n", sums.noticed[UCX], sums.in_time[UCX]);
	if (sums.net_missing)
		printf("SKIP %d of them: %s\n", sums.net_missing, sums.no_net);
	printf("%d passed, %d failed, %d skipped\n", sums.passed, sums.failed, sums.skipped + sums.net_missing);
	return sums.failed != 0;
}
