"""A machine with a fake GPU and a fake TensorRT, as the factory finds them."""

from anytime_dnn_ros.engines import factory, stage_engines, tensorrt_loader
from anytime_dnn_ros.engines.tensorrt_library import Device, TensorRT
from engines.fake_cuda import FakeCuda
from engines.fake_tensorrt import FakeTensorRT, fake_plan


class FakeMachine:
    """Replaces what finds and builds, until the monkeypatch is undone.

    Attributes:
        cuda: Its GPU.
        library: Its TensorRT.
        built: Names of the stages built so far.
        change: Applied to each ONNX model that is built.
    """

    def __init__(self, monkeypatch):
        self.cuda = FakeCuda()
        self.built = []
        self.change = lambda model: model
        gpu = Device('Fake Orin', '8.7', 0, self.cuda.device_bytes)
        self.library = TensorRT(FakeTensorRT(self.cuda), 'tensorrt', FakeTensorRT.__version__)
        for module in (factory, tensorrt_loader):
            monkeypatch.setattr(module, 'find_device', lambda: gpu)
            monkeypatch.setattr(module, 'find_tensorrt', lambda: self.library)
        monkeypatch.setattr(tensorrt_loader, 'load_runtime', lambda: self.cuda)
        monkeypatch.setattr(stage_engines, 'build_engine', self.build)

    def build(self, library, model, options, *, name, progress, **rest):
        if progress is not None:
            progress(0.5)
        self.built.append(name)
        return fake_plan(self.change(model))
