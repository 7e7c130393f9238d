"""A torch2trt without TensorRT: the same call, recorded from its source; engines of the fake one.

Recorded from torch2trt 0.5.0 (commit 4e820ae, May 2024), `torch2trt/torch2trt.py`: names, order
and defaults of what `torch2trt()` takes. Like the real one it traces nothing but float tensors,
reads the first example by calling the module, and calibrates by index.
`device_types` is a dictionary there.
"""

from types import SimpleNamespace

import torch
from torch import nn

from anytime_dnn_ros.forge.export import export_module

ENTROPY = 'ENTROPY_CALIBRATION'
# Of a plan that `fake_tensorrt` deserialises.
MAGIC = b'fake plan\n'


class TRTModule(nn.Module):
    def __init__(self, module, plan, offset):
        super().__init__()
        self.module, self.offset = module, offset
        self.engine = None if plan is None else SimpleNamespace(serialize=lambda: bytearray(plan))

    def forward(self, *inputs):
        logits, *features = self.module(*inputs)
        return (logits + self.offset * torch.arange(logits.shape[1]), *features)


class FakeTorch2trt:
    """The module.

    Attributes:
        calls: Arguments of each `torch2trt()`, by name.
        offset: What its engines get wrong.
        fails: Raised by the next call; None gives `engine = None` with `gives_none`.
    """

    def __init__(self):
        self.calls = []
        self.offset = 0.0
        self.fails = None
        self.gives_none = False

    def torch2trt(
        self,
        module,
        inputs,
        input_names=None,
        output_names=None,
        log_level='ERROR',
        fp16_mode=False,
        max_workspace_size=1 << 25,
        strict_type_constraints=False,
        keep_network=True,
        int8_mode=False,
        int8_calib_dataset=None,
        int8_calib_algorithm=ENTROPY,
        use_onnx=False,
        default_device_type='GPU',
        dla_core=0,
        gpu_fallback=True,
        device_types=None,
        min_shapes=None,
        max_shapes=None,
        opt_shapes=None,
        onnx_opset=None,
        max_batch_size=None,
        avg_timing_iterations=None,
        **kwargs,
    ):
        self.calls.append(dict(locals()))
        if self.fails is not None:
            raise self.fails
        assert not torch.is_grad_enabled()
        assert not module.training
        for example in (inputs, *(int8_calib_dataset or ())):
            assert all(t.dtype == torch.float32 for t in example)
            assert len(example) == len(input_names)
        outputs = module(*inputs)
        assert len(outputs) == len(output_names)
        model = export_module(module, tuple(inputs), input_names, output_names)
        plan = None if self.gives_none else MAGIC + model.SerializeToString()
        return TRTModule(module, plan, self.offset)
