// SPDX-License-Identifier: MIT OR Apache-2.0
/* fork, another process with the same address space, io_uring, userfaultfd. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <linux/userfaultfd.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "rows.h"

/* ---- fork: the pages become shared with the child ---- */

static void change_fork(struct watch *watch)
{
	int fds[2];
	char byte;

	(void)watch;
	MUST(!pipe(fds));
	switch (fork()) {
	case -1:
		broken("fork");
	case 0:		/* stays until the parent has ended */
		close(fds[1]);
		_exit((int)read(fds[0], &byte, 1));
	}
}

/* ---- a process that shares our memory ---- */

static int unmap_in_child(void *data)
{
	struct watch *watch = data;

	return munmap(watch->start, LENGTH);
}

static void change_clone_vm(struct watch *watch)
{
	static char stack[64 << 10] __attribute__((aligned(16)));
	int status;
	pid_t child = clone(unmap_in_child, stack + sizeof(stack), CLONE_VM | SIGCHLD, watch);

	MUST(child > 0 && waitpid(child, &status, 0) == child && !status);
}

static void change_vfork(struct watch *watch)
{
	int status;
	pid_t child = vfork();

	if (!child)
		_exit(munmap(watch->start, LENGTH));
	MUST(child > 0 && waitpid(child, &status, 0) == child && !status);
}

/* ---- io_uring ---- */

static int ring;
static unsigned int *submit_tail, *submit_array, *complete_head, *complete_tail;
static struct io_uring_sqe *entry;
static struct io_uring_cqe *completions;

static void *map_ring(size_t length, off_t offset)
{
	char *at = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring, offset);

	MUST(at != MAP_FAILED);
	return at;
}

static void set_up_ring(void)
{
	struct io_uring_params p = { 0 };
	char *submit, *complete;

	ring = (int)syscall(SYS_io_uring_setup, 4, &p);
	if (ring < 0)
		cannot("io_uring_setup: %s", strerror(errno));
	submit = map_ring(p.sq_off.array + p.sq_entries * sizeof(int), IORING_OFF_SQ_RING);
	complete = map_ring(p.cq_off.cqes + p.cq_entries * sizeof(struct io_uring_cqe), IORING_OFF_CQ_RING);
	entry = map_ring(p.sq_entries * sizeof(*entry), IORING_OFF_SQES);
	submit_tail = (unsigned int *)(submit + p.sq_off.tail);
	submit_array = (unsigned int *)(submit + p.sq_off.array);
	complete_head = (unsigned int *)(complete + p.cq_off.head);
	complete_tail = (unsigned int *)(complete + p.cq_off.tail);
	completions = (struct io_uring_cqe *)(complete + p.cq_off.cqes);
}

static void prepare_ring(struct watch *watch)
{
	set_up_ring();
	watch_anonymous(watch);
}

static void change_by_ring(struct watch *watch)
{
	memset(entry, 0, sizeof(*entry));
	entry->opcode = IORING_OP_MADVISE;
	entry->addr = (unsigned long)watch->start;
	entry->len = LENGTH;
	entry->fadvise_advice = MADV_DONTNEED;
	submit_array[0] = 0;
	__atomic_store_n(submit_tail, 1, __ATOMIC_RELEASE);
	MUST(syscall(SYS_io_uring_enter, ring, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0) == 1);
	MUST(__atomic_load_n(complete_tail, __ATOMIC_ACQUIRE) != *complete_head);
	if (completions[0].res == -EINVAL)
		cannot("io_uring has no MADVISE: Linux 5.6 or newer");
	MUST(!completions[0].res);
}

/* ---- userfaultfd: pages are moved out of the range ---- */

/* Of newer headers. */
struct move { unsigned long long to, from, length, mode; long long moved; };
#define MOVE _IOWR(UFFDIO, 0x05, struct move)
#define FEATURE_MOVE (1ULL << 16)

static int fault_fd;
static char *target;

static void prepare_move(struct watch *watch)
{
	struct uffdio_api api = { .api = UFFD_API, .features = FEATURE_MOVE };
	struct uffdio_register place = { .mode = UFFDIO_REGISTER_MODE_MISSING };

	fault_fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
	if (fault_fd < 0)
		cannot("userfaultfd: %s", strerror(errno));
	if (ioctl(fault_fd, UFFDIO_API, &api))
		cannot("no UFFDIO_MOVE: Linux 6.8 or newer");
	watch_anonymous(watch);
	target = mmap(NULL, LENGTH, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	MUST(target != MAP_FAILED);
	place.range.start = (unsigned long)target;
	place.range.len = LENGTH;
	MUST(!ioctl(fault_fd, UFFDIO_REGISTER, &place));
}

static void change_move(struct watch *watch)
{
	struct move move = { .to = (unsigned long)target, .from = (unsigned long)watch->start, .length = LENGTH };

	MUST(!ioctl(fault_fd, MOVE, &move) && move.moved == (long long)LENGTH);
}

const struct row rows_other[] = {
	{ "fork(): pages become copy-on-write", watch_anonymous, change_fork, EXCLUSIVE, BAW, EVENT_PROTECTION_PAGE, ANCHOR },
	{ "munmap() in a child with CLONE_VM", watch_anonymous, change_clone_vm, CONTENTS, BAW, EVENT_UNMAP, ANCHOR | EXACT },
	{ "munmap() in a vfork() child", watch_anonymous, change_vfork, CONTENTS, BAW, EVENT_UNMAP, EXACT },
	{ "UFFDIO_MOVE out of it", prepare_move, change_move, CONTENTS, BAW, EVENT_CLEAR, ANCHOR | EXACT },
	{ "io_uring: MADVISE(DONTNEED)", prepare_ring, change_by_ring, CONTENTS, NET, EVENT_ANY, ANCHOR },
	{ 0 },
};
