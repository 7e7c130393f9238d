"""Builds of stages by NVIDIA's own parser and builder, which need no GPU, with their times."""

import time
from collections import defaultdict
from statistics import median

from anytime_dnn_ros.engines.stage_engines import stage_engine, target_device
from anytime_dnn_ros.engines.tensorrt_library import find_tensorrt
from anytime_dnn_ros.ladder.bundle import Bundle

# The oldest GPUs that TensorRT for RTX serves, and a later kind.
TARGETS = ('7.5', '8.6')


class Builds:
    """Keeps how long each build took."""

    def __init__(self) -> None:
        self.library = find_tensorrt()
        self._times_s: dict[str, list[float]] = defaultdict(list)

    def build(self, bundle: Bundle, index: int, target: str, precision: str = 'auto') -> bytes:
        """The engine of one stage, built anew."""
        begin = time.monotonic()
        engine = stage_engine(
            bundle,
            index,
            self.library,
            target_device(target),
            precision=precision,
            folder=None,
            say=print,
        )
        self._times_s[bundle.manifest.name].append(time.monotonic() - begin)
        return engine.plan

    def __str__(self) -> str:
        lines = [
            f'  {name}: {len(times_s)} builds, median {median(times_s):.2f} s'
            for name, times_s in sorted(self._times_s.items())
        ]
        every = [s for times_s in self._times_s.values() for s in times_s]
        head = (
            f'{self.library.flavour} {self.library.version} built {len(every)} engines '
            f'for compute capability {" and ".join(TARGETS)}: median {median(every):.2f} s a stage'
        )
        return '\n'.join([head, *lines])

    def __len__(self) -> int:
        return len(self._times_s)
