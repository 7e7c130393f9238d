"""Pressure stall information: how long tasks wait for a core or for memory.

Linux 4.20 and later, `/proc/pressure/{cpu,memory}`; see the kernel's
Documentation/accounting/psi.rst. `some avg10` is the percentage of the last ten seconds in
which at least one task waited. Readable by everyone, and absent where the kernel has it off.
"""

from functools import partial
from pathlib import Path

from anytime_dnn_ros.monitor.probe import Probe, Reading

# The kernel renews the averages every two seconds.
_EVERY_S = 1.0
_FIELDS = {'cpu': 'psi_cpu_some10', 'memory': 'psi_memory_some10'}


def psi_probes(root: Path = Path('/')) -> list[Probe]:
    """Return one probe per pressure file that this kernel lets us read."""
    probes = []
    for resource, field in _FIELDS.items():
        read = partial(_read, root / 'proc/pressure' / resource, field)
        try:
            read(0.0)
        except (OSError, ValueError):
            # Off in this kernel (psi=0: the file is there, but reading it fails).
            continue
        probes.append(Probe('psi', f'{resource} pressure', read, _EVERY_S))
    return probes


def _read(path: Path, field: str, _now_s: float) -> Reading:
    # some avg10=0.12 avg60=0.05 avg300=0.01 total=123456
    for line in path.read_text(encoding='ascii').splitlines():
        kind, *averages = line.split()
        if kind == 'some':
            return {field: float(dict(a.split('=') for a in averages)['avg10'])}
    raise ValueError(f'{path} has no line "some avg10=...".')
