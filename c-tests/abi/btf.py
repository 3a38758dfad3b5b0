#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Reads BTF, the description of a kernel's types that the kernel itself offers in /sys/kernel/btf/vmlinux, or that an ELF
file has in a section .BTF. Prints facts as crates/facts does (BTF has no alignments: `-`), and of functions
`SOURCE function NAME TYPE`.

Usage: btf.py FILE SOURCE
"""
import re
import struct
import sys

STRUCTS = re.compile(r'mmu_(interval_)?notifier.*|atomic_t|pte_t|hlist_node|hlist_head|llist_node|callback_head|rb_node|'
                     r'interval_tree_node')
ENUMS = re.compile(r'mmu_(interval_)?notifier.*')
FUNCTIONS = re.compile(r'(__)?mmu_(notifier|interval_(notifier|read|set|check))_\w+|mm_has_notifiers')
# Typedefs that a declaration keeps; others are looked through.
KEPT = {'atomic_t', 'pte_t'}

(VOID, INT, PTR, ARRAY, STRUCT, UNION, ENUM, FWD, TYPEDEF, VOLATILE, CONST, RESTRICT, FUNC, FUNC_PROTO, VAR, DATASEC, FLOAT,
 DECL_TAG, TYPE_TAG, ENUM64) = range(20)
QUALIFIERS = {CONST: 'const', VOLATILE: 'volatile', RESTRICT: 'restrict'}


class Type:
    """One type. `target` is the size of an int, a struct or an enum, and the type that any other refers to."""

    def __init__(self, kind, name, target, rest, flag):
        self.kind, self.name, self.target, self.rest, self.flag = kind, name, target, rest, flag


def section(data):
    """The section .BTF of an ELF file of 64 bits, or all of what is no ELF file."""
    if data[:4] != b'\x7fELF':
        return data
    table, = struct.unpack_from('<Q', data, 0x28)
    size, count, names = struct.unpack_from('<HHH', data, 0x3A)
    headers = [struct.unpack_from('<IIQQQQ', data, table + i * size) for i in range(count)]
    for name, _, _, _, offset, length in headers:
        start = headers[names][4] + name
        if data[start:data.index(b'\0', start)] == b'.BTF':
            return data[offset:offset + length]
    sys.exit('no section .BTF')


def types(data):
    """All types, by number."""
    magic, _, _, header = struct.unpack_from('<HBBI', data)
    if magic != 0xEB9F:
        sys.exit('not BTF of a little-endian machine')
    type_off, type_len, str_off, _ = struct.unpack_from('<IIII', data, 8)
    position, end, strings = header + type_off, header + type_off + type_len, header + str_off
    string = lambda offset: data[strings + offset:data.index(b'\0', strings + offset)].decode()
    found = [Type(VOID, 'void', 0, [], 0)]
    # What follows a type: so many times this.
    formats = {INT: '<I', ARRAY: '<III', STRUCT: '<III', UNION: '<III', ENUM: '<Ii', FUNC_PROTO: '<II', VAR: '<I',
               DATASEC: '<III', DECL_TAG: '<i', ENUM64: '<III'}
    while position < end:
        name, info, target = struct.unpack_from('<III', data, position)
        position += 12
        kind, count, flag = info >> 24 & 0x1F, info & 0xFFFF, info >> 31
        if kind > ENUM64:
            sys.exit(f'a kind of type that is not known: {kind}')
        rest, form = [], formats.get(kind)
        if form:
            for _ in range(1 if kind in (INT, ARRAY, VAR, DECL_TAG) else count):
                rest.append(struct.unpack_from(form, data, position))
                position += struct.calcsize(form)
        if kind in (STRUCT, UNION, ENUM, FUNC_PROTO, ENUM64):
            rest = [(string(first), *others) for first, *others in rest]
        found.append(Type(kind, string(name), target, rest, flag))
    return found


def plain(name):
    """A number's type in the usual order of words."""
    words = name.split()
    if 'long' in words or 'unsigned' in words or 'signed' in words:
        words = [w for w in words if w != 'signed']
        order = ['unsigned', 'short', 'long', 'char', 'int']
        words.sort(key=order.index)
        if 'int' in words and ('long' in words or 'short' in words):
            words.remove('int')
    return {'bool': '_Bool'}.get(' '.join(words), ' '.join(words))


class Writer:
    def __init__(self, all_types):
        self.types = all_types

    def declare(self, number, inner='', qualifier=''):
        """The declaration, in C, of `inner` (or of nothing) as type `number`."""
        t = self.types[number]
        if t.kind in QUALIFIERS:
            return self.declare(t.target, inner, QUALIFIERS[t.kind] + ' ')
        if t.kind == TYPE_TAG or (t.kind == TYPEDEF and t.name not in KEPT):
            return self.declare(t.target, inner, qualifier)
        if t.kind == PTR:
            target = self.types[t.target]
            inner = '*' + qualifier + inner
            return self.declare(t.target, f'({inner})' if target.kind in (FUNC_PROTO, ARRAY) else inner)
        if t.kind == ARRAY:
            element, _, count = t.rest[0]
            return self.declare(element, f'{inner}[{count}]', qualifier)
        if t.kind == FUNC_PROTO:
            arguments = ', '.join(self.declare(ty) if ty else '...' for _, ty in t.rest) or 'void'
            return self.declare(t.target, f'{inner}({arguments})')
        if t.kind == FWD:
            name = ('union ' if t.flag else 'struct ') + t.name
        else:
            name = {STRUCT: 'struct ', UNION: 'union ', ENUM: 'enum ', ENUM64: 'enum '}.get(t.kind, '') + plain(t.name)
        return f'{qualifier}{name} {inner}'.rstrip()

    def facts(self):
        for t in self.types:
            yield from self.of(t)

    def of(self, t):
        if t.kind == TYPEDEF and STRUCTS.fullmatch(t.name) and self.types[t.target].kind == STRUCT:
            yield from self.struct(t.name, self.types[t.target])
        elif t.kind == STRUCT and STRUCTS.fullmatch(t.name):
            yield from self.struct(t.name, t)
        elif t.kind == ENUM and ENUMS.fullmatch(t.name):
            yield from (f'enum {t.name} {name} {value}' for name, value in t.rest)
        elif t.kind == FUNC and FUNCTIONS.fullmatch(t.name):
            yield f'function {t.name} {self.declare(t.target)}'

    def struct(self, name, t):
        yield f'struct {name} {t.target} -'
        for member, ty, offset in t.rest:
            bits = offset & 0xFFFFFF if t.flag else offset
            yield f'field {name} {member} {bits // 8} {self.declare(ty)}'


def main():
    path, source = sys.argv[1:]
    with open(path, 'rb') as file:
        data = file.read()
    for fact in Writer(types(section(data))).facts():
        print(source, fact)


if __name__ == '__main__':
    main()
