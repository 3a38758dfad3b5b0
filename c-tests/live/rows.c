// SPDX-License-Identifier: MIT OR Apache-2.0
/* What the rows share. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "rows.h"

void cannot(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vdprintf(STDERR_FILENO, format, args);
	va_end(args);
	_exit(77);
}

void broken(const char *what)
{
	dprintf(STDERR_FILENO, "the row is broken: not so: %s (%s)\n", what, strerror(errno));
	_exit(3);
}

static void fill(char *start, size_t length)
{
	for (size_t at = 0; at < length; at += sizeof(unsigned long))
		*(unsigned long *)(start + at) = SENTINEL;
}

void watch_only(struct watch *watch, void *start, size_t length)
{
	MUST((uintptr_t)start % PAGE == 0 && length % PAGE == 0 && length);
	*watch = (struct watch){ start, length, (char *)start + length / PAGE / 2 * PAGE + 8, start, length };
}

void watch_all(struct watch *watch, void *start, size_t length)
{
	watch_only(watch, start, length);
	fill(start, length);
}

void watch_part(struct watch *watch, char *changed, size_t length)
{
	watch->changed = changed;
	watch->changed_length = length;
	watch->probe = changed + length / PAGE / 2 * PAGE + 8;
}

void watch_anonymous(struct watch *watch)
{
	char *start = mmap(NULL, LENGTH, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	MUST(start != MAP_FAILED);
	watch_all(watch, start, LENGTH);
}

void watch_object(struct watch *watch, int fd, int flags)
{
	char *start = mmap(NULL, LENGTH, PROT_READ | PROT_WRITE, flags, fd, 0);

	MUST(start != MAP_FAILED);
	watch_only(watch, start, LENGTH);
	for (size_t at = 0; at < LENGTH; at += PAGE)
		(void)*(volatile char *)(start + at);
}

static void write_sentinels(int fd)
{
	static unsigned long page[PAGE / sizeof(unsigned long)];

	fill((char *)page, sizeof(page));
	for (int i = 0; i < PAGES; i++)
		MUST(write(fd, page, sizeof(page)) == sizeof(page));
}

int new_memfd(void)
{
	int fd = memfd_create("row", MFD_CLOEXEC);

	MUST(fd >= 0);
	write_sentinels(fd);
	return fd;
}

int new_file(char path[64])
{
	char own[64];
	int fd;

	if (!path)
		path = own;
	strcpy(path, "./row-XXXXXX");
	fd = mkstemp(path);
	MUST(fd >= 0);
	if (path == own)
		unlink(path);
	write_sentinels(fd);
	MUST(!fsync(fd));
	return fd;
}

long inline_call(long number, long a, long b, long c, long d, long e, long f)
{
#ifdef __x86_64__
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	long result;

	/* The number comes from memory: there is no `mov $number, %eax` in front of the instruction to be found. */
	__asm__ volatile("mov %1, %%rax; nop; syscall" : "=&a"(result)
			 : "m"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9) : "rcx", "r11", "memory");
	return result;
#else
	(void)number, (void)a, (void)b, (void)c, (void)d, (void)e, (void)f;
	cannot("no inline system call for this architecture");
#endif
}
