#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Re-declares the functions of the installed headers where a kernel's own linux/mmu_notifier.h was included, and says what the
compiler thinks of it.

Usage: prototypes.py ours KERNEL INCLUDE FLAGS...              facts `ours-KERNEL function NAME TYPE`
       prototypes.py kernel KERNEL INCLUDE OUT FLAGS -- FLAGS  facts `KERNEL function NAME TYPE`, `KERNEL macro NAME`, and
                                                               `KERNEL redeclared NAME ok|conflict`

KERNEL is 6.12, say; INCLUDE is the directory of the installed headers, the flags before `--` are ours and those behind it the
kernel's. In OUT the programs are left that were compiled.

The prototypes come from gcc (-aux-info), of either side: no text is parsed here but gcc's.
"""
import os
import re
import subprocess
import sys
import tempfile

CC = os.environ.get('CC_GCC', 'gcc')
# Headers that only programs in userspace include have no twin to compare with.
SKIPPED = ('mmu_notifier/abi/',)
DECLARATION = re.compile(r'/\* (.*):(\d+):[NOI][FC] \*/ (.*?;)')
NAME = re.compile(r'(\w+) \((?!\*)')
# What gcc writes for types that have two spellings.
SPELLINGS = [('long long unsigned int', 'unsigned long long'), ('long unsigned int', 'unsigned long'),
             ('long long int', 'long long'), ('long int', 'long'), ('short unsigned int', 'unsigned short'),
             (r'\bbool\b', '_Bool'), (r'\(\*\) \(', '(*)(')]


def number(kernel):
    major, minor = (int(part) for part in kernel.split('.')[:2])
    return f'0x{major:02x}{minor:02x}00'


def headers(include):
    """The installed headers, as an #include names them."""
    found = []
    for directory, _, files in os.walk(include):
        for file in files:
            name = os.path.relpath(os.path.join(directory, file), include)
            if name.endswith('.h') and not name.startswith(SKIPPED):
                found.append(name)
    return sorted(found)


def gcc(source, flags, *more):
    """Runs gcc on a program."""
    env = {**os.environ, 'LC_ALL': 'C'}
    command = [CC, *flags, *more, '-w', '-fsyntax-only', '-fmax-errors=0', '-x', 'c', source]
    return subprocess.run(command, env=env, capture_output=True, text=True)


def declarations(text, flags, path):
    """What gcc says is declared by a program: (file, declaration) for each."""
    with open(path, 'w') as file:
        file.write(text)
    with tempfile.NamedTemporaryFile('r') as aux:
        result = gcc(path, flags, '-aux-info', aux.name)
        if result.returncode:
            sys.exit(f'{path} does not compile:\n{result.stderr[:3000]}')
        return [match.group(1, 3) for match in map(DECLARATION.match, aux) if match]


def by_name(found):
    """The last declaration of each name."""
    return {NAME.search(text).group(1): (file, text) for file, text in found if NAME.search(text)}


def typed(text, name):
    """A declaration without its name: the function's type."""
    text = re.sub(r'^(extern|static) (inline )?', '', text.rstrip(';'))
    for pattern, plain in SPELLINGS:
        text = re.sub(pattern, plain, text)
    before, after = text.split(name + ' (', 1)
    before = before.strip()
    return f"{before}{'' if before.endswith('*') else ' '}({after}"


def unnamed(prelude, names, flags, path):
    """name -> type: of functions that the prelude declares, without the names of parameters."""
    lines = ''.join(f'#undef {n}\nextern __typeof__({n}) {n};\n' for n in names)
    found = declarations(prelude + lines, flags, path)
    return {n: typed(text, n) for n, (file, text) in by_name(found).items() if file == path and n in names}


def our_prelude(kernel, include):
    return f'#define MMU_NOTIFIER_KERNEL {number(kernel)}\n' + ''.join(f'#include <{h}>\n' for h in headers(include))


def ours(kernel, include, flags, directory):
    """name -> declaration, as gcc writes it, of each function of the installed headers."""
    found = declarations(our_prelude(kernel, include), flags, f'{directory}/ours-{kernel}.c')
    found = [(file, text) for file, text in found if file.startswith(include)]
    return by_name(found)


def young(kernel, include, flags, path):
    """What mmu_notifier_young_t stands for: a typedef of ours that prototypes mention."""
    with open(path, 'w') as file:
        file.write(our_prelude(kernel, include))
    text = subprocess.run([CC, *flags, '-E', '-P', path], capture_output=True, text=True, check=True).stdout
    return re.search(r'typedef (\w+) mmu_notifier_young_t;', text).group(1)


def print_ours(kernel, include, *flags):
    with tempfile.TemporaryDirectory() as directory:
        names = ours(kernel, include, flags, directory)
        alias = young(kernel, include, flags, f'{directory}/young.c')
        types = unnamed(our_prelude(kernel, include), names, flags, f'{directory}/types.c')
    for name, text in sorted(types.items()):
        print(f'ours-{kernel} function {name}', text.replace('mmu_notifier_young_t', alias))


def print_kernel(kernel, include, out, *flags):
    split = flags.index('--')
    our_flags, flags = flags[:split], flags[split + 1:]
    mine = ours(kernel, include, our_flags, out)
    alias = young(kernel, include, our_flags, f'{out}/young.c')

    prelude = '#include <linux/mmu_notifier.h>\n' + ''.join(
        f'#if __has_include(<{h}>)\n#include <{h}>\n#endif\n' for h in headers(include))
    macros = ''.join(f'#ifdef {n}\nextern void abi_macro__{n}(void);\n#endif\n' for n in mine)
    theirs = by_name(declarations(prelude + macros, flags, f'{out}/kernel-{kernel}.c'))
    own_header = [n for n, (file, _) in theirs.items()
                  if file.endswith('/include/linux/mmu_notifier.h') and not n.startswith('__compiletime')]
    names = sorted(set(own_header) | (set(mine) & set(theirs)))
    types = unnamed(prelude, names, flags, f'{out}/types-{kernel}.c')
    for name in names:
        print(f'{kernel} function {name}', types[name])
    for name in mine:
        if name not in theirs and f'abi_macro__{name}' in theirs:
            print(f'{kernel} macro {name}')

    # Each of our prototypes in a line of its own, after the kernel's.
    path = f'{out}/redeclared-{kernel}.c'
    with open(path, 'w') as file:
        file.write(prelude + ''.join(f'#undef {n}\n' for n in mine) + f'#define mmu_notifier_young_t {alias}\n'
                   + 'typedef void (*mmu_notifier_report_handler)(const struct mmu_notifier_report *, void *);\n')
        for name, (_, text) in mine.items():
            text = re.sub(r'^(static|extern) (inline )?', 'extern ', text).replace('volatile void', 'void')
            file.write(f'#line 1 "{name}"\n{text}\n')
    errors = {}
    for line in gcc(path, flags).stderr.splitlines():
        match = re.match(r'([^:]*):(?:\d+:)+ (?:fatal )?error: (.*)', line)
        if match:
            errors.setdefault(match.group(1), match.group(2))
    for name in sorted(mine):
        print(f"{kernel} redeclared {name} {'conflict' if name in errors else 'ok'}")
    for name in sorted(set(errors) - set(mine)):
        sys.exit(f'{name}: {errors[name]}')


if __name__ == '__main__':
    {'ours': print_ours, 'kernel': print_kernel}[sys.argv[1]](*sys.argv[2:])
