"""A proxy is switched off."""

from __future__ import annotations

from chaos.faults.base import ENABLED, Fault, Script, SetEnabled, Shows, Where


class Down(Fault):
    """Connections through the proxy end, new ones are refused, until the fault ends."""

    where = Where.PROXY
    shows = Shows.REFUSED

    @classmethod
    def needs(cls) -> frozenset[str]:
        return frozenset({ENABLED})

    def script(self, fault_id: str, targets: tuple[str, ...]) -> Script:
        return Script(
            apply=tuple(SetEnabled(proxy, False) for proxy in targets),
            revert=tuple(SetEnabled(proxy, True) for proxy in targets),
        )
