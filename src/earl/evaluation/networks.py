"""The two published networks that LPIPS and FID look through, as far as those two need them.

The libraries that have them whole (torchvision, and what is built on it) cannot be imported beside
a CPU build of torch: torchvision's wheel is linked against CUDA. So the layers are written here, a
few lines each; their weights are the published files, under the names that these have.

Sources: AlexNet as torchvision names it, with LPIPS' last layers (Zhang et al., arXiv 1801.03924,
version 0.1); Inception of the TensorFlow FID, up to its first pooling, as torch-fidelity names it.
"""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from earl.errors import MissingExtraError

LEAST_SIDE = 31  # px: below that AlexNet's second pooling has nothing to pool
_SHIFT = (-0.030, -0.088, -0.188)  # of LPIPS' inputs, which are -1 to 1
_SCALE = (0.458, 0.448, 0.450)
_INCEPTION_SIDE = 299


class Lpips(nn.Module):
    """LPIPS through AlexNet.

    Args:
        features: "features.0.weight", … of AlexNet; other names are passed over.
        last: "lin0.model.1.weight", … of LPIPS' last layers, (1, channels, 1, 1) each.

    Raises:
        KeyError: a name is missing. RuntimeError: a shape is another.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, features: Mapping[str, Tensor], last: Mapping[str, Tensor]) -> None:
        super().__init__()
        pool = nn.MaxPool2d(3, stride=2)
        convolutions = {
            0: nn.Conv2d(3, 64, 11, stride=4, padding=2),
            3: nn.Conv2d(64, 192, 5, padding=2),
            6: nn.Conv2d(192, 384, 3, padding=1),
            8: nn.Conv2d(384, 256, 3, padding=1),
            10: nn.Conv2d(256, 256, 3, padding=1),
        }
        for place, layer in convolutions.items():
            layer.load_state_dict({part: features[f"features.{place}.{part}"] for part in ("weight", "bias")})
        self.stages = nn.ModuleList(
            nn.Sequential(*([pool] if place in (3, 6) else []), layer, nn.ReLU())
            for place, layer in convolutions.items()
        )
        self.last = nn.ModuleList(
            nn.Conv2d(layer.out_channels, 1, 1, bias=False) for layer in convolutions.values()
        )
        for number, weigh in enumerate(self.last):
            weigh.load_state_dict({"weight": last[f"lin{number}.model.1.weight"]})
        self.register_buffer("shift", torch.tensor(_SHIFT).view(1, 3, 1, 1))
        self.register_buffer("scale", torch.tensor(_SCALE).view(1, 3, 1, 1))
        self.eval().requires_grad_(False)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Distances (B,) of images (B, 3, H, W), 0 to 1, sides at least `LEAST_SIDE`."""
        a, b = ((2 * pictures - 1 - self.shift) / self.scale for pictures in (first, second))
        total = torch.zeros(len(first))
        for stage, weigh in zip(self.stages, self.last, strict=True):
            a, b = stage(a), stage(b)
            apart = (_unit(a) - _unit(b)).square()
            total = total + weigh(apart).mean((1, 2, 3))
        return total


class InceptionStem(nn.Module):
    """The first 64 features of FID's Inception.

    Args:
        weights: "Conv2d_1a_3x3.conv.weight", "Conv2d_1a_3x3.bn.weight", …; other names are passed over.

    Raises:
        KeyError: a name is missing. RuntimeError: a shape is another.
    """

    num_features = 64

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        convolutions = {
            "Conv2d_1a_3x3": nn.Conv2d(3, 32, 3, stride=2, bias=False),
            "Conv2d_2a_3x3": nn.Conv2d(32, 32, 3, bias=False),
            "Conv2d_2b_3x3": nn.Conv2d(32, 64, 3, padding=1, bias=False),
        }
        layers: list[nn.Module] = []
        for name, convolution in convolutions.items():
            norm = nn.BatchNorm2d(convolution.out_channels, eps=0.001, track_running_stats=True)
            convolution.load_state_dict({"weight": weights[f"{name}.conv.weight"]})
            parts = ("weight", "bias", "running_mean", "running_var")
            norm.load_state_dict({part: weights[f"{name}.bn.{part}"] for part in parts}, strict=False)
            layers += [convolution, norm, nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.MaxPool2d(3, stride=2), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.eval().requires_grad_(False)

    def train(self, mode: bool = True) -> InceptionStem:
        """Stays in evaluation mode, whatever the metric around it does."""
        return super().train(False)

    def forward(self, pictures: Tensor) -> Tensor:
        """Features (B, 64) of uint8 images (B, 3, H, W), resized to 299 px as `torchmetrics` does."""
        side = (_INCEPTION_SIDE, _INCEPTION_SIDE)
        resized = functional.interpolate(pictures.float(), side, mode="bilinear", antialias=True)
        return self.layers((resized - 128) / 128)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Tensors by name from a published file; anything else in it is refused, and nothing of it run.

    Raises:
        MissingExtraError: damaged, or more than tensors.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, zipfile.BadZipFile) as error:
        raise MissingExtraError(f"{path} is damaged, or no file of tensors; fetch it again") from error
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise MissingExtraError(f"{path} holds something else than tensors by name; fetch it again")
    return {str(name): value.detach().float() for name, value in content.items()}


def _unit(features: Tensor) -> Tensor:
    """Features of length 1 in every cell."""
    return features / (features.square().sum(1, keepdim=True) + 1e-8).sqrt()
