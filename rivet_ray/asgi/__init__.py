"""Raw requests and sockets as ASGI, for `on_fetch` and `on_websocket` (floor 5).

`serve_exchange` is the handle of a host; see `rivet_ray.runtime.exchange`.
Starlette is imported with the first request.
"""

from rivet_ray.asgi.serving import serve_exchange

__all__ = ["serve_exchange"]
