"""The toxics, one file each. To add one: write its file, add its line here (README.md)."""

from collections.abc import Mapping

from chaos.proxy.toxics.bandwidth import Bandwidth
from chaos.proxy.toxics.base import Toxic
from chaos.proxy.toxics.blackhole import Blackhole
from chaos.proxy.toxics.buffer import Buffer
from chaos.proxy.toxics.corrupt import Corrupt
from chaos.proxy.toxics.cut import Cut
from chaos.proxy.toxics.delay import Delay
from chaos.proxy.toxics.door import Door
from chaos.proxy.toxics.flap import Flap
from chaos.proxy.toxics.frame import Frame
from chaos.proxy.toxics.full_queue import FullQueue
from chaos.proxy.toxics.half_close import HalfClose
from chaos.proxy.toxics.half_open import HalfOpen
from chaos.proxy.toxics.latency import Latency
from chaos.proxy.toxics.limit_data import LimitData
from chaos.proxy.toxics.loss import Loss
from chaos.proxy.toxics.noop import Noop
from chaos.proxy.toxics.reset_peer import ResetPeer
from chaos.proxy.toxics.slicer import Slicer
from chaos.proxy.toxics.slow_close import SlowClose
from chaos.proxy.toxics.stall import Stall
from chaos.proxy.toxics.timeout import Timeout

TOXICS: Mapping[str, type[Toxic]] = {
    "bandwidth": Bandwidth,
    "blackhole": Blackhole,
    "buffer": Buffer,
    "corrupt": Corrupt,
    "cut": Cut,
    "delay": Delay,
    "door": Door,
    "flap": Flap,
    "frame": Frame,
    "full_queue": FullQueue,
    "half_close": HalfClose,
    "half_open": HalfOpen,
    "latency": Latency,
    "limit_data": LimitData,
    "loss": Loss,
    "noop": Noop,
    "reset_peer": ResetPeer,
    "slicer": Slicer,
    "slow_close": SlowClose,
    "stall": Stall,
    "timeout": Timeout,
}
