"""Change head, pixel fusion and decoder: from the memory readout to the alpha."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from matte_models.network.blocks import Fuse, ResidualBlock, cast, conv_of_parts, down, gru_update, up2


class ChangeHead(nn.Module):
    """Where the bank is to be trusted rather than the last value (MatAnyone): ``[1, 1, h, w]`` in (0, 1)."""

    def __init__(self, in_dim: int, hidden: tuple[int, int]) -> None:
        super().__init__()
        self.conv1x1_v2 = nn.Conv2d(in_dim, hidden[0], 1, bias=False)
        self.bn1 = nn.BatchNorm2d(hidden[0])
        self.conv3x3 = nn.Conv2d(hidden[0], hidden[1], 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(hidden[1])
        self.conv3x3_out = nn.Conv2d(hidden[1], 1, 3, padding=1, bias=False)

    def forward(self, last_feature: Tensor, feature: Tensor, last_alpha: Tensor, difference: Tensor) -> Tensor:
        x = conv_of_parts(self.conv1x1_v2, last_feature, feature, last_alpha, difference)
        x = F.relu(self.bn1(x))
        x = F.relu(self.bn2(self.conv3x3(x)))
        return torch.sigmoid(self.conv3x3_out(x))


class PixelFuser(nn.Module):
    """Memory readout, sensory memory and last alpha, fused with the features of the frame."""

    def __init__(self, pixel_dim: int, value_dim: int, sensory_dim: int, embed_dim: int) -> None:
        super().__init__()
        self.sensory_compress = nn.Conv2d(sensory_dim + 1, value_dim, 1)
        self.fuser = Fuse(pixel_dim, value_dim, embed_dim)

    def forward(self, feature: Tensor, readout: Tensor, sensory: Tensor, last_alpha: Tensor) -> Tensor:
        return self.fuser(feature, readout + conv_of_parts(self.sensory_compress, sensory, last_alpha))


class SkipProjections(nn.Module):
    """1×1 convolutions of the image pyramid, to the widths that the decoder adds them at."""

    def __init__(self, in_dims: tuple[int, ...], out_dims: tuple[int, ...]) -> None:
        super().__init__()
        self.transforms = nn.ModuleList(nn.Conv2d(i, o, 1) for i, o in zip(in_dims, out_dims, strict=True))


class UpBlock(nn.Module):
    """Twice the size, plus a skip connection, then a residual block."""

    def __init__(self, in_dim: int, out_dim: int) -> None:
        super().__init__()
        self.out_conv = ResidualBlock(in_dim, out_dim)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        return self.out_conv(up2(x) + skip)


class MultiScaleSensoryUpdate(nn.Module):
    """Sensory memory from every level of the decoder. The recurrent part is float32."""

    def __init__(self, up_dims: tuple[int, int, int, int, int], dim: int) -> None:
        super().__init__()
        self.g16_conv = nn.Conv2d(up_dims[0], dim, 1)
        self.g8_conv = nn.Conv2d(up_dims[1], dim, 1)
        self.g4_conv = nn.Conv2d(up_dims[2], dim, 1)
        self.g2_conv = nn.Conv2d(up_dims[3], dim, 1)
        self.g1_conv = nn.Conv2d(up_dims[4] + 1, dim, 1)
        self.transform = nn.Conv2d(2 * dim, 3 * dim, 3, padding=1)

    def forward(self, levels: tuple[Tensor, Tensor, Tensor, Tensor, Tensor], logit: Tensor, state: Tensor) -> Tensor:
        p16, p8, p4, p2, p1 = levels
        x = self.g16_conv(p16) + self.g8_conv(down(p8, 2)) + self.g4_conv(down(p4, 4)) + self.g2_conv(down(p2, 8))
        x = x + conv_of_parts(self.g1_conv, down(p1, 16), down(logit, 16))
        x = torch.cat([cast(x, torch.float32), state], dim=1)
        return gru_update(self.transform(x), state)


class MaskDecoder(nn.Module):
    """Readout ``[1, CE, h, w]`` and the image pyramid to alpha ``[1, 1, H, W]`` and the next sensory memory."""

    def __init__(self, image_dims: tuple[int, ...], up_dims: tuple[int, int, int, int, int], sensory_dim: int) -> None:
        super().__init__()
        self.sensory_update = MultiScaleSensoryUpdate(up_dims, sensory_dim)
        self.decoder_feat_proc = SkipProjections(image_dims[1:], up_dims[:-1])
        self.up_16_8 = UpBlock(up_dims[0], up_dims[1])
        self.up_8_4 = UpBlock(up_dims[1], up_dims[2])
        self.up_4_2 = UpBlock(up_dims[2], up_dims[3])
        self.up_2_1 = UpBlock(up_dims[3], up_dims[4])
        # A head for hard masks, which training uses beside the matting head; checkpoints hold it.
        self.pred_seg = nn.Conv2d(up_dims[4], 1, 3, padding=1)
        self.pred_mat = nn.Conv2d(up_dims[4], 1, 3, padding=1)

    def forward(
        self, readout: Tensor, pyramid: tuple[Tensor, Tensor, Tensor, Tensor], sensory: Tensor
    ) -> tuple[Tensor, Tensor]:
        """``pyramid`` is f8, f4, f2 and the image itself."""
        skips = [conv(f) for conv, f in zip(self.decoder_feat_proc.transforms, pyramid, strict=True)]
        p8 = self.up_16_8(readout, skips[0])
        p4 = self.up_8_4(p8, skips[1])
        p2 = self.up_4_2(p4, skips[2])
        p1 = self.up_2_1(p2, skips[3])
        logit = self.pred_mat(cast(F.relu(p1), torch.float32))
        # The sensory memory sees the logit before it is cut to [0, 1].
        sensory = self.sensory_update((readout, p8, p4, p2, p1), logit, sensory)
        return torch.clamp(logit, 0.0, 1.0), sensory
