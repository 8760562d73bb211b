"""The floor of a reader: frames are taken from picows as bytes, and nothing is made of them.

python -m benchmarks.peers.reader_picows PORT CLIENTS
"""

import asyncio
import json
import logging
import sys

import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

PING = b"{}"


class Reader(WSListener):
    def __init__(self, number: int) -> None:
        super().__init__()
        wanted = {"channel": "room:1", "from": "new"}
        self._hello = {"type": "connect", "id": 1, "client": f"c{number}", "subscribe": [wanted]}

    def on_ws_connected(self, transport: WSTransport) -> None:
        transport.send(WSMsgType.TEXT, json.dumps(self._hello).encode())

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.get_payload_as_bytes() == PING:
            transport.send(WSMsgType.TEXT, PING)


async def main(port: int, clients: int) -> None:
    logging.getLogger("picows").setLevel(logging.ERROR)
    url = f"ws://127.0.0.1:{port}/ws"
    for number in range(1, clients + 1):
        await ws_connect(
            lambda _request, _response, number=number: Reader(number),
            url,
            use_aiofastnet=False,
            read_buffer_init_size=4096,
        )
    await asyncio.Event().wait()


uvloop.run(main(int(sys.argv[1]), int(sys.argv[2])))
