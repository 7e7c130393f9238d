"""Which TensorRT and which GPU this machine has, found without constructing anything of either.

TensorRT itself comes first, then TensorRT for RTX, which has the same interface and comes from
PyPI for desktop GPUs. A TensorRT runtime constructed on a machine without a GPU can end the
process, so the CUDA driver is asked for the GPU.
"""

from __future__ import annotations

import ctypes
import importlib
import platform
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from anytime_dnn_ros.errors import MissingDependencyError

Flavour = Literal['tensorrt', 'tensorrt_rtx']
# Module names, best first. RTX's bindings are also usable without the package that renames them.
MODULES: tuple[tuple[str, Flavour], ...] = (
    ('tensorrt', 'tensorrt'),
    ('tensorrt_rtx', 'tensorrt_rtx'),
    ('tensorrt_rtx_bindings', 'tensorrt_rtx'),
)
# JetPack 6 brings it. JetPack 5 has 8.5, for Python 3.8 alone, which is too old for this package.
OLDEST = (8, 6)
TEGRA_RELEASE = Path('/etc/nv_tegra_release')
CUDA_DRIVER = 'libcuda.so.1'
# CUdevice_attribute of the driver's cuda.h.
COMPUTE_CAPABILITY_MAJOR, COMPUTE_CAPABILITY_MINOR = 75, 76


@dataclass(frozen=True)
class TensorRT:
    """An imported TensorRT.

    Attributes:
        module: The Python module; every TensorRT name is reached through it.
        flavour: Engines of one flavour are nothing to the other.
        version: As the library says it, e.g. `10.3.0`.
    """

    module: Any
    flavour: Flavour
    version: str

    @property
    def major(self) -> int:
        """The first number of the version."""
        return _numbers(self.version)[0]

    @property
    def has_precision_flags(self) -> bool:
        """Whether `BuilderFlag` has FP16 and INT8, for networks without types of their own."""
        return self.flavour == 'tensorrt' and self.major < 11

    @property
    def strongly_typed(self) -> bool:
        """Whether the types in the ONNX file can decide the precision."""
        return self.flavour == 'tensorrt_rtx' or self.major >= 10

    @property
    def reports_progress(self) -> bool:
        """Whether a build can say how far it is."""
        return self.strongly_typed

    @property
    def builds_for_others(self) -> bool:
        """Whether it builds for a GPU that is not here."""
        return self.flavour == 'tensorrt_rtx'


@dataclass(frozen=True)
class Device:
    """A CUDA GPU.

    Attributes:
        name: As the driver says it.
        compute_capability: `major.minor`, e.g. `8.7` for Orin.
        index: The CUDA ordinal.
        memory_bytes: In all; on a Jetson it is the memory of the CPU too.
    """

    name: str
    compute_capability: str
    index: int
    memory_bytes: int


def find_tensorrt() -> TensorRT:
    """The best TensorRT that this Python can import.

    Raises:
        MissingDependencyError: There is none, or it is too old.
    """
    failures = []
    for name, flavour in MODULES:
        try:
            module = importlib.import_module(name)
        # A library file that is not there or of another CUDA is an OSError.
        except (ImportError, OSError) as error:
            if not (isinstance(error, ModuleNotFoundError) and error.name == name):
                failures.append(f'{name}: {error}')
            continue
        version = getattr(module, '__version__', '')
        if not version:
            failures.append(f'{name}: only the types of it, or a folder of that name')
            continue
        if flavour == 'tensorrt' and _numbers(version) < OLDEST:
            raise MissingDependencyError(
                f'TensorRT {version} is too old: {OLDEST[0]}.{OLDEST[1]} or newer is needed, '
                'which JetPack 6 and later bring'
            )
        return TensorRT(module, flavour, version)
    why = '; '.join(failures) or f'no module {", ".join(name for name, _ in MODULES)}'
    raise MissingDependencyError(f'this Python has no TensorRT ({why}). {_mend()}')


def unserved(library: TensorRT, compute_capability: str) -> str:
    """Why a library serves no GPU of a compute capability; empty if it does.

    TensorRT itself tells when it builds; TensorRT for RTX has a list of those it serves.
    """
    if not library.builds_for_others:
        return ''
    capabilities = library.module.ComputeCapability.__members__
    if f'SM{compute_capability.replace(".", "")}' in capabilities:
        return ''
    known = [re.sub(r'SM(\d+)(\d)', r'\1.\2', n) for n in capabilities if n.startswith('SM')]
    return (
        f'TensorRT for RTX {library.version} does not serve GPUs of compute capability '
        f'{compute_capability}, only {", ".join(known)}; use TensorRT itself there, or engine: '
        'onnxruntime'
    )


def find_device(index: int = 0) -> Device | None:
    """The GPU of a CUDA ordinal; None if there is no driver or no such GPU.

    No context is made on it.
    """
    try:
        driver = ctypes.CDLL(CUDA_DRIVER)
    except OSError:
        return None
    handle, count = ctypes.c_int(), ctypes.c_int()
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)) or index >= count.value:
        return None
    if driver.cuDeviceGet(ctypes.byref(handle), index):
        return None
    name = ctypes.create_string_buffer(256)
    memory = ctypes.c_size_t()
    numbers = [ctypes.c_int(), ctypes.c_int()]
    failed = driver.cuDeviceGetName(name, len(name), handle) or driver.cuDeviceTotalMem_v2(
        ctypes.byref(memory), handle
    )
    for number, attribute in zip(
        numbers, (COMPUTE_CAPABILITY_MAJOR, COMPUTE_CAPABILITY_MINOR), strict=True
    ):
        failed = failed or driver.cuDeviceGetAttribute(ctypes.byref(number), attribute, handle)
    if failed:
        return None
    return Device(
        name=name.value.decode(errors='replace'),
        compute_capability='.'.join(str(number.value) for number in numbers),
        index=index,
        memory_bytes=memory.value,
    )


def _mend() -> str:
    if TEGRA_RELEASE.exists() or platform.machine() == 'aarch64':
        return (
            'On a Jetson it comes with JetPack: sudo apt install python3-libnvinfer, and make '
            'the venv with --system-site-packages and the Python of the system'
        )
    return (
        'On a PC with an RTX GPU: pip install --no-deps -r requirements/tensorrt.txt; '
        'else install TensorRT from NVIDIA. engine: onnxruntime needs neither'
    )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r'\d+', version)[:2])
