"""A listening socket whose queue is full: the kernel drops the SYN of whoever dials, and nothing answers
it.
"""

import asyncio
import os
import socket
from contextlib import suppress


class FullQueue:
    """Takes over what ``server`` listens on: accepts nobody, and fills the queue with a connection of
    its own.

    The kernel lets a client's SYN be sent again after 1, 3, 7 ... seconds, so who dials meanwhile comes in
    late, by up to the time that it has waited already.
    """

    def __init__(self, server: asyncio.Server) -> None:
        # A descriptor of its own: the server closes the one that it has.
        self._listener = socket.socket(fileno=os.dup(server.sockets[0].fileno()))
        server.close()
        self._listener.setblocking(False)
        self._listener.listen(0)  # room for one: Linux holds one more than it is asked for
        self._filler = socket.socket(self._listener.family, socket.SOCK_STREAM)
        self._filler.setblocking(False)
        self._filler.connect_ex(self._listener.getsockname())

    def reopen(self) -> socket.socket:
        """The listening socket, without the connection that filled it; those behind it can be accepted."""
        with suppress(BlockingIOError):
            self._listener.accept()[0].close()
        self._filler.close()
        return self._listener

    def close(self) -> None:
        """Listen no more."""
        self._filler.close()
        self._listener.close()
