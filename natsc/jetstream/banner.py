"""What a start says about JetStream, line by line as the reference does."""

from __future__ import annotations

import math

_ART = r"""
    _ ___ _____ ___ _____ ___ ___   _   __  __
 _ | | __|_   _/ __|_   _| _ \ __| /_\ |  \/  |
| || | _|  | | \__ \ | | |   / _| / _ \| |\/| |
 \__/|___| |_| |___/ |_| |_|_\___/_/ \_\_|  |_|

         https://docs.nats.io/jetstream

---------------- JETSTREAM ----------------"""


def friendly_bytes(size: int) -> str:
    """A size as people read it: 17.66 GB."""
    if size < 1024:
        return f"{size} B"
    exponent = int(math.log(size) / math.log(1024))
    return f"{size / 1024**exponent:.2f} {'KMGTPE'[exponent - 1]}B"


def lines(strict: bool, max_memory: int, max_storage: int, directory: str, domain: str, cipher: str) -> list[str]:
    found = [
        *_ART.split("\n")[1:],
        f"  Strict:          {str(strict).lower()}",
        f"  Max Memory:      {friendly_bytes(max_memory)}",
        f"  Max Storage:     {friendly_bytes(max_storage)}",
        f'  Store Directory: "{directory}"',
    ]
    if domain:
        found.append(f"  Domain:          {domain}")
    if cipher:
        found.append(f"  Encryption:      {cipher}")
    return [*found, "  API Level:       5", "-" * 43]
