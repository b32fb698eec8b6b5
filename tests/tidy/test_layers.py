"""A module imports only from rows above its own, and the data plane from nothing but itself: read from the imports."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]

# From the bottom up. Names that share a string are one thing and may import each other; the others of a row may not.
ROWS = (
    (
        "natsc.engine.types natsc.engine.close natsc.engine.random natsc.engine.text natsc.engine",
        "natsc.errors",
        "natsc.oserrors",
    ),
    (
        "natsc.engine.buffer",
        "natsc.engine.subject",
        "natsc.engine.timers",
        "natsc.engine.hooks",
        "natsc.engine.msgtrace",
    ),
    ("natsc.engine.transform",),
    ("natsc.engine.parser", "natsc.engine.sublist"),
    ("natsc.engine.permissions", "natsc.engine.tail", "natsc.engine.shadow"),
    ("natsc.engine.account",),
    ("natsc.engine.deliver",),
    ("natsc.engine.client", "natsc.engine.service"),
    (
        "natsc.jetstream",
        "natsc.jetstream.bell",
        "natsc.jetstream.failpoint",
        "natsc.jetstream.lmdb",
        "natsc.jetstream.layout",
        "natsc.jetstream.headers",
        "natsc.jetstream.seqset",
        "natsc.jetstream.dedupe",
        "natsc.jetstream.expiry",
        "natsc.jetstream.ackstate",
        "natsc.jetstream.subjectstate",
    ),
    ("natsc.jetstream.syncpoint",),
    (
        "natsc.jetstream.msgstore",
        "natsc.jetstream.worker",
        "natsc.jetstream.checkpoint",
        "natsc.jetstream.delivery",
        "natsc.jetstream.waiting",
        "natsc.jetstream.s2",
        "natsc.jetstream.storekey",
    ),
    ("natsc.jetstream.vault",),
    (
        "natsc.jetstream.memstore natsc.jetstream.steps",
        "natsc.jetstream.archive natsc.jetstream.blocks",
        "natsc.jetstream.store natsc.jetstream.filestore natsc.jetstream.storefile",
    ),
    ("natsc._core",),
    ("natsc.imports",),
    ("natsc.jetstream.outbox",),
    ("natsc.jetstream.fastpath",),
    ("natsc.jetstream.consumer_index",),
    ("natsc.jetstream.retained",),
    ("natsc.jetstream.stream",),
    ("natsc.jetstream.consumer_acks", "natsc.jetstream.intake"),
    ("natsc.jetstream.consumer_pulls",),
    ("natsc.jetstream.consumer_setup",),
    ("natsc.jetstream.consumer_push",),
    ("natsc.jetstream.consumer",),
    ("natsc.jetstream.transfer",),
    (
        "natsc.clock",
        "natsc.config.* natsc.auth.jwt natsc.auth.nkeys natsc.auth.xkeys "
        "natsc.gourl natsc.goflag natsc.flags natsc.usage",
    ),
    ("natsc.jetstream.gotime",),
    ("natsc.client_info",),
    ("natsc.auth.*", "natsc.jetstream.*"),
    ("natsc.net.*",),
    ("natsc.monitor.*",),
    ("natsc.adapters.*",),
    ("natsc.server.*",),
    ("natsc.cli natsc.__main__", "natsc.embed natsc.embed_thread natsc.nats_py", "natsc.testing.*"),
    ("natsc.pytest_plugin", "natsc"),
)

# What these must not import of the standard library: their inputs are bytes and the time.
FORBIDDEN = {
    r"natsc\.(engine\b|_core$|errors$)": {"asyncio", "ssl", "socket", "time", "random", "logging", "os", "uvloop"},
    r"natsc\.(config|auth)\b": {"asyncio", "uvloop", "socket"},
    r"natsc\.(?!net|monitor|server|embed|testing|clock$)": {"asyncio", "uvloop"},
}

IMPORT = re.compile(
    r"^[ \t]*(?:from[ \t]+([\w.]+)[ \t]+c?import[ \t]+(\([^)]*\)|[^\n]*)|c?import[ \t]+([\w.]+))", re.MULTILINE
)
TYPES_ONLY = re.compile(r"^if TYPE_CHECKING:\n(?:(?:[ \t]+.*)?\n)+", re.MULTILINE)
SOURCES = sorted(path for end in ("py", "pyx", "pxd") for path in (ROOT / "natsc").rglob(f"*.{end}"))


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {name_of(path) for path in SOURCES}


def imports_of(path: Path) -> set[str]:
    """The modules that a file imports or cimports, anywhere in it; those for type checkers aside."""
    found = set()
    for base, names, plain in IMPORT.findall(TYPES_ONLY.sub("", path.read_text())):
        within = {f"{base}.{word}" for word in re.findall(r"\w+", names)} & MODULES
        found |= within or {base or plain}
    return found


@cache
def place(module: str) -> tuple[int, str]:
    """A module's row, and which of the row it is."""
    for number, row in enumerate(ROWS):
        for thing in row:
            for name in thing.split():
                if module == name or (name.endswith(".*") and f"{module}.".startswith(name[:-1])):
                    return number, thing
    raise LookupError(f"{module} is in no row of the table: give it a place in {__file__}")


def test_every_module_has_a_row() -> None:
    assert {module: place(module) for module in MODULES}


def test_imports_come_from_above() -> None:
    wrong = []
    for path in SOURCES:
        here = name_of(path)
        row, thing = place(here)
        for other in imports_of(path) & MODULES - {"natsc"}:  # natsc itself: its version
            other_row, other_thing = place(other)
            if other_row >= row and other_thing != thing:
                wrong.append(f"{here} (row {row}) imports {other} (row {other_row})")
    assert wrong == []


def test_layers_without_input_and_output_import_none() -> None:
    wrong = []
    for path in SOURCES:
        here = name_of(path)
        roots = {name.partition(".")[0] for name in imports_of(path)}
        for pattern, forbidden in FORBIDDEN.items():
            if re.match(pattern, here):
                wrong += [f"{here} imports {root}" for root in sorted(roots & forbidden)]
    assert wrong == []
