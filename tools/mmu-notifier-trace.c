// SPDX-License-Identifier: MIT OR Apache-2.0
/* mmu-notifier-trace: runs a program with libmmu_notifier_trace.so (trace.c) preloaded. See mmu-notifier-trace(1). */
#define _GNU_SOURCE
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char library[] = "libmmu_notifier_trace.so";

__attribute__((noreturn)) static void usage(int status)
{
	fprintf(status ? stderr : stdout,
		"Usage: mmu-notifier-trace [-o FILE] [-n LINES] PROGRAM [ARGUMENT...]\n"
		"Runs the program and says, when it and each of its children end, what they unmapped.\n\n"
		"  -o FILE   appends the reports to FILE, not to stderr\n"
		"  -n LINES  so many callers at most (12)\n");
	exit(status);
}

static void set(const char *name, const char *value)
{
	if (setenv(name, value, 1)) {
		fprintf(stderr, "mmu-notifier-trace: %s: %s\n", name, strerror(errno));
		exit(125);
	}
}

/* LIBDIR as installed; or lib beside our own directory, for an install that was moved. */
static void find_library(char path[PATH_MAX])
{
	char self[PATH_MAX];
	ssize_t length = readlink("/proc/self/exe", self, sizeof(self) - 1);

	snprintf(path, PATH_MAX, "%s/%s", LIBDIR, library);
	if (!access(path, R_OK))
		return;
	self[length > 0 ? length : 0] = 0;
	*strrchr(*self ? self : strcpy(self, "/"), '/') = 0;
	if (snprintf(path, PATH_MAX, "%s/../lib/%s", self, library) < PATH_MAX && !access(path, R_OK))
		return;
	fprintf(stderr, "mmu-notifier-trace: no %s in %s\n", library, LIBDIR);
	exit(125);
}

static void preload(void)
{
	const char *others = getenv("LD_PRELOAD");
	char path[PATH_MAX], all[2 * PATH_MAX];

	find_library(path);
	snprintf(all, sizeof(all), "%s%s%s", path, others && *others ? ":" : "", others ? others : "");
	set("LD_PRELOAD", all);
}

/* Is it an ELF program that nothing can be preloaded into: without a dynamic linker? */
static bool is_static(const char *path)
{
	Elf64_Ehdr header;
	Elf64_Phdr segment;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	bool known = fd >= 0 && pread(fd, &header, sizeof(header), 0) == sizeof(header) &&
		     !memcmp(header.e_ident, ELFMAG, SELFMAG) && header.e_ident[EI_CLASS] == ELFCLASS64;
	bool linked = false;

	for (int i = 0; known && i < header.e_phnum; i++)
		if (pread(fd, &segment, sizeof(segment), (off_t)(header.e_phoff + (Elf64_Off)i * header.e_phentsize)) == sizeof(segment))
			linked |= segment.p_type == PT_INTERP;
	if (fd >= 0)
		close(fd);
	return known && !linked;
}

/* Says so if nothing will be seen of the program, which execvp() finds in the same places. */
static void warn_if_static(const char *program)
{
	const char *folder = getenv("PATH");
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s", program);
	while (!strchr(program, '/') && folder && *folder) {
		size_t length = strcspn(folder, ":");

		snprintf(path, sizeof(path), "%.*s/%s", length ? (int)length : 1, length ? folder : ".", program);
		if (!access(path, X_OK))
			break;
		folder += length + (folder[length] == ':');
	}
	if (is_static(path))
		fprintf(stderr, "mmu-notifier-trace: %s is statically linked: nothing can be preloaded into it, and nothing is seen of it\n",
			program);
}

int main(int argc, char **argv)
{
	static const struct option longs[] = { { "help", no_argument, NULL, 'h' }, { NULL, 0, NULL, 0 } };
	char path[PATH_MAX];
	int option;

	while ((option = getopt_long(argc, argv, "+o:n:h", longs, NULL)) != -1)
		switch (option) {
		case 'o':
			if (*optarg != '/' && getcwd(path, sizeof(path)) && strlen(path) + strlen(optarg) + 2 < sizeof(path))
				optarg = strcat(strcat(path, "/"), optarg);
			set("MMU_NOTIFIER_TRACE", optarg);
			break;
		case 'n':
			set("MMU_NOTIFIER_TRACE_LINES", optarg);
			break;
		default:
			usage(option == 'h' ? 0 : 125);
		}
	if (optind == argc)
		usage(125);
	preload();
	warn_if_static(argv[optind]);
	execvp(argv[optind], argv + optind);
	fprintf(stderr, "mmu-notifier-trace: %s: %s\n", argv[optind], strerror(errno));
	return errno == ENOENT ? 127 : 126;
}
