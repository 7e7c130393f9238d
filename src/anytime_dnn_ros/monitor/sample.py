"""What is known of the machine's load at one moment; messages and windows follow this list."""

import math
from dataclasses import dataclass, fields

NAN = math.nan


@dataclass(frozen=True)
class LoadSample:
    """The machine's load at one moment; NaN where the machine cannot tell.

    Attributes:
        cpu_percent: All cores together, 0..100.
        cpu_percent_per_core: Each core, 0..100; empty where unknown.
        cpu_freq_ratio: Present over maximum clock, mean over the cores, 0..1.
        load_1m: Load average over one minute, runnable tasks.
        psi_cpu_some10: Percent of the last 10 s in which some task waited for a core.
        psi_memory_some10: Percent of the last 10 s in which some task waited for memory.
        memory_percent: Memory in use, 0..100.
        swap_percent: Swap in use, 0..100.
        gpu_percent: GPU busy, 0..100.
        gpu_memory_percent: GPU memory in use, 0..100.
        gpu_freq_ratio: Present over maximum GPU clock, 0..1.
        temperature_c: Hottest sensor, degrees Celsius.
        power_w: Board or GPU power, watts.
        throttled: 1 where heat or power hold the clocks down, 0 where not.
        source: Which probes spoke, e.g. `psutil+psi`.
    """

    cpu_percent: float = NAN
    cpu_percent_per_core: tuple[float, ...] = ()
    cpu_freq_ratio: float = NAN
    load_1m: float = NAN
    psi_cpu_some10: float = NAN
    psi_memory_some10: float = NAN
    memory_percent: float = NAN
    swap_percent: float = NAN
    gpu_percent: float = NAN
    gpu_memory_percent: float = NAN
    gpu_freq_ratio: float = NAN
    temperature_c: float = NAN
    power_w: float = NAN
    throttled: float = NAN
    source: str = ''


QUANTITIES: tuple[str, ...] = tuple(f.name for f in fields(LoadSample) if f.type is float)
"""Names of the single numbers of a LoadSample, in order."""
