"""Whether the load signal can be believed: a monitor may go silent, and it may lie."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, isnan, nan

from anytime_dnn_ros.timing.load import absurdity

# The monitor publishes ten times a second, and a profile once; after this silence it is lost. One
# absurd number is held against it for as long.
LOAD_TIMEOUT_S = 3.0
# The filter learns by how much the load explains too little or too much. Caches, a hypervisor and
# clocks that the monitor cannot see make up a factor of two; beyond this the load says nothing.
CONTRADICTION, CONTRADICTED_S = 4.0, 30.0
# Of a machine this busy, cpu_percent does not tell how many tasks wait for a core.
SATURATED_PERCENT = 90.0


@dataclass
class LoadWatch:
    """What the node has heard of the load; times on the monotonic clock.

    Attributes:
        cpu_percent: As the monitor said last, whether it can be believed or not.
        regime_name: Likewise.
    """

    cpu_percent: float = nan
    regime_name: str = 'unknown'
    _first_s: float = inf
    _last_s: float = -inf
    _sane_s: float = -inf
    _absurd_s: float = -inf
    _absurdity: str = ''
    _unexplained: float = 1.0
    _explained_s: float = -inf

    def hear_load(self, cpu_percent: float, freq_ratio: float, now_s: float) -> None:
        """Takes a `SystemLoad`."""
        self._hear(now_s)
        self.cpu_percent = cpu_percent
        absurd = absurdity(cpu_percent, freq_ratio)
        if absurd:
            self._absurd_s, self._absurdity = now_s, absurd
        elif not isnan(cpu_percent):
            self._sane_s = now_s

    def hear_profile(self, regime_name: str, now_s: float) -> None:
        """Takes a `LoadProfile`."""
        self._hear(now_s)
        self.regime_name = regime_name

    def compare(self, unexplained: float, now_s: float) -> None:
        """Takes the observed slowdown over the one that the load explains."""
        self._unexplained = unexplained
        too_slow = unexplained > CONTRADICTION and not self.cpu_percent >= SATURATED_PERCENT
        if not (too_slow or unexplained < 1 / CONTRADICTION):
            self._explained_s = now_s

    def is_lost(self, now_s: float) -> bool:
        """Whether a monitor was there and has gone silent."""
        return self._last_s > -inf and now_s - self._last_s > LOAD_TIMEOUT_S

    def is_absurd(self, now_s: float) -> bool:
        """Whether it has lately told what no machine does; its load is then not used."""
        return now_s - self._absurd_s <= LOAD_TIMEOUT_S

    def word(self, now_s: float) -> str:
        """`none`, `ok`, `lost` or `implausible`."""
        if self._last_s == -inf:
            return 'none'
        if self.is_lost(now_s):
            return 'lost'
        return 'implausible' if self.warning(now_s) else 'ok'

    def warning(self, now_s: float) -> str:
        """What is wrong with the load signal; empty if nothing is."""
        if self.is_lost(now_s):
            return 'the monitor has gone silent: its load regime is not used'
        if self._last_s == -inf:
            return ''
        if self.is_absurd(now_s):
            return f'the monitor tells {self._absurdity}: its load is not used'
        if now_s - max(self._first_s, self._sane_s) > LOAD_TIMEOUT_S:
            return 'the monitor tells no cpu_percent: only what stages take is used'
        if now_s - max(self._first_s, self._explained_s) > CONTRADICTED_S:
            return (
                f'stages take {self._unexplained:.2g} times what the monitor explains: see '
                'whether it watches this machine'
            )
        return ''

    def _hear(self, now_s: float) -> None:
        if self.is_lost(now_s):
            # Another one may have taken its place.
            self._first_s = inf
        self._first_s = min(self._first_s, now_s)
        self._last_s = now_s
