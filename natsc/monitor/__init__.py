"""The monitoring port: JSON about the server over HTTP or HTTPS.

Reading order: `http` (the listener, and the entry point `start_monitor`), `connection` (sockets, timeouts), `request`
(bytes to requests, no I/O), `endpoints` (path to function), then one file a family of endpoints. `snapshot` is the only
file that knows the shapes of the server, its engine and its clients; `gojson` is the only one that knows how the
reference prints.

Nothing here is imported unless a monitoring port is configured.
"""
