"""The floor: finished bytes, one write per connection, on chatd's own transports. python relay_picows.py PORT

A publisher (path /publish) sends the bytes to be written, as the payload of a frame.
"""

import logging
import sys
from collections.abc import Callable

import uvloop
from picows import WSFrame, WSListener, WSTransport, WSUpgradeRequest, ws_create_server

writes: dict[WSListener, Callable[[bytes], None]] = {}


class Subscriber(WSListener):
    def on_ws_connected(self, transport: WSTransport) -> None:
        transport.underlying_transport.set_write_buffer_limits(high=1 << 26)
        writes[self] = transport.underlying_transport.write

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        writes.pop(self, None)


class Publisher(WSListener):
    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        data = frame.get_payload_as_bytes()
        for write in writes.values():
            write(data)


def route(request: WSUpgradeRequest) -> WSListener:
    return Publisher() if request.path == b"/publish" else Subscriber()


async def main() -> None:
    logging.getLogger("picows").setLevel(logging.ERROR)
    server = await ws_create_server(
        route, "127.0.0.1", int(sys.argv[1]), backlog=4096, use_aiofastnet=False, read_buffer_init_size=2048
    )
    await server.serve_forever()


uvloop.run(main())
