"""Mask encoder and object summarizer: what a frame leaves behind once its alpha is known."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from matte_models.network.blocks import Fuse, PositionEncoding2D, SensoryUpdate, cast
from matte_models.network.encoder import shortcut


class BasicBlock(nn.Module):
    """ResNet-18 block ``in → out``."""

    def __init__(self, in_dim: int, out_dim: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_dim, out_dim, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_dim)
        self.conv2 = nn.Conv2d(out_dim, out_dim, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_dim)
        self.downsample = shortcut(in_dim, out_dim, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


def basic_blocks(in_dim: int, out_dim: int, count: int, stride: int) -> nn.Sequential:
    """One stage, the first block carrying the stride."""
    first = BasicBlock(in_dim, out_dim, stride)
    return nn.Sequential(first, *(BasicBlock(out_dim, out_dim, 1) for _ in range(count - 1)))


class MaskEncoder(nn.Module):
    """Value of a frame: ``image [1, 3, H, W], feature [1, CP, h, w], alpha [1, 1, H, W] → [1, CV, h, w]``."""

    def __init__(
        self, stem: int, blocks: tuple[int, int, int], pixel_dim: int, value_dim: int, sensory_dim: int
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(4, stem, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        self.layer1 = basic_blocks(stem, stem, blocks[0], 1)
        self.layer2 = basic_blocks(stem, 2 * stem, blocks[1], 2)
        self.layer3 = basic_blocks(2 * stem, 4 * stem, blocks[2], 2)
        self.fuser = Fuse(pixel_dim, 4 * stem, value_dim)
        self.sensory_update = SensoryUpdate(value_dim, sensory_dim)

    def forward(self, image: Tensor, feature: Tensor, alpha: Tensor) -> Tensor:
        x = cast(torch.cat([image, alpha], dim=1), self.conv1.weight.dtype)
        # ReLU and max-pooling commute; in this order the ReLU melts into the convolution.
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        return self.fuser(feature, self.layer3(self.layer2(self.layer1(x))))


def per_token(linear: nn.Linear, x: Tensor) -> Tensor:
    """A linear layer on every token of a map ``[1, C, h, w]``, as a 1×1 convolution: no transposition."""
    weight = linear.weight.reshape(linear.out_features, linear.in_features, 1, 1)
    return F.conv2d(x, weight, linear.bias)


class ObjectSummarizer(nn.Module):
    """Sums of features under learned masks (Cutie, CVPR 2024), always float32.

    ``value [1, CV, h, w], alpha_16 [1, 1, h, w] → [1, Q, CE + 1]``: CE sums and the area they were taken over. Half of
    the summaries pools the foreground, half the background.
    """

    def __init__(self, value_dim: int, embed_dim: int, num_summaries: int, scale: float, temperature: float) -> None:
        super().__init__()
        self.pos_enc = PositionEncoding2D(embed_dim, scale, temperature)
        self.input_proj = nn.Linear(value_dim, embed_dim)
        dim = embed_dim
        self.feature_pred = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, dim))
        self.weights_pred = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, num_summaries))
        self.embed_dim = embed_dim
        self.num_summaries = num_summaries

    def forward(self, value: Tensor, alpha_16: Tensor) -> Tensor:
        x = per_token(self.input_proj, cast(value, torch.float32)) + self.pos_enc(value)
        feature = per_token(self.feature_pred[2], F.relu(per_token(self.feature_pred[0], x)))
        weight = torch.sigmoid(per_token(self.weights_pred[2], F.relu(per_token(self.weights_pred[0], x))))
        foreground = alpha_16.reshape(1, 1, -1)
        region = torch.stack([foreground, 1 - foreground], dim=1)
        # [2 regions, Q/2, hw]: each half of the summaries is weighted by its own region.
        weight = weight.reshape(1, 2, self.num_summaries // 2, -1) * region
        weight = weight.reshape(self.num_summaries, -1)
        feature = feature.reshape(self.embed_dim, -1)
        sums = torch.matmul(weight, feature.transpose(0, 1))
        return torch.cat([sums, weight.sum(dim=1, keepdim=True)], dim=1).unsqueeze(0)
