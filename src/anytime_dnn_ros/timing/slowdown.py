"""How long the coming stages take now: reference times, a slowdown, and how far off it may be."""

from __future__ import annotations

from dataclasses import dataclass

from numpy.lib.stride_tricks import sliding_window_view

from anytime_dnn_ros.timing.load import LoadSignal, predicted_slowdown
from anytime_dnn_ros.timing.margin import MOST_PER_CASE, AdaptiveBound
from anytime_dnn_ros.timing.reference import ReferenceTimes

# An observation moves the estimate by this share, or by more where it is so much slower than
# expected: a load that comes is 90 % learnt in five stages, one that goes in ten.
SMOOTHING, SURPRISE, SURPRISED_SMOOTHING = 0.2, 1.2, 0.5
# Live frames find colder caches than the measurement, the first stage most of all: what one stage
# always takes more than the others is learnt by this share.
SHAPE_SMOOTHING = 0.05
# What the monitor calls a load that it cannot tell, and what stands for no monitor at all.
UNKNOWN_REGIME, NO_MONITOR = 0, -1


@dataclass
class _Regime:
    """What one load regime has taught.

    Attributes:
        factor: Observed over reference time over what the load predicts.
        margins: For paths of 1, 2, ... stages: observed over expected time of the whole path.
    """

    factor: float
    margins: list[AdaptiveBound]

    def copy(self) -> _Regime:
        return _Regime(self.factor, [margin.copy() for margin in self.margins])


class StageTimes:
    """Expected time of stages and paths of stages, with bounds, one memory per load regime.

    The slowdown is what the load predicts times a factor that is learnt: a load that the monitor
    tells of is answered before a stage has suffered from it, and a prediction that is always
    wrong by as much is put right. The margin of a path is counted on whole paths: stages that
    follow each other do not all meet their worst case at once.

    Args:
        reference: Stage times on this machine.
        threads: Of the engine.
    """

    def __init__(self, reference: ReferenceTimes, threads: int = 1) -> None:
        self._reference_s = [float(t) for t in reference.median_s]
        self._threads = threads
        # Of each stage, beside the slowdown that all have in common; 1 on average over the ladder.
        self._shape = [1.0] * len(self._reference_s)
        self._predicted = 1.0
        self._current = _Regime(1.0, _reference_margins(reference))
        self._regimes = {NO_MONITOR: self._current}
        # Times of this frame's stages so far, and what was expected of each as it began.
        self._observed_s: list[float] = []
        self._expected_s: list[float] = []

    @property
    def slowdown(self) -> float:
        """Expected over reference time, now; 1 is the machine as it was when it was measured."""
        return self._predicted * self._current.factor

    @property
    def unexplained(self) -> float:
        """The slowdown over what the load predicts; far from 1 the load says nothing."""
        return self._current.factor

    def observe_load(self, load: LoadSignal | None) -> None:
        """Takes the monitor's word, or its silence, upon which nothing is expected to change."""
        alone = self._regimes[NO_MONITOR]
        if load is None:
            if self._current is not alone:
                # The factor takes over what the monitor explained until now.
                alone = self._regimes[NO_MONITOR] = self._current.copy()
                alone.factor = self.slowdown
            self._current, self._predicted = alone, 1.0
            return
        predicted = predicted_slowdown(load, self._threads)
        if load.regime not in self._regimes:
            new = self._regimes[load.regime] = self._current.copy()
            if self._current is alone:
                # Until now the factor had to explain the load too.
                new.factor = self.slowdown / predicted
        self._current, self._predicted = self._regimes[load.regime], predicted

    def begin_frame(self) -> None:
        """The next stage observed is the first of a frame."""
        self._observed_s.clear()
        self._expected_s.clear()

    def expected_s(self, first: int, last: int) -> float:
        """Expected time of the stages first..last (0-based, both included), seconds."""
        path = range(first, last + 1)
        return self.slowdown * sum(self._reference_s[k] * self._shape[k] for k in path)

    def margin(self, length: int, target: float) -> float:
        """The factor on the expected time of so many stages, exceeded in a share `target`."""
        return max(1.0, self._current.margins[length - 1].bound(target))

    def share_fitting(self, first: int, last: int, time_s: float) -> float:
        """How likely the stages first..last take at most `time_s`, 0..1."""
        margin = self._current.margins[last - first]
        return margin.share_within(time_s / self.expected_s(first, last))

    def chance_beyond(self, first: int, last: int, time_s: float) -> float:
        """How likely the stages first..last take more than `time_s`; never 0."""
        margin = self._current.margins[last - first]
        return margin.chance_beyond(time_s / self.expected_s(first, last))

    def observe(self, stage: int, took_s: float, target: float) -> None:
        """Takes the time of a stage that has finished.

        Args:
            stage: 0-based; the stages of a frame come in order.
            took_s: Seconds.
            target: Share of cases in which a bound may be exceeded.
        """
        self._observed_s.append(took_s)
        self._expected_s.append(self.expected_s(stage, stage))
        regime = self._current
        for length in range(1, len(self._observed_s) + 1):
            ratio = sum(self._observed_s[-length:]) / sum(self._expected_s[-length:])
            regime.margins[length - 1].observe(ratio, target)
        self._learn(took_s / self._expected_s[-1])
        self._learn_shape(stage)

    def observe_cut(self, stage: int, took_s: float, target: float) -> None:
        """Takes a lower bound: a stage that was cut had run this long already."""
        if took_s > self.expected_s(stage, stage):
            self.observe(stage, took_s, target)

    def _learn(self, ratio: float) -> None:
        share = SURPRISED_SMOOTHING if ratio > SURPRISE else SMOOTHING
        # A single stage that a stopped process or a page fault held up is no load.
        self._current.factor *= 1 + share * (min(ratio, MOST_PER_CASE) - 1)

    def _learn_shape(self, stage: int) -> None:
        """Compares the last stage with those before it in the same frame, under the same load."""
        usual_s = [self._reference_s[k] * self._shape[k] for k in range(stage + 1)]
        before_s = sum(self._observed_s[:-1])
        if not before_s or len(self._observed_s) != stage + 1:
            return
        slower = self._observed_s[-1] / usual_s[-1] / (before_s / sum(usual_s[:-1]))
        self._shape[stage] *= 1 + SHAPE_SMOOTHING * (min(slower, MOST_PER_CASE) - 1)
        whole_s = sum(s * t for s, t in zip(self._shape, self._reference_s, strict=True))
        scale = sum(self._reference_s) / whole_s
        self._shape = [s * scale for s in self._shape]


def _reference_margins(reference: ReferenceTimes) -> list[AdaptiveBound]:
    """The machine's noise as it was measured, for paths of every length."""
    samples_s, median_s = reference.samples_s, reference.median_s
    margins = []
    for length in range(1, len(median_s) + 1):
        paths_s = sliding_window_view(samples_s, length, axis=1).sum(axis=2)
        ratios = paths_s / sliding_window_view(median_s, length).sum(axis=1)
        # Round after round: a window that holds only the last ones holds every stage of them.
        margins.append(AdaptiveBound(ratios.ravel().tolist()))
    return margins
