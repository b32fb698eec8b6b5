"""Types of natsc/jetstream/failpoint.pyx, where everything is described."""

def parse(text: str) -> tuple[int, int]: ...
def here(name: str) -> None: ...

VARIABLE: str
NAMES: dict[str, int]
