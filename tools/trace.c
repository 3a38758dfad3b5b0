// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * libmmu_notifier_trace.so: preloaded by mmu-notifier-trace, it switches live events on and counts them, by kind and by caller.
 * When the process ends it prints one report.
 *
 * The callback runs in the thread that changes the address space, often while that is inside malloc: it allocates nothing, takes
 * no lock but its own, and makes system calls only. The table has a fixed size; what does not fit is counted as such.
 *
 * The caller is the innermost return address outside of libc and the loader: somebody calls free(), libc calls munmap(). It is
 * looked for on the stack, word by word, without tables for unwinding: an address of code behind a call instruction. So it is a
 * good guess, not a proof. Where the code is comes from /proc/self/maps, read again if that was long ago. Names are looked up
 * when the process ends, of the objects that are still loaded.
 *
 * Children: fork() starts new counts. A process that is killed, or that execs, prints nothing.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include <linux/mmu_notifier.h>
#include <linux/sched/mm.h>
#include <mmu_notifier/live.h>

enum { NR_EVENTS = 8, NR_LINES = 8192, NR_TEXTS = 1024, WORDS = 64, DEPTH = 16, REFRESH_MS = 100 };

struct count { _Atomic unsigned long events, bytes, largest; };

/* Events of one kind from one caller. key: the caller's address, and the event in the lowest bits; 0: free. */
struct line { _Atomic uint64_t key; struct count count; };

struct text { uintptr_t start, end; bool inner; };

static struct line lines[NR_LINES];
static struct count kinds[NR_EVENTS], unlisted;
static struct mmu_notifier notifier;
static struct timespec began;
static pid_t own_pid;
static _Atomic bool on;

static const char *const event_name[NR_EVENTS] = {
	"UNMAP", "CLEAR", "PROTECTION_VMA", "PROTECTION_PAGE", "SOFT_DIRTY", "RELEASE", "MIGRATE", "EXCLUSIVE",
};

static double milliseconds_since(const struct timespec *then)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)(now.tv_sec - then->tv_sec) * 1e3 + (double)(now.tv_nsec - then->tv_nsec) / 1e6;
}

/* ------------------------------------------------------------------ where code is */

static struct text texts[NR_TEXTS];
static unsigned int nr_texts;
static struct timespec texts_read;
static atomic_flag texts_busy = ATOMIC_FLAG_INIT;	/* guards the three; held by callbacks, whose signals are blocked */

/* The objects whose frames are not the caller. */
static bool is_inner(const char *path)
{
	static const char *const inner[] = { "/libc.so", "/libc-2", "/ld-linux", "/libpthread", "/libmmu_notifier" };

	for (size_t i = 0; i < sizeof(inner) / sizeof(inner[0]); i++)
		if (strstr(path, inner[i]))
			return true;
	return *path != '/';
}

/* A line of /proc/self/maps: "start-end rwxp offset dev inode path". */
static void add_text(const char *line)
{
	char *at;
	uintptr_t start = strtoul(line, &at, 16), end = strtoul(at + 1, &at, 16);
	const char *path = strchr(line, '/');

	if (at[3] == 'x' && nr_texts < NR_TEXTS)
		texts[nr_texts++] = (struct text){ start, end, is_inner(path ? path : "") };
}

static void read_texts(void)
{
	static char buffer[16384];
	size_t length = 0;
	ssize_t got;
	int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);

	nr_texts = 0;
	clock_gettime(CLOCK_MONOTONIC, &texts_read);
	while (fd >= 0 && (got = read(fd, buffer + length, sizeof(buffer) - 1 - length)) > 0) {
		char *line = buffer, *end;

		buffer[length += (size_t)got] = 0;
		for (; (end = strchr(line, '\n')); line = end + 1) {
			*end = 0;
			add_text(line);
		}
		length -= (size_t)(line - buffer);
		memmove(buffer, line, length);
	}
	close(fd);
}

static const struct text *find_text(uintptr_t address)
{
	unsigned int low = 0, high = nr_texts;

	while (low < high) {
		unsigned int middle = (low + high) / 2;

		if (address < texts[middle].start)
			high = middle;
		else if (address >= texts[middle].end)
			low = middle + 1;
		else
			return &texts[middle];
	}
	return NULL;
}

/* ------------------------------------------------------------------- who called */

/* Copies memory that may not be there. */
static size_t peek(void *to, uintptr_t from, size_t size)
{
	struct iovec here = { to, size }, there = { (void *)from, size };
	ssize_t got = process_vm_readv(getpid(), &here, 1, &there, 1, 0);

	return got < 0 ? 0 : (size_t)got;
}

/* Does a call instruction end at `address`? */
static bool follows_call(uintptr_t address)
{
	unsigned char code[8];

	if (peek(code, address - sizeof(code), sizeof(code)) != sizeof(code))
		return false;
	if (code[3] == 0xe8)
		return true;
	/* ff /2, with 0 to 5 bytes behind it */
	for (int length = 2; length <= 7; length++)
		if (length != 5 && code[8 - length] == 0xff && (code[9 - length] >> 3 & 7) == 2)
			return true;
	return false;
}

static bool is_caller(uintptr_t word)
{
	const struct text *text = find_text(word);

	return text && !text->inner && follows_call(word);
}

/* The innermost return address outside of libc, above `stack`; 0 if there is none. The table of code is held. */
static uintptr_t search_stack(uintptr_t stack)
{
	uintptr_t words[WORDS];

	for (int chunk = 0; chunk < DEPTH; chunk++) {
		size_t nr = peek(words, stack, sizeof(words)) / sizeof(words[0]);

		for (size_t i = 0; i < nr; i++)
			if (is_caller(words[i]))
				return words[i];
		if (nr < WORDS)
			break;
		stack += sizeof(words);
	}
	return 0;
}

static uintptr_t find_caller(void)
{
	struct mmu_notifier_live_call call;
	uintptr_t caller, stack;

	stack = mmu_notifier_live_call(&call) ? (uintptr_t)__builtin_frame_address(0) : call.stack;
	while (atomic_flag_test_and_set_explicit(&texts_busy, memory_order_acquire))
		syscall(SYS_sched_yield);
	caller = search_stack(stack);
	if (!caller && milliseconds_since(&texts_read) > REFRESH_MS) {
		read_texts();
		caller = search_stack(stack);
	}
	atomic_flag_clear_explicit(&texts_busy, memory_order_release);
	return caller;
}

/* ---------------------------------------------------------------------- counting */

static void add(struct count *count, unsigned long bytes)
{
	unsigned long largest = count->largest;

	count->events++;
	count->bytes += bytes;
	while (bytes > largest && !atomic_compare_exchange_weak(&count->largest, &largest, bytes))
		;
}

static struct count *count_of(uint64_t key)
{
	uint64_t hash = key * 0x9e3779b97f4a7c15UL;

	for (unsigned int step = 0; step < 64; step++) {
		struct line *line = &lines[((hash >> 40) + step) % NR_LINES];
		uint64_t there = line->key;

		if (there == key || (!there && atomic_compare_exchange_strong(&line->key, &there, key)) || there == key)
			return &line->count;
	}
	return &unlisted;
}

static int on_start(struct mmu_notifier *sub, const struct mmu_notifier_range *range)
{
	unsigned long bytes = range->end - range->start;
	unsigned int event = (unsigned int)range->event % NR_EVENTS;
	uintptr_t caller;

	(void)sub;
	if (!on)
		return 0;
	if (bytes >> 46)	/* the whole address space: fork */
		bytes = 0;
	caller = find_caller();
	add(&kinds[event], bytes);
	add(count_of((uint64_t)caller << 4 | 8 | event), bytes);
	return 0;
}

static const struct mmu_notifier_ops ops = { .invalidate_range_start = on_start };

/* --------------------------------------------------------------------- the report */

static char text[64 << 10];
static size_t text_length;

__attribute__((format(printf, 1, 2))) static void say(const char *format, ...)
{
	va_list args;
	int length;

	va_start(args, format);
	length = vsnprintf(text + text_length, sizeof(text) - text_length, format, args);
	va_end(args);
	if (length > 0 && (size_t)length < sizeof(text) - text_length)
		text_length += (size_t)length;
}

/* "12.3 MiB" */
static const char *size(unsigned long bytes, char to[16])
{
	static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB" };
	double value = (double)bytes;
	int unit = 0;

	for (; value >= 1024 && unit < 4; unit++)
		value /= 1024;
	snprintf(to, 16, unit && value < 100 ? "%.1f %s" : "%.0f %s", value, units[unit]);
	return to;
}

static const char *last_part(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

static const char *name_of(uintptr_t caller, char to[128])
{
	Dl_info info;

	if (!caller)
		return "(libc by itself)";
	if (!dladdr((void *)(caller - 1), &info))
		snprintf(to, 128, "%#lx", caller);
	else if (info.dli_sname)
		snprintf(to, 128, "%s: %s", last_part(info.dli_fname), info.dli_sname);
	else
		snprintf(to, 128, "%s+%#lx", last_part(info.dli_fname), caller - (uintptr_t)info.dli_fbase);
	return to;
}

static void say_count(const char *what, const char *who, const struct count *count)
{
	char total[16], largest[16];

	say("  %-16s %9lu %11s %11s  %s\n", what, count->events, size(count->bytes, total), size(count->largest, largest), who);
}

/* The line with the most events among those that were not printed, which this one then is. */
static struct line *next_line(void)
{
	struct line *most = NULL;

	for (int i = 0; i < NR_LINES; i++)
		if (lines[i].key && lines[i].count.events && (!most || lines[i].count.events > most->count.events))
			most = &lines[i];
	return most;
}

/* The places of one function that its object exports become one: its first byte, plus one as for a return address. */
static void merge_functions(void)
{
	for (int i = 0; i < NR_LINES; i++) {
		uint64_t key = lines[i].key, merged;
		struct count *from = &lines[i].count, *to;
		Dl_info info;

		if (!(key >> 4) || !dladdr((void *)((key >> 4) - 1), &info) || !info.dli_saddr)
			continue;
		merged = ((uint64_t)(uintptr_t)info.dli_saddr + 1) << 4 | (key & 15);
		if (merged == key)
			continue;
		to = count_of(merged);
		to->events += from->events;
		to->bytes += from->bytes;
		to->largest = to->largest > from->largest ? to->largest : from->largest;
		from->events = 0;
	}
}

static void say_callers(int limit)
{
	unsigned long rest_events = 0, rest_callers = 0;
	struct line *line;
	char name[128];

	merge_functions();
	say("  %-16s %9s %11s %11s  %s\n", "", "events", "size", "largest", "caller");
	for (int i = 0; (line = next_line()); i++) {
		uint64_t key = line->key;

		if (i < limit)
			say_count(event_name[key & 7], name_of(key >> 4, name), &line->count);
		else
			rest_events += line->count.events, rest_callers++;
		line->count.events = 0;
	}
	if (rest_callers)
		say("  and %lu events from %lu other callers\n", rest_events, rest_callers);
	if (unlisted.events)
		say("  and %lu events whose callers had no room in the table\n", unlisted.events);
}

static void say_all(int limit)
{
	struct mmu_notifier_live_status status = { .size = sizeof(status) };
	double seconds = milliseconds_since(&began) / 1e3;
	unsigned long events = 0;

	for (int i = 0; i < NR_EVENTS; i++)
		events += kinds[i].events;
	say("mmu-notifier-trace: %s, pid %d: %.2f s, %lu events, %.0f/s\n", program_invocation_short_name, own_pid, seconds, events,
	    (double)events / seconds);
	mmu_notifier_live_status(&status);
	if (*status.reason)
		say("  %s\n", status.reason);
	if (!events)
		return;
	say("  %-16s %9s %11s %11s\n", "event", "events", "size", "largest");
	for (int i = 0; i < NR_EVENTS; i++)
		if (kinds[i].events)
			say_count(event_name[i], "", &kinds[i]);
	say_callers(limit);
}

/* To the file of MMU_NOTIFIER_TRACE, or to stderr. */
static void print(void)
{
	const char *path = getenv("MMU_NOTIFIER_TRACE"), *limit = getenv("MMU_NOTIFIER_TRACE_LINES");
	int fd = path && *path ? open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666) : STDERR_FILENO;

	say_all(limit ? atoi(limit) : 12);
	if (fd >= 0 && write(fd, text, text_length) < 0)
		return;
}

/* ------------------------------------------------------------- beginning and end */

static void begin(void)
{
	int error;

	own_pid = getpid();
	clock_gettime(CLOCK_MONOTONIC, &began);
	read_texts();
	memset(&notifier, 0, sizeof(notifier));
	notifier.ops = &ops;
	error = mmu_notifier_register(&notifier, current->mm);
	if (!error)
		error = mmu_notifier_live_enable();
	if (error)
		fprintf(stderr, "mmu-notifier-trace: %s, pid %d: no live events: %s\n", program_invocation_short_name, own_pid,
			strerror(-error));
	on = !error;
}

/* The child has its parent's memory and none of its subscriptions. */
static void begin_in_child(void)
{
	on = false;
	memset(lines, 0, sizeof(lines));
	memset(kinds, 0, sizeof(kinds));
	memset(&unlisted, 0, sizeof(unlisted));
	atomic_flag_clear(&texts_busy);
	begin();
}

/* Not in a vfork() child, which has its parent's memory, too, but not its number. */
static void end(void)
{
	if (getpid() == own_pid && atomic_exchange(&on, false))
		print();
}

__attribute__((constructor)) static void load(void)
{
	pthread_atfork(NULL, NULL, begin_in_child);
	begin();
}

__attribute__((destructor)) static void unload(void)
{
	end();
}

/* For those who end without destructors, such as the children of shells and servers. */
__attribute__((visibility("default"), noreturn)) void _exit(int status)
{
	end();
	for (;;)
		syscall(SYS_exit_group, status);
}

__attribute__((visibility("default"), noreturn, alias("_exit"))) void _Exit(int status);
