"""A socket that goes without a word: closed in repair mode, the kernel sends neither FIN nor RST
(tcp(7), Linux).

Whatever the peer sends later is answered with RST, as by a machine that has started again.
"""

import errno
import socket
from functools import cache

TCP_REPAIR = 19  # of linux/tcp.h; needs CAP_NET_ADMIN
RULE = (
    "must not be silent: to close a socket without FIN and RST needs TCP_REPAIR, so CAP_NET_ADMIN; "
    "run as root, or use a blackhole that drops, which needs no right"
)


def go_silent(sock: socket.socket) -> None:
    """Make the close of a connected socket send nothing.

    Raises:
        OSError: the right is missing, or it is no TCP socket of Linux.
    """
    sock.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)


@cache
def can_be_silent() -> bool:
    """Whether this process may: tried on a pair of sockets of its own."""
    try:
        with (
            socket.create_server(("127.0.0.1", 0)) as listener,
            socket.create_connection(listener.getsockname()) as tried,
            listener.accept()[0],
        ):
            go_silent(tried)
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            raise
        return False
    return True
