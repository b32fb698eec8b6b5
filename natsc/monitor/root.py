"""/: a page with links to the other endpoints."""

from __future__ import annotations

from natsc.monitor import snapshot

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from natsc.monitor.endpoints import Response

_LINKS = (
    ("General", "/varz"),
    ("JetStream", "/jsz"),
    ("Connections", "/connz"),
    ("Accounts", "/accountz"),
    ("Account Stats", "/accstatz"),
    ("Subscriptions", "/subsz"),
    ("Routes", "/routez"),
    ("LeafNodes", "/leafz"),
    ("Gateways", "/gatewayz"),
    ("Raft Groups", "/raftz"),
    ("Health Probe", "/healthz"),
    ("Expvar", "/debug/vars"),
)

_PAGE = """<!DOCTYPE html>
<html lang="en">
  <head>
    <title>natsc</title>
    <style>
      body {{ font-family: sans-serif; margin: 2rem; }}
      a {{ display: block; padding: 0.2rem; }}
    </style>
  </head>
  <body>
    <h1>natsc</h1>
    <p>speaks NATS {version}</p>
{links}
  </body>
</html>
"""


def root(server: Any, base_path: str) -> Response:
    """`base_path` is / or a clean path without a slash at its end; links are relative to it, so that proxies may
    prefix them."""
    snapshot.count_request(server, "/")
    prefix = "." if base_path == "/" else "." + base_path
    links = "\n".join([f'    <a href="{prefix}{path}">{title}</a>' for title, path in _LINKS])
    page = _PAGE.format(version=server.info["version"], links=links)
    return 200, "text/html; charset=utf-8", page.encode()
