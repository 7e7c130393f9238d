"""What NVIDIA's management library tells of the first discrete GPU (optional: nvidia-ml-py)."""

from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any

from anytime_dnn_ros.errors import ConfigurationError, MissingDependencyError
from anytime_dnn_ros.monitor.probe import Probe, Reading, Report, found


def nvml_probes(report: Report) -> list[Probe]:
    """Return the probes for what the first GPU supports; on a Tegra that is little.

    Args:
        report: Told of what fails in another way than NVML's own "not supported".

    Raises:
        MissingDependencyError: nvidia-ml-py is not installed.
        ConfigurationError: There is no NVIDIA driver or no GPU.
    """
    try:
        import pynvml as nvml  # noqa: PLC0415  (optional: only who asks for it needs it)
    except ImportError as error:
        raise MissingDependencyError(
            'source = nvml needs the package nvidia-ml-py: pip install nvidia-ml-py'
        ) from error
    try:
        nvml.nvmlInit()
        gpu = nvml.nvmlDeviceGetHandleByIndex(0)
    except nvml.NVMLError as error:
        raise ConfigurationError(
            f'parameter source = nvml: NVML finds no GPU ({error}); install the NVIDIA driver '
            'or set source to auto.'
        ) from error
    return [
        probe
        for name, read in _readers(nvml, gpu).items()
        for probe in found(name, partial(_supported, nvml, name, read), report)
    ]


def _supported(nvml: ModuleType, name: str, read: Callable[[float], Reading]) -> list[Probe]:
    try:
        read(0.0)
    except nvml.NVMLError:
        # "Not supported" is how this GPU says that it has no such sensor.
        return []
    return [Probe('nvml', name, read)]


def _readers(nvml: ModuleType, gpu: Any) -> dict[str, Callable[[float], Reading]]:
    def load(_now_s: float) -> Reading:
        return {'gpu_percent': float(nvml.nvmlDeviceGetUtilizationRates(gpu).gpu)}

    def memory(_now_s: float) -> Reading:
        memory = nvml.nvmlDeviceGetMemoryInfo(gpu)
        return {'gpu_memory_percent': 100.0 * memory.used / memory.total}

    def clock(_now_s: float) -> Reading:
        present = nvml.nvmlDeviceGetClockInfo(gpu, nvml.NVML_CLOCK_GRAPHICS)
        highest = nvml.nvmlDeviceGetMaxClockInfo(gpu, nvml.NVML_CLOCK_GRAPHICS)
        return {'gpu_freq_ratio': present / highest}

    def temperature(_now_s: float) -> Reading:
        return {
            'temperature_c': float(nvml.nvmlDeviceGetTemperature(gpu, nvml.NVML_TEMPERATURE_GPU))
        }

    def power(_now_s: float) -> Reading:
        return {'power_w': nvml.nvmlDeviceGetPowerUsage(gpu) / 1000.0}

    def throttled(_now_s: float) -> Reading:
        reasons = nvml.nvmlDeviceGetCurrentClocksThrottleReasons(gpu)
        # Here and not once: packages of the same name lack some of these.
        throttling = (
            nvml.nvmlClocksThrottleReasonHwSlowdown
            | nvml.nvmlClocksThrottleReasonHwThermalSlowdown
            | nvml.nvmlClocksThrottleReasonHwPowerBrakeSlowdown
            | nvml.nvmlClocksThrottleReasonSwThermalSlowdown
            | nvml.nvmlClocksThrottleReasonSwPowerCap
        )
        return {'throttled': float(bool(reasons & throttling))}

    return {
        'GPU load': load,
        'GPU memory': memory,
        'GPU clock': clock,
        'GPU temperature': temperature,
        'GPU power': power,
        'GPU throttling': throttled,
    }
