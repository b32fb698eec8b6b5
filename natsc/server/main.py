"""The server process: event loop, signals, exit code."""

from __future__ import annotations

from natsc.config.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Future

    from natsc.config.options import Options
    from natsc.server.log import Log
    from natsc.server.server import Server

_SIGHUP, _SIGINT, _SIGUSR1, _SIGUSR2, _SIGTERM = 1, 2, 10, 12, 15


def raise_descriptor_limit() -> None:
    """The soft limit of open files to the hard one: every connection is a descriptor."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def run(opts: Options, log: Log) -> int:
    """Serves until a signal ends it. Returns the exit code."""
    from natsc.server.lean import new_loop

    raise_descriptor_limit()
    loop = new_loop()  # before anything imports asyncio
    from natsc.server.server import Server, StartError

    try:
        loop.run_until_complete(_serve(Server(opts, log, loop), loop))
    except (StartError, ConfigError) as error:  # what shows only when a configuration is put to use is TLS's
        log.fatal(str(error))
    finally:
        loop.close()
    return 0


async def _serve(server: Server, loop: AbstractEventLoop) -> None:
    stop: Future[None] = loop.create_future()
    _handle_signals(server, loop, stop)
    await server.start()
    _settle_memory()
    await stop
    await server.shutdown()


def _handle_signals(server: Server, loop: AbstractEventLoop, stop: Future[None]) -> None:
    log = server.log

    def end() -> None:
        if not stop.done():
            stop.set_result(None)

    def on_interrupt() -> None:
        log.notice('Trapped "interrupt" signal')
        end()

    def on_terminate() -> None:
        log.notice('Trapped "terminated" signal')
        if not server.lame_duck:  # it is stopping already, slowly
            end()

    def on_reopen() -> None:
        log.notice('Trapped "user defined signal 1" signal')
        log.reopen()

    def on_lame_duck() -> None:
        log.notice('Trapped "user defined signal 2" signal')
        from natsc.server.lame_duck import begin

        begin(server, end)

    def on_reload() -> None:
        log.notice('Trapped "hangup" signal')
        from natsc.server.reload import reload_from_file

        reload_from_file(server)

    for number, handler in (
        (_SIGINT, on_interrupt), (_SIGTERM, on_terminate), (_SIGUSR1, on_reopen), (_SIGUSR2, on_lame_duck),
        (_SIGHUP, on_reload),
    ):  # fmt: skip
        loop.add_signal_handler(number, handler)


def _settle_memory() -> None:
    """What was made so far stays for good: keep the collector from walking it again and again."""
    import gc

    gc.freeze()  # without a collection: a start leaves next to no cycles, and looking for them is a millisecond
    # What connections allocate has no cycles once they are gone: look for some now and then, not every 700 objects.
    gc.set_threshold(50_000, 20, 20)
