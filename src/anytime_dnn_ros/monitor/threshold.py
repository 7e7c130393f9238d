"""Is a quantity over its threshold, and has it been so for long enough to be told?"""


class Threshold:
    """A threshold with hysteresis and debounce.

    A value at or above `threshold` is over it, and stays so until it falls by `hysteresis`;
    a change is told once it has held for `debounce_s`. Where the value is not known (NaN), it
    is not over.
    """

    def __init__(self, threshold: float, hysteresis: float, debounce_s: float) -> None:
        self._threshold = threshold
        self._hysteresis = hysteresis
        self._debounce_s = debounce_s
        self._now_over = False
        self._since_s = -float('inf')
        self.over = False

    def update(self, time_s: float, value: float) -> bool:
        """Take in a value of the quantity at a monotonic time and return the settled answer."""
        level = self._threshold - (self._hysteresis if self._now_over else 0.0)
        now_over = value >= level
        if now_over != self._now_over:
            self._now_over, self._since_s = now_over, time_s
        if time_s - self._since_s >= self._debounce_s:
            self.over = self._now_over
        return self.over
