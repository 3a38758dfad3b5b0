#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# Runs the benchmark against the staged install; fetches the peers that are no crates. Arguments: see benches/src/main.rs
set -eu
cd "$(dirname "$0")"
top=$(cd .. && pwd)
export STAGE=$top/build/stage
tree='lib/rbtree.c lib/interval_tree.c'
for header in rbtree rbtree_augmented rbtree_types interval_tree interval_tree_generic; do
	tree="$tree include/linux/$header.h"
done

# fetch ARGUMENTS: the last directory that fetch.sh prints; nothing if it cannot be had, whose reason goes to stderr.
fetch() { bash "$top/scripts/fetch.sh" "$@" | tail -n 1 || true; }

# URCU=, UCX= or KERNEL_TREE=, set but empty, does without.
export URCU=${URCU-$(fetch --unpack liburcu-dev)}
export UCX=${UCX-$(fetch --unpack libucx0)}
export KERNEL_TREE=${KERNEL_TREE-$(fetch --source 'linux-source-6\.(1|12)' $tree)}
exec cargo bench --locked -q -- "$@"
