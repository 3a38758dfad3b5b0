# SPDX-License-Identifier: MIT OR Apache-2.0
"""What is installed, and that every public name says what it is."""

import ast
import dataclasses
import importlib
import importlib.metadata
import inspect
import itertools
import pkgutil
import re

import pytest

import mmu_notifier as mn
from mmu_notifier import live


def test_the_version_is_that_of_the_distribution() -> None:
    assert mn.__version__ == importlib.metadata.version("mmu_notifier")


def test_the_package_is_typed() -> None:
    files = {str(file) for file in importlib.metadata.files("mmu_notifier") or []}
    if any(file.endswith(".pth") for file in files):
        pytest.skip("installed for development")
    assert {"mmu_notifier/py.typed", "mmu_notifier/_mmu_notifier.pyi"} <= files


def public_modules() -> list[str]:
    found = ["mmu_notifier"]
    for module in pkgutil.walk_packages(mn.__path__, "mmu_notifier."):
        if not any(part.startswith("_") for part in module.name.split(".")):
            found.append(module.name)
    return found


def public_names() -> list[tuple[str, object]]:
    """Every public name, and the public members of every public class."""
    found: list[tuple[str, object]] = []
    for module in public_modules():
        loaded = importlib.import_module(module)
        found.append((module, loaded))
        for name in getattr(loaded, "__all__", []):
            value = getattr(loaded, name)
            if not (inspect.isclass(value) or inspect.isroutine(value)):
                continue  # a constant, or the name of a type
            found.append((f"{module}.{name}", value))
            if inspect.isclass(value) and value.__module__.startswith("mmu_notifier"):
                found += [
                    (f"{module}.{name}.{member}", getattr(value, member))
                    for member in vars(value)
                    if not member.startswith("_")
                ]
    return found


def documented(value: object) -> bool:
    return callable(value) or isinstance(value, property) or inspect.isgetsetdescriptor(value) or inspect.ismodule(value)


NAMES = {name: value for name, value in public_names() if documented(value)}


def test_there_are_names() -> None:
    assert len(NAMES) > 60


@pytest.mark.parametrize("name", NAMES)
def test_every_public_name_has_a_docstring(name: str) -> None:
    text = inspect.getdoc(NAMES[name])
    assert text and len(text) > 10 and text.rstrip().endswith((".", "?", ":", ")", "``")), text


NATIVE = [mn.Mm, mn.Lock, mn.Range, mn.Invalidation, mn.Notifier, mn.IntervalNotifier]
CALLS = {
    f"{cls.__name__}.{name}": member
    for cls in NATIVE
    for name, member in vars(cls).items()
    if not name.startswith("_") and callable(member)
}
# They answer at once, and cannot fail.
SILENT = {"Mm.read_lock", "Mm.write_lock", "Mm.rmap_read_lock", "Mm.rmap_write_lock", "Mm.current"}
OPS = {f"Notifier.{name}" for name in vars(mn.Notifier) if name.endswith(("_pte", "_tlbs", "_notifier", "release", "_start", "_end", "young"))}


@pytest.mark.parametrize("name", sorted(set(CALLS) - SILENT - OPS - {"IntervalNotifier.invalidate"}))
def test_every_call_says_what_it_raises(name: str) -> None:
    assert re.search(r"Raises|Invalidation\.begin. says", CALLS[name].__doc__), CALLS[name].__doc__


@pytest.mark.parametrize("name", sorted(set(CALLS) - SILENT))
def test_every_address_has_a_unit(name: str) -> None:
    signature = CALLS[name].__text_signature__ or ""
    if {"start", "end", "address", "length"} & set(re.findall(r"\w+", signature)):
        assert re.search(r"bytes|page at", CALLS[name].__doc__), CALLS[name].__doc__


@pytest.mark.parametrize("name", sorted(CALLS))
def test_every_call_has_a_signature_for_help(name: str) -> None:
    inspect.signature(CALLS[name])


RECORDS = [mn.Difference, mn.Exploration, mn.Process, mn.Recording, mn.Replayed, mn.Run, live.Change, live.Status]


@pytest.mark.parametrize("record", RECORDS)
def test_every_field_is_explained(record: type) -> None:
    """By a text behind it, or by its class."""
    body = ast.parse(inspect.getsource(record)).body[0]
    assert isinstance(body, ast.ClassDef)
    explained = {
        field.target.id
        for field, text in itertools.pairwise(body.body)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(text, ast.Expr)
    }
    text = inspect.getdoc(record) or ""
    fields = {field.name for field in dataclasses.fields(record) if not field.name.startswith("_")}
    assert {name for name in fields - explained if name not in text} == set()
