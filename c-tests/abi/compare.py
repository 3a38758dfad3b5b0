#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Compares the facts of the core, and of our headers, with those of kernels. A difference that the table has is expected;
every other one is a failure, and so is, with --all, a row that nothing needs.

Usage: compare.py [--all] TABLE OURS ORIGIN=FOUND...

OURS holds the facts of the core and of our headers; each FOUND those of kernels, and ORIGIN says where they come from. A fact
is a line as crates/facts, btf.py and prototypes.py print it. What an origin does not speak of (alignments, constants,
functions) is not compared with it.
"""
import collections
import fnmatch
import sys

Fact = collections.namedtuple('Fact', 'kind name rest')


def read(path):
    """source -> list of facts."""
    facts = collections.defaultdict(list)
    with open(path) as file:
        for line in file:
            if line.strip() and not line.startswith('#'):
                source, kind, name, *rest = line.rstrip('\n').split(' ', 3)
                facts[source].append(Fact(kind, name, rest[0] if rest else ''))
    return facts


def version(text):
    return tuple(int(part) for part in text.split('.')[:2])


def within(kernel, kernels):
    """Is the kernel one of `6.1`, `5.14-6.2`, `7.1-` or `*`?"""
    first, dash, last = kernels.partition('-')
    return kernels == '*' or (version(first) <= version(kernel) if dash else first == kernel) and \
        (not last or version(kernel) <= version(last))


class Table:
    """Rows `KIND | KERNELS | SUBJECT | ... | WHY`; KIND is group, own, theirs or differs."""

    def __init__(self, path):
        self.rows, self.used = [], set()
        with open(path) as file:
            for line in file:
                if line.strip() and not line.startswith('#'):
                    self.rows.append([cell.strip() for cell in line.split('|')])

    def group(self, kernel):
        """The core's name of each struct that kernels lay out differently, by the kernel's name."""
        for row in self.rows:
            if row[0] == 'group' and within(kernel, row[1]):
                return dict(pair.split('=') for pair in row[3].split())
        return None

    def variants(self):
        """The core's names of structs that only some kernels have."""
        return {pair.split('=')[1] for row in self.rows if row[0] == 'group' for pair in row[3].split()}

    def expected(self, kind, kernel, subject, *values):
        for number, row in enumerate(self.rows):
            if row[0] == kind and within(kernel, row[1]) and fnmatch.fnmatchcase(subject, row[2]) and \
                    (kind != 'differs' or row[3:5] == list(values)):
                self.used.add(number)
                return True
        return False

    def unused(self, kernels):
        """The rows about these kernels that no difference needed."""
        return [row for number, row in enumerate(self.rows) if row[0] != 'group' and number not in self.used and
                any(within(kernel, row[1]) for kernel in kernels)]


class Comparison:
    def __init__(self, table, origin, kernel):
        self.table, self.origin, self.kernel = table, origin, kernel
        self.passed = self.failed = self.known = 0

    def same(self, subject, ours, theirs):
        """None is a thing that one of them does not have."""
        if ours == theirs:
            self.passed += 1
        elif self.table.expected('own' if theirs is None else 'theirs' if ours is None else 'differs', self.kernel, subject,
                                 str(ours), str(theirs)):
            self.passed += 1
            self.known += 1
        else:
            self.failed += 1
            show = lambda value: 'absent' if value is None else value
            print(f'DIFFERENT {subject}: expected {show(ours)}, found {show(theirs)} ({self.kernel}, {self.origin})')

    def all(self, kind, ours, theirs):
        for name in [*ours, *(n for n in theirs if n not in ours)]:
            self.same(f'{kind} {name}', ours.get(name), theirs.get(name))


def core_of(facts, table, kernel):
    """The core's facts for a kernel, under the kernel's names."""
    group = table.group(kernel)
    names = {core: name for name, core in group.items()}
    hidden = (table.variants() | set(group)) - set(names)

    def spelled(ty):
        return ' '.join(names.get(word, word) for word in ty.split(' '))

    return [Fact(f.kind, names.get(f.name, f.name), spelled(f.rest)) for f in facts if f.name not in hidden]


def layouts(facts, with_alignment):
    """Three maps from a name to what is compared."""
    structs, fields, values = {}, {}, {}
    for f in facts:
        words = f.rest.split(' ', 2)
        if f.kind == 'struct' and words[0] == '0':
            continue    # incomplete
        if f.kind == 'struct':
            structs[f.name] = f"size {words[0]}" + (f', align {words[1]}' if with_alignment else '')
        elif f.kind == 'field':
            fields[f'{f.name}.{words[0]}'] = f'offset {words[1]}, {words[2]}'
        elif f.kind == 'enum':
            values[f'{f.name} {words[0]}'] = words[1]
    return structs, fields, values


def compare_layouts(c, core, found):
    with_alignment = not any(f.kind == 'struct' and f.rest.endswith('-') for f in found)
    ours, theirs = layouts(core, with_alignment), layouts(found, with_alignment)
    c.all('struct', ours[0], theirs[0])
    # Of a struct that only one side has, that was said.
    both = set(ours[0]) & set(theirs[0])
    field_of = lambda fields: {n: v for n, v in fields.items() if n.split('.')[0] in both}
    c.all('field', field_of(ours[1]), field_of(theirs[1]))
    c.all('enum', ours[2], theirs[2])
    constants = [{f.name: f.rest for f in facts if f.kind == 'const'} for facts in (core, found)]
    if constants[1]:
        c.all('const', *constants)


def compare_functions(c, ours, found):
    kinds = collections.defaultdict(dict)
    for f in found:
        kinds[f.kind][f.name] = f.rest
    functions, macros, redeclared = kinds['function'], kinds['macro'], kinds['redeclared']
    mine = {f.name: f.rest for f in ours}
    if redeclared:
        for name in macros:
            functions.setdefault(name, 'macro')
        c.all('function', mine, functions)
        for name, verdict in redeclared.items():
            # A conflict is a difference of types, which was looked up above; without one there must be none.
            differs = name in functions and functions[name] not in ('macro', mine[name])
            c.same(f'redeclared {name}', 'conflict' if differs else 'ok', verdict)
    else:
        # Not every function is in BTF, nor in the committed table; and what only they have is private to the kernel.
        c.all('function', {n: t for n, t in mine.items() if n in functions}, {n: t for n, t in functions.items() if n in mine})


def main():
    arguments = sys.argv[1:]
    complete = arguments[0] == '--all'
    table_path, ours_path, *found = arguments[complete:]
    table, ours = Table(table_path), read(ours_path)
    passed = failed = 0
    kernels = set()
    for argument in found:
        origin, path = argument.split('=', 1)
        for kernel, facts in read(path).items():
            c = Comparison(table, origin, kernel)
            if table.group(kernel) is None:
                print(f'{kernel}, {origin}: a kernel that the core knows nothing of')
                continue
            if any(f.kind == 'struct' for f in facts):
                compare_layouts(c, core_of(ours['core'], table, kernel), facts)
            if any(f.kind == 'function' for f in facts):
                compare_functions(c, ours[f'ours-{kernel}'], facts)
            print(f'{kernel}, {origin}: {c.passed} agree ({c.known} of them differ as the table says), {c.failed} do not')
            kernels.add(kernel)
            passed, failed = passed + c.passed, failed + c.failed
    if complete:
        for row in table.unused(kernels):
            failed += 1
            print('NOT NEEDED in the table:', ' | '.join(row[:3]))
    print(f'{passed} passed, {failed} failed, 0 skipped')
    return failed > 0


if __name__ == '__main__':
    sys.exit(main())
