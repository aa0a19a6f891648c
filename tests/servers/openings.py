"""What a client says first that counts no events, as bytes for any socket."""

from __future__ import annotations

import json
from urllib.parse import quote


def opening(transport: str, name: str, key: str, params: str) -> bytes:
    """Opens a connection to that actor, on a WebSocket or an event stream, in JSON."""
    query = json.dumps({"getOrCreateForKey": {"name": name, "key": [key]}})
    lines = ["Host: localhost"]
    if transport == "sse":
        lines += [f"X-RivetKit-Query: {query}", "X-RivetKit-Encoding: json"]
        lines += [f"X-RivetKit-Conn-Params: {json.dumps(params)}"]
    else:
        said = [f"query.{quote(query, safe='')}", "encoding.json"]
        said += [f"conn_params.{quote(json.dumps(params), safe='')}", "rivetkit"]
        lines += ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"]
        lines += ["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="]
        lines += [f"Sec-WebSocket-Protocol: {', '.join(said)}"]
    return "\r\n".join([f"GET /actors/connect/{transport} HTTP/1.1", *lines, "", ""]).encode()
