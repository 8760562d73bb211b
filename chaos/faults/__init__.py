"""The kinds of fault. To add one: a file beside these, and a line in ``FAULTS`` (chaos/README.md)."""

from __future__ import annotations

from typing import Final

from chaos.faults.accept_close import AcceptClose
from chaos.faults.bandwidth import Bandwidth
from chaos.faults.base import Fault
from chaos.faults.blackhole import Blackhole
from chaos.faults.buffer_stream import BufferStream
from chaos.faults.client_kill import ClientKill
from chaos.faults.client_pause import ClientPause
from chaos.faults.connect_blackhole import ConnectBlackhole
from chaos.faults.connect_delay import ConnectDelay
from chaos.faults.corrupt import Corrupt
from chaos.faults.crash_loop import CrashLoop
from chaos.faults.delay import Delay
from chaos.faults.disconnect import Disconnect
from chaos.faults.disk_full import DiskFull
from chaos.faults.down import Down
from chaos.faults.fail_first_n import FailFirstN
from chaos.faults.flap import Flap
from chaos.faults.frame_bad_mask import FrameBadMask
from chaos.faults.frame_bad_utf8 import FrameBadUtf8
from chaos.faults.frame_close import FrameClose
from chaos.faults.frame_corrupt import FrameCorrupt
from chaos.faults.frame_delay import FrameDelay
from chaos.faults.frame_drop import FrameDrop
from chaos.faults.frame_duplicate import FrameDuplicate
from chaos.faults.frame_fragment import FrameFragment
from chaos.faults.frame_inject import FrameInject
from chaos.faults.frame_move import FrameMove
from chaos.faults.frame_oversize import FrameOversize
from chaos.faults.frame_rewrite import FrameRewrite
from chaos.faults.frame_suppress_ping import FrameSuppressPing
from chaos.faults.frame_swap import FrameSwap
from chaos.faults.half_close import HalfClose
from chaos.faults.half_open import HalfOpen
from chaos.faults.kill import Kill
from chaos.faults.latency import Latency
from chaos.faults.limit_data import LimitData
from chaos.faults.limit_time import LimitTime
from chaos.faults.loop_block import LoopBlock
from chaos.faults.loss import Loss
from chaos.faults.node_start import NodeStart
from chaos.faults.partition import Partition
from chaos.faults.pause import Pause
from chaos.faults.promote import PromoteReplica
from chaos.faults.refuse import Refuse
from chaos.faults.refuse_upgrade import RefuseUpgrade
from chaos.faults.reset_peer import ResetPeer
from chaos.faults.restart import Restart
from chaos.faults.rolling import Rolling
from chaos.faults.slicer import Slicer
from chaos.faults.slow_close import SlowClose
from chaos.faults.stall import Stall
from chaos.faults.storm import Storm
from chaos.faults.term import Term
from chaos.faults.timeout import Timeout

FAULTS: Final[dict[str, type[Fault]]] = {
    "latency": Latency,
    "bandwidth": Bandwidth,
    "slow_close": SlowClose,
    "timeout": Timeout,
    "reset_peer": ResetPeer,
    "slicer": Slicer,
    "limit_data": LimitData,
    "down": Down,
    "kill": Kill,
    "restart": Restart,
    "pause": Pause,
    "term": Term,
    "node_start": NodeStart,
    "promote": PromoteReplica,
    "rolling": Rolling,
    "crash_loop": CrashLoop,
    "loop_block": LoopBlock,
    "disk_full": DiskFull,
    "client_kill": ClientKill,
    "client_pause": ClientPause,
    "disconnect": Disconnect,
    "half_open": HalfOpen,
    "half_close": HalfClose,
    "blackhole": Blackhole,
    "limit_time": LimitTime,
    "refuse": Refuse,
    "accept_close": AcceptClose,
    "refuse_upgrade": RefuseUpgrade,
    "buffer_stream": BufferStream,
    "fail_first_n": FailFirstN,
    "connect_delay": ConnectDelay,
    "connect_blackhole": ConnectBlackhole,
    "flap": Flap,
    "storm": Storm,
    "partition": Partition,
    "loss": Loss,
    "delay": Delay,
    "stall": Stall,
    "corrupt": Corrupt,
    "frame_delay": FrameDelay,
    "frame_close": FrameClose,
    "frame_suppress_ping": FrameSuppressPing,
    "frame_fragment": FrameFragment,
    "frame_oversize": FrameOversize,
    "frame_bad_mask": FrameBadMask,
    "frame_bad_utf8": FrameBadUtf8,
    "frame_drop": FrameDrop,
    "frame_duplicate": FrameDuplicate,
    "frame_swap": FrameSwap,
    "frame_corrupt": FrameCorrupt,
    "frame_rewrite": FrameRewrite,
    "frame_move": FrameMove,
    "frame_inject": FrameInject,
}
