"""A TensorRT whose builder has just the names recorded of one version, and builds nothing."""

import json
from enum import IntEnum
from pathlib import Path
from types import ModuleType
from unittest.mock import Mock

from anytime_dnn_ros.engines.tensorrt_library import TensorRT

TABLE = json.loads((Path(__file__).parent / 'tensorrt_names.json').read_text('utf-8'))
ENUMS = (
    'BuilderFlag',
    'NetworkDefinitionCreationFlag',
    'ProfilingVerbosity',
    'MemoryPoolType',
    'DeviceType',
)
PLAN = b'a serialised engine'


class RecordedBuilder:
    """What was asked of it lies in the mocks; a name that the version has not is an error.

    Attributes:
        library: As `find_tensorrt` would give it.
    """

    def __init__(self, version: str) -> None:
        self._version = version
        self.config = self._mock('IBuilderConfig')
        self.config.set_timing_cache.return_value = True
        self.config.get_timing_cache.return_value.serialize.return_value = b'kernel timings'
        self.builder = self._mock('Builder')
        self.builder.create_builder_config.return_value = self.config
        self.builder.build_serialized_network.return_value = PLAN
        self.builder.num_DLA_cores = 2
        self.parser = self._mock('OnnxParser')
        self.parser.parse.return_value = True
        self.module = ModuleType('recorded_tensorrt')
        self.module.__dict__.update(
            ILogger=type('ILogger', (), {name: name for name in self._members('ILogger')}),
            Builder=self._builder,
            OnnxParser=lambda _network, _log: self.parser,
            **{n: IntEnum(n, self._members(n), start=0) for n in ENUMS},
        )
        if 'IProgressMonitor' in TABLE and version in TABLE['IProgressMonitor']:
            self.module.IProgressMonitor = type('IProgressMonitor', (), {})
        self.library = TensorRT(self.module, 'tensorrt', version)

    @property
    def network_flags(self) -> list[str]:
        """Names of the flags that the network was created with."""
        bits = self.builder.create_network.call_args.args[0]
        return [f.name for f in self.module.NetworkDefinitionCreationFlag if bits >> f & 1]

    @property
    def builder_flags(self) -> list[str]:
        """Names of the flags that were set, in order."""
        return [call.args[0].name for call in self.config.set_flag.call_args_list]

    def _builder(self, log):
        self.log = log
        return self.builder

    def _members(self, name: str) -> list[str]:
        return [
            member
            for owner, _, member in (n.partition('.') for n in TABLE)
            if owner == name
            and member
            and '(' not in member
            and self._version in TABLE[f'{name}.{member}']
        ]

    def _mock(self, name: str) -> Mock:
        return Mock(spec_set=self._members(name))
