// SPDX-License-Identifier: MIT OR Apache-2.0
/* Calls that change nothing of what is watched. */
#define _GNU_SOURCE
#include <errno.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "rows.h"

static char *unrelated;

static void prepare_two(struct watch *watch)
{
	watch_anonymous(watch);
	unrelated = mmap(NULL, LENGTH, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	MUST(unrelated != MAP_FAILED);
}

/* There is room behind it. */
static void prepare_room(struct watch *watch)
{
	char *place = mmap(NULL, 3 * LENGTH, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	MUST(place != MAP_FAILED && !munmap(place + LENGTH, 2 * LENGTH));
	watch_all(watch, place, LENGTH);
}

static void call_munmap_wrong(struct watch *watch)
{
	MUST(munmap(watch->start + 1, LENGTH) && errno == EINVAL);
}

static void call_noreplace(struct watch *watch)
{
	MUST(mmap(watch->start, LENGTH, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) ==
	     MAP_FAILED && errno == EEXIST);
}

static void call_grow(struct watch *watch)
{
	MUST(mremap(watch->start, LENGTH, 2 * LENGTH, MREMAP_MAYMOVE) == watch->start);
}

static void call_willneed(struct watch *watch)
{
	MUST(!madvise(watch->start, LENGTH, MADV_WILLNEED));
}

static void call_unrelated(struct watch *watch)
{
	(void)watch;
	MUST(!munmap(unrelated, LENGTH));
}

/* The child is made when live events are on already, and before anybody subscribes. */
static int fds[2];
static pid_t child;

static void prepare_child(struct watch *watch)
{
	char byte;

	watch_anonymous(watch);
	MUST(!pipe(fds));
	child = fork();
	MUST(child >= 0);
	if (!child) {
		if (read(fds[0], &byte, 1) != 1)
			_exit(1);
		_exit(munmap(watch->start, LENGTH));
	}
}

static void call_in_child(struct watch *watch)
{
	int status;

	(void)watch;
	MUST(write(fds[1], "", 1) == 1 && waitpid(child, &status, 0) == child && !status);
}

const struct row rows_none[] = {
	{ "munmap() that fails: EINVAL", watch_anonymous, call_munmap_wrong, NOTHING, SPURIOUS, EVENT_ANY, 0 },
	{ "mmap(FIXED_NOREPLACE) that fails", watch_anonymous, call_noreplace, NOTHING, QUIET, EVENT_ANY, 0 },
	{ "mremap() that grows in place", prepare_room, call_grow, NOTHING, QUIET, EVENT_ANY, 0 },
	{ "madvise(WILLNEED)", watch_anonymous, call_willneed, NOTHING, QUIET, EVENT_ANY, 0 },
	{ "munmap() of something else", prepare_two, call_unrelated, NOTHING, QUIET, EVENT_ANY, 0 },
	{ "munmap() in a fork() child", prepare_child, call_in_child, NOTHING, QUIET, EVENT_ANY, 0 },
	{ 0 },
};
