// SPDX-License-Identifier: MIT OR Apache-2.0
/* Objects that are mapped: files, memfds, System V segments; and changes of the objects themselves. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "rows.h"

static int object;
static char path[64];

static void prepare_private_file(struct watch *watch)
{
	object = new_file(NULL);
	watch_object(watch, object, MAP_PRIVATE);
}

static void prepare_shared_file(struct watch *watch)
{
	object = new_file(NULL);
	watch_object(watch, object, MAP_SHARED);
}

static void prepare_memfd(struct watch *watch)
{
	object = new_memfd();
	watch_object(watch, object, MAP_SHARED);
}

static void prepare_named_file(struct watch *watch)
{
	object = new_file(path);
	watch_object(watch, object, MAP_SHARED);
}

/* The first page is to show the object's ninth. */
static void prepare_pages(struct watch *watch)
{
	prepare_memfd(watch);
	*(unsigned long *)(watch->start + 8 * PAGE + 8) = 1;
	watch_part(watch, watch->start, PAGE);
}

static void prepare_hole(struct watch *watch)
{
	prepare_memfd(watch);
	watch_part(watch, watch->start + 4 * PAGE, 4 * PAGE);
}

static void *attach(void *at, int flags)
{
	int id = shmget(IPC_PRIVATE, LENGTH, IPC_CREAT | 0600);
	char *start;

	if (id < 0)
		cannot("no System V shared memory");
	start = shmat(id, at, flags);
	shmctl(id, IPC_RMID, NULL);
	MUST(start != (void *)-1);
	return start;
}

static void prepare_segment(struct watch *watch)
{
	watch_all(watch, attach(NULL, 0), LENGTH);
}

static void change_munmap(struct watch *watch)
{
	MUST(!munmap(watch->start, LENGTH));
}

static void change_shmdt(struct watch *watch)
{
	MUST(!shmdt(watch->start));
}

static void change_shmdt_syscall(struct watch *watch)
{
	MUST(!syscall(SYS_shmdt, watch->start));
}

static void change_shmdt_inline(struct watch *watch)
{
	MUST(!inline_call(SYS_shmdt, (long)watch->start, 0, 0, 0, 0, 0));
}

static void change_attach_over(struct watch *watch)
{
	MUST(attach(watch->start, SHM_REMAP) == watch->start);
}

static void change_remove(struct watch *watch)
{
	MUST(!madvise(watch->changed, watch->changed_length, MADV_REMOVE));
}

static void change_remap_file_pages(struct watch *watch)
{
	MUST(!remap_file_pages(watch->start, PAGE, 0, 8, 0));
}

static void change_punch(struct watch *watch)
{
	MUST(!fallocate(object, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, watch->changed - watch->start,
			watch->changed_length));
}

static void change_truncate_fd(struct watch *watch)
{
	(void)watch;
	MUST(!ftruncate(object, 0));
}

/* Another descriptor of the same object. */
static void change_truncate_other(struct watch *watch)
{
	char name[32];
	int other;

	(void)watch;
	snprintf(name, sizeof(name), "/proc/self/fd/%d", object);
	other = open(name, O_RDWR);
	MUST(other >= 0 && other != object && !ftruncate(other, 0));
}

static void change_truncate_path(struct watch *watch)
{
	(void)watch;
	MUST(!truncate(path, 0));
	unlink(path);
}

/* The other process is made first: fork() is an event of its own. */
static int go[2];
static pid_t child;

static void prepare_other_process(struct watch *watch)
{
	char byte;

	prepare_named_file(watch);
	MUST(!pipe(go));
	child = fork();
	MUST(child >= 0);
	if (!child)
		_exit(read(go[0], &byte, 1) != 1 || truncate(path, 0));
}

static void change_truncate_child(struct watch *watch)
{
	int status;

	(void)watch;
	MUST(write(go[1], "", 1) == 1 && waitpid(child, &status, 0) == child && !status);
	unlink(path);
}

static void change_pageout(struct watch *watch)
{
	MUST(!msync(watch->start, LENGTH, MS_SYNC) && !fsync(object));
	MUST(!madvise(watch->start, LENGTH, MADV_PAGEOUT));
}

const struct row rows_file[] = {
	{ "munmap() of a MAP_PRIVATE file mapping", prepare_private_file, change_munmap, CONTENTS, BAW, EVENT_UNMAP, ANCHOR | EXACT },
	{ "munmap() of a MAP_SHARED file mapping", prepare_shared_file, change_munmap, CONTENTS, BAW, EVENT_UNMAP, ANCHOR | EXACT },
	{ "munmap() of a shared memfd", prepare_memfd, change_munmap, CONTENTS, BAW, EVENT_UNMAP, ANCHOR | EXACT },
	{ "madvise(REMOVE) on a memfd", prepare_hole, change_remove, CONTENTS, BAW, EVENT_CLEAR, ANCHOR | EXACT },
	{ "madvise(PAGEOUT) of a shared file", prepare_shared_file, change_pageout, PRESENT, BAW, EVENT_CLEAR, ANCHOR | EXACT },
	{ "remap_file_pages()", prepare_pages, change_remap_file_pages, CONTENTS, BAW, EVENT_UNMAP, ANCHOR | EXACT },
	{ "fallocate(PUNCH_HOLE) of a mapped memfd", prepare_hole, change_punch, CONTENTS, BAW, EVENT_CLEAR, ANCHOR },
	{ "ftruncate(0) of a mapped memfd", prepare_memfd, change_truncate_fd, CONTENTS, BAW, EVENT_CLEAR, ANCHOR },
	{ "ftruncate(0) by another descriptor", prepare_memfd, change_truncate_other, CONTENTS, BAW, EVENT_CLEAR, 0 },
	{ "shmdt()", prepare_segment, change_shmdt, CONTENTS, BAW, EVENT_UNMAP, ANCHOR | EXACT },
	{ "syscall(SYS_shmdt)", prepare_segment, change_shmdt_syscall, CONTENTS, BAW, EVENT_UNMAP, EXACT },
	{ "shmat(SHM_REMAP) over it", watch_anonymous, change_attach_over, CONTENTS, BAW, EVENT_UNMAP, ANCHOR | EXACT },
	{ "shmdt by an inline instruction", prepare_segment, change_shmdt_inline, CONTENTS, UNSEEN, EVENT_ANY, 0 },
	{ "truncate() of a mapped file by its path", prepare_named_file, change_truncate_path, CONTENTS, BAW, EVENT_CLEAR, 0 },
	{ "another process truncates a mapped file", prepare_other_process, change_truncate_child, CONTENTS, UNSEEN, EVENT_ANY, 0 },
	{ 0 },
};
