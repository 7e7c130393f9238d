"""Small modules that stand for a user's trained network."""

import torch
from torch import Tensor, nn


def conv(given: int, width: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(given, width, 3, stride, 1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
    )


def plain() -> nn.Sequential:
    """Convolutions, global pooling and a classifier; named 0 to 6."""
    torch.manual_seed(0)
    layers = (conv(3, 8), conv(8, 16, 2), conv(16, 24, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return settled(nn.Sequential(*layers, nn.Dropout(0.5), nn.Linear(24, 7)))


def deep() -> nn.Sequential:
    """Nine convolutions, so that there are many places to cut."""
    torch.manual_seed(0)
    layers = (conv(3, 8), *(conv(8, 8) for _ in range(8)), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return settled(nn.Sequential(*layers, nn.Linear(8, 7)))


class Residual(nn.Module):
    """A skip over `middle`, so that a cut behind it lets two tensors cross."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(3, 8, 2)
        self.before = conv(8, 8)
        self.middle = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8))
        self.act = nn.ReLU(inplace=True)
        self.last = conv(8, 16, 2)
        self.fc = nn.Linear(16, 7)

    def features(self, image: Tensor) -> Tensor:
        x = self.stem(image)
        y = self.middle(self.before(x))
        y += x
        return self.last(self.act(self.act(y)))

    def forward(self, image: Tensor) -> Tensor:
        return self.fc(self.features(image).mean((2, 3)))


def settled(module: nn.Module) -> nn.Module:
    """BatchNorm statistics that are not the identity; evaluation mode."""
    torch.manual_seed(0)
    with torch.no_grad():
        for _ in range(3):
            module.train()(torch.randn(8, 3, 32, 32))
    return module.eval()


def residual() -> Residual:
    torch.manual_seed(0)
    return settled(Residual())


def scaled_residual() -> tuple[nn.Module, list[float], list[float]]:
    return residual(), [127, 127, 127], [128, 128, 128]


class Spectrum(nn.Module):
    """Absolute values of a Fourier transform, for which ONNX has no operator at two axes."""

    def forward(self, maps: Tensor) -> Tensor:
        return torch.fft.fft2(maps).abs()


def spectral() -> nn.Sequential:
    torch.manual_seed(0)
    layers = (conv(3, 8), Spectrum(), conv(8, 16, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return settled(nn.Sequential(*layers, nn.Linear(16, 7)))


def gray_residual() -> tuple[nn.Module, list[float], list[float]]:
    """Says one channel and reads three."""
    return residual(), [127], [128]


def constant_residual() -> tuple[nn.Module, list[float], list[float]]:
    return residual(), [127, 127, 127], [128, 0, 128]


def wordy_residual() -> tuple[nn.Module, str, str]:
    return residual(), 'mean', 'std'


def no_module() -> str:
    return 'not a module'
