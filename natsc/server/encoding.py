"""Compression of what the server answers and tells, by the Accept-Encoding header of who asked."""

from __future__ import annotations


def encoded(payload: bytes, accepted: str) -> tuple[bytes, bytes | None]:
    """A payload in an encoding that is accepted, and the header block that says which; None where nobody asked.

    As in nats-server a name that is part of the header's text is enough, and Snappy comes before gzip.
    """
    if not accepted or not payload:
        return payload, None
    wanted = accepted.lower()
    name = "identity"
    if "snappy" in wanted or "s2" in wanted:
        name, payload = "snappy", _snappy(payload)
    elif "gzip" in wanted:
        from gzip import compress

        name, payload = "gzip", compress(payload, mtime=0)
    return payload, f"NATS/1.0\r\nContent-Encoding: {name}\r\n\r\n".encode()


def _snappy(payload: bytes) -> bytes:
    """A Snappy stream: what the S2 encoder writes is one but for its name."""
    from natsc.jetstream.s2 import Encoder

    encoder = Encoder()
    encoder.write(payload)
    encoder.finish()
    return b"\xff\x06\x00\x00sNaPpY" + encoder.take()[10:]
