"""Close reasons and what clients are told: the texts are nats-server's, because clients compare them."""

from __future__ import annotations


class StoreError(Exception):
    """Something went wrong in JetStream's storage; the text says what."""


# Why a connection was closed, as monitoring shows it. The numbers are those of natsc/engine/close.pxd.
CLOSE_REASONS = (
    "",
    "Client Closed",
    "Authentication Timeout",
    "Authentication Failure",
    "TLS Handshake Failure",
    "Slow Consumer (Pending Bytes)",
    "Slow Consumer (Write Deadline)",
    "Write Error",
    "Read Error",
    "Parse Error",
    "Stale Connection",
    "Protocol Violation",
    "Bad Client Protocol Version",
    "Incorrect Port",
    "Maximum Account Connections Exceeded",
    "Maximum Connections Exceeded",
    "Maximum Message Payload Exceeded",
    "Maximum Control Line Exceeded",
    "Maximum Subscriptions Exceeded",
    "Duplicate Route",
    "Route Removed",
    "Server Shutdown",
    "Authentication Expired",
    "Wrong Gateway",
    "Missing Account",
    "Credentials Revoked",
    "Internal Client",
    "Message Header Violation",
    "No Responders Requires Headers",
    "Cluster Name Conflict",
    "Duplicate Remote LeafNode Connection",
    "Duplicate Client ID",
    "Duplicate Server Name",
    "Minimum Version Required",
    "Cluster Names Identical",
    "Kicked",
    "Proxy Not Trusted",
    "Proxy Required",
)

CLIENT_CLOSED = 1
AUTHENTICATION_TIMEOUT = 2
AUTHENTICATION_VIOLATION = 3
TLS_HANDSHAKE_ERROR = 4
WRITE_ERROR = 7
READ_ERROR = 8
PROTOCOL_VIOLATION = 11
BAD_CLIENT_PROTOCOL_VERSION = 12
MAX_ACCOUNT_CONNECTIONS_EXCEEDED = 14
MAX_CONNECTIONS_EXCEEDED = 15
MAX_SUBSCRIPTIONS_EXCEEDED = 18
SERVER_SHUTDOWN = 21
AUTHENTICATION_EXPIRED = 22
REVOCATION = 25
NO_RESPONDERS_REQUIRES_HEADERS = 28
KICKED = 35
PROXY_NOT_TRUSTED = 36
PROXY_REQUIRED = 37
REFUSALS = frozenset((AUTHENTICATION_VIOLATION, PROXY_NOT_TRUSTED, PROXY_REQUIRED))  # of authentication

AUTHENTICATION_TIMED_OUT = b"Authentication Timeout"
AUTHORIZATION_VIOLATION = b"Authorization Violation"
INVALID_CLIENT_PROTOCOL = b"invalid client protocol"
NO_RESPONDERS_NEED_HEADERS = b"no responders requires headers support"
TOO_MANY_CONNECTIONS = b"maximum connections exceeded"
TOO_MANY_ACCOUNT_CONNECTIONS = b"maximum account active connections exceeded"
TOO_MANY_SUBSCRIPTIONS = b"maximum subscriptions exceeded"
CONNECTION_THROTTLED = b"Connection throttling is active. Please try again later."
