// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * The kernel's tree, from a directory that scripts/fetch.sh has filled with
 * files of Debian's linux-source package: compiled as they are, by their names.
 * kernel/ beside this file holds the headers that they want around them.
 */
#define interval_tree_insert		kernel_interval_tree_insert
#define interval_tree_remove		kernel_interval_tree_remove
#define interval_tree_iter_first	kernel_interval_tree_iter_first
#define interval_tree_iter_next		kernel_interval_tree_iter_next
#include "lib/rbtree.c"
#include "lib/interval_tree.c"
