"""Types of natsc/imports.pyx, where everything is described."""

from typing import Any

from natsc._core import Engine
from natsc.engine.account import Account
from natsc.engine.transform import Mappings, Transform

class ServiceImport:
    @property
    def account(self) -> Account: ...
    @property
    def dest(self) -> Account: ...
    @property
    def subject(self) -> str: ...
    @property
    def exported(self) -> str: ...
    @property
    def share(self) -> bool: ...
    @property
    def latency(self) -> Any: ...
    @property
    def num_responses(self) -> int: ...
    def __init__(
        self,
        engine: Engine,
        account: Account,
        dest: Account,
        subject: str,
        to: str,
        transform: Transform | None,
        *,
        exported: str,
        many: bool,
        share: bool,
        threshold_ns: int,
        latency: Any = None,
        allow_trace: bool = False,
    ) -> None: ...
    def responses(self) -> list[tuple[Account, str, Account, str, Any]]: ...
    def close(self) -> None: ...

class Replies:
    def __init__(self, engine: Engine, account: Account) -> None: ...
    def close(self) -> None: ...

class StreamImports:
    def __init__(self, items: list[tuple[Account, str, str, Transform | None, Transform | None, bool]]) -> None: ...

def set_streams(engine: Engine, account: Account, streams: StreamImports | None) -> None: ...
def set_mappings(account: Account, mappings: Mappings | None) -> None: ...
