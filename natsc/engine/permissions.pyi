"""Types of natsc/engine/permissions.pyx, where everything is described."""

class Permissions:
    def __init__(
        self,
        publish_allow: list[bytes] | None,
        publish_deny: list[bytes] | None,
        subscribe_allow: list[tuple[bytes, bytes]] | None,
        subscribe_deny: list[tuple[bytes, bytes]] | None,
        response: tuple[int, int] | None,
        seed: int = 0,
    ) -> None: ...
    def can_publish(self, subject: bytes) -> bool: ...
