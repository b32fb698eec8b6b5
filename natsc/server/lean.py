"""The server process's event loop, without what asyncio and uvloop import but a server doesn't use.

`import uvloop` imports all of asyncio, and with it ssl, subprocess, logging, inspect, typing and concurrent.futures:
more than half of a server's start-up time, and a third of its memory. uvloop needs a dozen of asyncio's modules and its
own extension module. While these are imported, stand-ins are in the other modules' places:

1. A StandIn is in sys.modules only until new_loop() returns. After that `import ssl`, anywhere, is the import of ssl.
2. What was imported meanwhile keeps its stand-ins. An attribute of one is the real module's, imported at that time.
3. What asyncio and uvloop read of those modules while they are imported is in _TABLE, so that it needs no real module:
   constants with the real values, and Late objects, which work as the real ones and find them when they are used. An
   attribute that is not in the table ends the trick: from there on the real modules are imported. So another version
   of asyncio or uvloop may cost time and memory, but works.
4. The packages asyncio and uvloop aren't in sys.modules afterwards, only those of their modules that were needed.
   `import asyncio`, or the import of another module of it, runs asyncio/__init__.py around them (_Rest): there is one
   of each class. So what a plain server runs of natsc says `from asyncio.tasks import`, not `from asyncio import`.
5. A module that is imported already stays as it is, and where asyncio is, nothing of all this is done.

One thing differs from a plain import: uvloop can't catch ssl's exceptions where ssl was put off. natsc does TLS itself
(natsc/net/tls.py), and _SSLContext keeps uvloop from doing it.

This is for the process that main.py runs. Embedded in another program, natsc takes the loop that it is given.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import sys
from types import FunctionType, ModuleType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable, Sequence
    from importlib.machinery import ModuleSpec
    from typing import Any

# The versions in which this is tested; others get the plain import.
_VERSIONS = ((3, 11), (3, 12), (3, 13))

# The modules of asyncio whose names uvloop takes from the package. They import the rest of what is needed.
_ASYNCIO = ("exceptions", "coroutines", "events", "futures", "protocols", "transports", "tasks")

_CO_COROUTINE = 0x80  # inspect.CO_COROUTINE


def new_loop() -> AbstractEventLoop:
    """uvloop's where it is installed, else asyncio's."""
    if "asyncio" not in sys.modules and sys.version_info[:2] in _VERSIONS:
        loop = _new_lean_loop()
        if loop is not None:
            return loop
    try:
        import uvloop
    except ImportError:
        from asyncio import new_event_loop

        return new_event_loop()
    return uvloop.new_event_loop()


def _new_lean_loop() -> AbstractEventLoop | None:
    """uvloop's loop; None where there is no uvloop, or another one than this knows."""
    specs = [_find_spec(name) for name in ("asyncio", "uvloop")]
    if None in specs:
        return None
    packages = [_unfinished(spec) for spec in specs if spec is not None]
    asyncio = packages[0]
    _put_off()
    try:
        for name in _ASYNCIO:
            module = _import(f"asyncio.{name}")
            for public in module.__all__:
                setattr(asyncio, public, getattr(module, public))
        from uvloop.loop import Loop as UVLoop
    except (ImportError, AttributeError, TypeError):
        return None
    finally:
        _put_back()
        sys.meta_path.insert(0, _Rest(packages))

    class Loop(UVLoop, asyncio.AbstractEventLoop):  # type: ignore[misc, name-defined]
        """As in uvloop/__init__.py."""

    return Loop()


# Modules that are put off


class Late:
    """Works as an object of a module that is imported when the object is used: called, asked for an attribute, or given
    to isinstance(). It is no good as a base class or in an except clause.
    """

    __slots__ = ("_find",)

    def __init__(self, find: Callable[[], Any]) -> None:
        self._find = find

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._find()(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._find(), name)

    def __instancecheck__(self, instance: object) -> bool:
        return isinstance(instance, self._find())


class StandIn(ModuleType):
    """In the place of a module that is imported when something of it is used."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)  # the import system asks for these
        return getattr(_real(self.__name__), name)


class _SSLContext(Late):
    """ssl.SSLContext for uvloop, which asks whether it was given one."""

    __slots__ = ()

    def __instancecheck__(self, instance: object) -> bool:
        raise RuntimeError("the event loop of the server process does no TLS")


def _import(name: str) -> ModuleType:
    __import__(name)
    return sys.modules[name]


def _real(name: str) -> ModuleType:
    """A module that may have been put off."""
    if isinstance(sys.modules.get(name), StandIn):
        _put_back()  # rule 3: something unknown was asked for while asyncio and uvloop are imported
    return _import(name)


def _late(module: str, *names: str) -> dict[str, object]:
    def finder(name: str) -> Callable[[], Any]:
        return lambda: getattr(_real(module), name)

    return {name: Late(finder(name)) for name in names}


def _is_coroutine_function(func: object) -> bool:
    """inspect.iscoroutinefunction; for a plain function, such as a signal handler, without inspect."""
    if type(func) is FunctionType and not func.__dict__:
        return bool(func.__code__.co_flags & _CO_COROUTINE)
    return bool(_real("inspect").iscoroutinefunction(func))


def _extract_stack(f: Any = None, limit: int | None = None) -> Any:
    """traceback.extract_stack, which begins with its caller."""
    return _real("traceback").extract_stack(f or sys._getframe(1), limit)


def _get_logger(name: str | None = None) -> Late:
    return Late(lambda: _real("logging").getLogger(name))


# The functions that signal wraps in enums; uvloop hands them plain numbers.
_SIGNAL = ("NSIG", "SIG_DFL", "default_int_handler", "set_wakeup_fd", "siginterrupt", "signal")

# What is put off, and what is read of it meanwhile.
_TABLE: dict[str, dict[str, object]] = {
    "asyncio.base_events": {},
    "asyncio.constants": {},
    "asyncio.queues": {},
    "asyncio.sslproto": {},
    "asyncio.timeouts": {},
    "concurrent": {},
    "concurrent.futures": {
        "FIRST_COMPLETED": "FIRST_COMPLETED",
        "FIRST_EXCEPTION": "FIRST_EXCEPTION",
        "ALL_COMPLETED": "ALL_COMPLETED",
        **_late("concurrent.futures", "Future", "ThreadPoolExecutor"),
    },
    "inspect": {"iscoroutinefunction": _is_coroutine_function, **_late("inspect", "isgenerator")},
    "array": {},
    "linecache": {},
    "logging": {"DEBUG": 10, "getLogger": _get_logger},
    "selectors": {},
    "signal": {name: getattr(_signal, name) for name in _SIGNAL if hasattr(_signal, name)},
    "ssl": {
        "SSL_ERROR_WANT_READ": 2,
        "SSL_ERROR_WANT_WRITE": 3,
        "SSL_ERROR_SYSCALL": 5,
        "SSLContext": _SSLContext(lambda: _real("ssl").SSLContext),
        **_late(
            "ssl", "MemoryBIO", "create_default_context", "SSLError", "SSLWantReadError", "SSLSyscallError",
            "SSLZeroReturnError", "CertificateError",
        ),
    },
    "subprocess": {"PIPE": -1, "STDOUT": -2, "DEVNULL": -3, **_late("subprocess", "SubprocessError")},
    "traceback": {
        "extract_stack": _extract_stack,
        **_late("traceback", "StackSummary", "walk_stack", "format_list"),
    },
}  # fmt: skip


def _put_off() -> None:
    for name, attributes in _TABLE.items():
        if name in sys.modules:
            continue
        stand_in = StandIn(name)
        stand_in.__dict__.update(attributes)
        sys.modules[name] = stand_in
        parent, _, child = name.rpartition(".")
        if parent in _TABLE:
            setattr(sys.modules[parent], child, stand_in)


def _put_back() -> None:
    for name in _TABLE:
        if isinstance(sys.modules.get(name), StandIn):
            del sys.modules[name]


# Packages whose __init__ is put off


def _find_spec(name: str) -> ModuleSpec | None:
    """importlib.util.find_spec, which would cost the import of importlib.util."""
    for finder in sys.meta_path:
        spec = finder.find_spec(name, None)
        if spec is not None:
            return spec
    return None


def _unfinished(spec: ModuleSpec) -> ModuleType:
    """A package, in sys.modules, whose modules can be imported, while itself it's empty."""
    package = ModuleType(spec.name)
    package.__spec__ = spec
    package.__path__ = spec.submodule_search_locations or []
    sys.modules[spec.name] = package
    return package


class _Rest:
    """Finder and loader that finish the import of packages when they are imported for the first time."""

    def __init__(self, packages: Sequence[ModuleType]) -> None:
        self._packages = {package.__name__: package for package in packages}
        self._loaders: dict[str, Any] = {}
        for name in self._packages:
            del sys.modules[name]

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        package = self._packages.get(name)
        if package is None:
            return None
        spec = package.__spec__
        assert spec is not None
        self._loaders[name], spec.loader = spec.loader, self  # type: ignore[assignment]
        return spec

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return self._packages.pop(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        assert module.__spec__ is not None
        loader = module.__loader__ = module.__spec__.loader = self._loaders.pop(module.__name__)
        if not self._packages and self in sys.meta_path:
            sys.meta_path.remove(self)
        loader.exec_module(module)
