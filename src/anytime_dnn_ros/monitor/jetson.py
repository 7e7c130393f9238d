"""What a Jetson tells of its GPU, heat and power through sysfs: no root, no package.

Layouts, as in NVIDIA's Jetson Linux Developer Guide, "Platform Power and Performance" (r35, r36),
and the drivers' own attribute names:

- GPU: `/sys/class/devfreq/<id>.{gpu,ga10b,gv11b,gp10b}/{cur_freq,max_freq,device/load}`; load in
  per mille, also at `/sys/devices/platform/gpu.0/load` (`/sys/devices/gpu.0/load` on r32).
  Thor: `/sys/class/devfreq/gpu-gpc-0`, whose load NVML tells where sysfs does not.
- Heat: `/sys/class/thermal/thermal_zone*/{type,temp}`, milli-degrees; a zone of a block that is
  switched off answers EAGAIN. `PMIC-Die` is a constant 100 degrees on TX2 and Nano.
- Throttling: `cooling_device*/{type,cur_state}` with the types `{cpu,gpu,soc0,…}-throttle-alert`,
  and the over-current counters `oc*_event_cnt` of the hwmon chip `soctherm_oc`.
- Power: hwmon chips `ina3221`: `in<n>_label`, `in<n>_input` in mV, `curr<n>_input` in mA. The
  rail `VDD_IN` (or `POM_5V_IN`) is the whole module; where there is none, the rails add up to
  it. Thor: hwmon chip `ina238`, `power1_input` in microwatts, is the whole module.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TypeAlias

from anytime_dnn_ros.monitor.probe import Probe, Reading, Report, found, read_number
from anytime_dnn_ros.monitor.throttling import Rising

_SLOW_S = 1.0
_GPU_SUFFIXES = ('.gpu', '.ga10b', '.gv11b', '.gp10b')
_THOR_GPU = 'gpu-gpc-0'
_WHOLE_MODULE = ('VDD_IN', 'POM_5V_IN')
# A scale to watts, and the files whose numbers are multiplied.
_Rail: TypeAlias = tuple[float, tuple[Path, ...]]


def is_jetson(root: Path = Path('/')) -> bool:
    """Tell whether this machine is a Jetson, also from inside a container."""
    if (root / 'etc/nv_tegra_release').exists():
        return True
    tree = root / 'proc/device-tree/compatible'
    return tree.exists() and b'nvidia,tegra' in tree.read_bytes()


def jetson_probes(report: Report, root: Path = Path('/')) -> list[Probe]:
    """Return the probes for what this Jetson's sysfs has; other boards have other parts.

    Args:
        report: Told of a part that is here and cannot be read.
        root: Root of the file system, for trials.
    """
    parts = {
        'GPU': _gpu_probes,
        'temperature': _temperature_probes,
        'power': _power_probes,
        'throttling': _throttling_probes,
    }
    sys = root / 'sys'
    return [p for name, part in parts.items() for p in found(name, partial(part, sys), report)]


def _gpu_probes(sys: Path) -> list[Probe]:
    probes = []
    gpu = _gpu(sys)
    loads = [gpu / 'device/load'] if gpu else []
    loads += [sys / 'devices/platform/gpu.0/load', sys / 'devices/gpu.0/load']
    load = next((path for path in loads if path.exists()), None)
    if load:
        probes.append(Probe('jetson', 'GPU load', partial(_gpu_load, load)))
    if gpu and (gpu / 'max_freq').exists():
        probes.append(Probe('jetson', 'GPU clock', partial(_gpu_clock, gpu)))
    return probes


def _temperature_probes(sys: Path) -> list[Probe]:
    zones = [zone / 'temp' for zone in _of_type(sys / 'class/thermal', 'thermal_zone*', '')]
    if not zones:
        return []
    return [Probe('jetson', 'temperature', partial(_temperature, zones), _SLOW_S)]


def _power_probes(sys: Path) -> list[Probe]:
    rails = _rails(sys)
    return [Probe('jetson', 'power', partial(_power, rails))] if rails else []


def _throttling_probes(sys: Path) -> list[Probe]:
    alerts = list(_of_type(sys / 'class/thermal', 'cooling_device*', '-throttle-alert'))
    counters = [c for chip in _chips(sys, 'soctherm_oc') for c in chip.glob('oc*_event_cnt')]
    if not alerts and not counters:
        return []
    states = [alert / 'cur_state' for alert in alerts]
    read = partial(_throttled, states, Rising(sorted(counters)))
    return [Probe('jetson', 'throttling', read, _SLOW_S)]


def _gpu(sys: Path) -> Path | None:
    devices = sorted((sys / 'class/devfreq').glob('*'))
    found = (d for d in devices if d.name.endswith(_GPU_SUFFIXES) or d.name == _THOR_GPU)
    return next(found, None)


def _of_type(folder: Path, pattern: str, ending: str) -> Iterator[Path]:
    for device in sorted(folder.glob(pattern)):
        kind = (device / 'type').read_text(encoding='ascii').strip()
        if kind.endswith(ending) and not kind.startswith('PMIC'):
            yield device


def _chips(sys: Path, name: str) -> Iterator[Path]:
    for label in sorted((sys / 'class/hwmon').glob('hwmon*/name')):
        if label.read_text(encoding='ascii').strip() == name:
            yield label.parent


def _rails(sys: Path) -> list[_Rail]:
    """Return the rails that make up the module's power."""
    module: list[_Rail] = [(1e-6, (chip / 'power1_input',)) for chip in _chips(sys, 'ina238')]
    rails: dict[str, _Rail] = {}
    for chip in _chips(sys, 'ina3221'):
        for label in sorted(chip.glob('in*_label')):
            name = label.read_text(encoding='ascii').strip()
            channel = label.name.removeprefix('in').removesuffix('_label')
            current = chip / f'curr{channel}_input'
            # NC: not connected. The channel of the sum of shunt voltages is no rail.
            if name != 'NC' and 'shunt' not in name and current.exists():
                rails[name] = (1e-6, (chip / f'in{channel}_input', current))
    module += [rails[name] for name in _WHOLE_MODULE if name in rails]
    return module[:1] or list(rails.values())


def _gpu_load(path: Path, _now_s: float) -> Reading:
    return {'gpu_percent': read_number(path) / 10.0}


def _gpu_clock(gpu: Path, _now_s: float) -> Reading:
    return {'gpu_freq_ratio': read_number(gpu / 'cur_freq') / read_number(gpu / 'max_freq')}


def _temperature(zones: list[Path], _now_s: float) -> Reading:
    return {'temperature_c': max(t for zone in zones for t in _zone_c(zone))}


def _zone_c(zone: Path) -> tuple[float, ...]:
    try:
        return (read_number(zone) / 1000.0,)
    except OSError:
        # A block that is switched off (EAGAIN) is not the hottest one.
        return ()


def _power(rails: list[_Rail], _now_s: float) -> Reading:
    power_w = 0.0
    for scale, factors in rails:
        rail_w = scale
        for path in factors:
            rail_w *= read_number(path)
        power_w += rail_w
    return {'power_w': power_w}


def _throttled(states: list[Path], over_current: Rising, _now_s: float) -> Reading:
    # Both are looked at each time, so that the counters never lag behind.
    rose = over_current()
    return {'throttled': float(rose or any(read_number(state) > 0 for state in states))}
