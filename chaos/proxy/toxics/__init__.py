"""The toxics, one file each. To add one: write its file, add its line here (README.md)."""

from collections.abc import Mapping

from chaos.proxy.toxics.bandwidth import Bandwidth
from chaos.proxy.toxics.base import Toxic
from chaos.proxy.toxics.frame import Frame
from chaos.proxy.toxics.latency import Latency
from chaos.proxy.toxics.limit_data import LimitData
from chaos.proxy.toxics.noop import Noop
from chaos.proxy.toxics.reset_peer import ResetPeer
from chaos.proxy.toxics.slicer import Slicer
from chaos.proxy.toxics.slow_close import SlowClose
from chaos.proxy.toxics.timeout import Timeout

TOXICS: Mapping[str, type[Toxic]] = {
    "bandwidth": Bandwidth,
    "frame": Frame,
    "latency": Latency,
    "limit_data": LimitData,
    "noop": Noop,
    "reset_peer": ResetPeer,
    "slicer": Slicer,
    "slow_close": SlowClose,
    "timeout": Timeout,
}
