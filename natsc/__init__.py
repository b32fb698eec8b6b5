"""natsc: a NATS server in Python, its hot half compiled with Cython.

    async with natsc.Server() as server: ...        a server in the running event loop
    with natsc.run_in_thread() as server: ...       one in a thread, for synchronous code

Importing natsc loads none of the server: what is named here comes when it is asked for.
"""

__version__ = "0.1.0"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from natsc.embed import ConfigError, Credentials, Server, StartError
    from natsc.embed_thread import ThreadServer, run_in_thread

__all__ = ["ConfigError", "Credentials", "Server", "StartError", "ThreadServer", "__version__", "run_in_thread"]


def __getattr__(name: str) -> object:
    if name in __all__:
        from natsc import embed, embed_thread

        return getattr(embed_thread if hasattr(embed_thread, name) else embed, name)
    raise AttributeError(f"module 'natsc' has no attribute {name!r}")
