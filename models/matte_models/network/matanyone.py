"""The network of MatAnyone (CVPR 2025) and MatAnyone 2, for one object, as the three graphs of a model package."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from matte_models import rule
from matte_models.config import MATANYONE, Config
from matte_models.network.blocks import cast, down, image_from_frame
from matte_models.network.decoder import ChangeHead, MaskDecoder, PixelFuser
from matte_models.network.encoder import KeyProjection, PixelEncoder
from matte_models.network.read import key_rows, query_rows, read_bank
from matte_models.network.transformer import ObjectTransformer
from matte_models.network.value import MaskEncoder, ObjectSummarizer


class MatteOut(NamedTuple):
    """Outputs of the graph ``matte``."""

    alpha: Tensor
    sensory_out: Tensor
    feature: Tensor
    key_rows: Tensor


class ValueOut(NamedTuple):
    """Outputs of the graph ``value``."""

    value: Tensor
    value_rows: Tensor
    alpha_16: Tensor


class MemorizeOut(NamedTuple):
    """Outputs of the graph ``memorize``."""

    sensory_out: Tensor
    object_memory_out: Tensor


class _SensoryAux(nn.Module):
    def __init__(self, sensory_dim: int) -> None:
        super().__init__()
        self.projection = nn.Conv2d(sensory_dim, sensory_dim + 1, 1)


class _AuxComputer(nn.Module):
    """A head that training used; checkpoints hold it."""

    def __init__(self, sensory_dim: int) -> None:
        super().__init__()
        self.sensory_aux = _SensoryAux(sensory_dim)


class MatAnyone(nn.Module):
    """State-dict keys are those of the published checkpoints."""

    UNUSED = (
        "aux_computer.*",
        "mask_decoder.pred_seg.*",
        "object_transformer.mask_pred.{last}.*",
        "*.num_batches_tracked",
    )

    def __init__(self, config: Config = MATANYONE) -> None:
        super().__init__()
        c = config
        self.config = c
        self.pixel_encoder = PixelEncoder(c.stem, c.image_blocks)
        self.pix_feat_proj = nn.Conv2d(c.image_dims[0], c.pixel_dim, 1)
        self.key_proj = KeyProjection(c.image_dims[0], c.pixel_dim, c.key_dim)
        self.mask_encoder = MaskEncoder(c.stem, c.mask_blocks, c.pixel_dim, c.value_dim, c.sensory_dim)
        self.pixel_fuser = PixelFuser(c.pixel_dim, c.value_dim, c.sensory_dim, c.embed_dim)
        self.object_transformer = ObjectTransformer(
            c.embed_dim, c.num_queries, c.num_heads, c.ff_dim, c.num_blocks, c.pe_scale, c.pe_temperature
        )
        self.object_summarizer = ObjectSummarizer(c.value_dim, c.embed_dim, c.num_queries, c.pe_scale, c.pe_temperature)
        self.mask_decoder = MaskDecoder(c.image_dims, c.up_dims, c.sensory_dim)
        self.aux_computer = _AuxComputer(c.sensory_dim)
        # The spelling is the checkpoint's.
        self.temp_sparity = ChangeHead(2 * c.pixel_dim + 1 + c.value_dim, c.change_dims)

    @property
    def dtype(self) -> torch.dtype:
        """Type of features and values."""
        return self.pix_feat_proj.weight.dtype

    def unused(self) -> list[str]:
        """Checkpoint tensors that no graph needs, as globs."""
        return [name.format(last=self.config.num_blocks) for name in self.UNUSED]

    def half_(self) -> MatAnyone:
        """Turns the network to half precision, in place, except what must stay float32.

        Float32 stay: both recurrent updates and the sensory memory (an error there is carried on for ever), keys,
        similarity and softmax, the layer that gives the alpha, the mask decisions (a sign), the queries with their
        normalisations, and the object memory (a sum that grows with the video).
        """
        decoder = self.mask_decoder
        for module in (
            self.pixel_encoder,
            self.pix_feat_proj,
            self.key_proj.pix_feat_proj,
            self.mask_encoder.conv1,
            self.mask_encoder.bn1,
            self.mask_encoder.layer1,
            self.mask_encoder.layer2,
            self.mask_encoder.layer3,
            self.mask_encoder.fuser,
            self.pixel_fuser,
            self.temp_sparity,
            self.object_transformer.pixel_init_proj,
            self.object_transformer.pixel_emb_proj,
            *(block.pixel_ffn for block in self.object_transformer.blocks),
            decoder.decoder_feat_proc,
            decoder.up_16_8,
            decoder.up_8_4,
            decoder.up_4_2,
            decoder.up_2_1,
            decoder.sensory_update.g16_conv,
            decoder.sensory_update.g8_conv,
            decoder.sensory_update.g4_conv,
            decoder.sensory_update.g2_conv,
            decoder.sensory_update.g1_conv,
        ):
            module.half()
        return self

    def matte(
        self,
        frame: Tensor,
        bank_keys: Tensor,
        bank_values: Tensor,
        sensory: Tensor,
        last_alpha: Tensor,
        last_feature: Tensor,
        last_value: Tensor,
        object_memory: Tensor,
        gate: Tensor,
    ) -> MatteOut:
        """The alpha of a frame.

        ``frame [1, H, W, 3]`` u8 · ``bank_keys [N, K]`` · ``bank_values [N, CV]`` · ``sensory [1, CS, h, w]`` ·
        ``last_alpha [1, 1, h, w]`` · ``last_feature [1, CP, h, w]`` · ``last_value [1, CV, h, w]`` · ``object_memory
        [1, Q, CE + 1]`` · ``gate`` scalar: 0 lets the last value pass in place of the bank's.
        """
        image = cast(image_from_frame(frame), self.dtype)
        f16, f8, f4, f2 = self.pixel_encoder(image)
        feature = self.pix_feat_proj(f16)
        key, shrinkage, selection = self.key_proj(f16)

        queries = query_rows(key, selection).reshape(-1, self.config.key_row)
        read = read_bank(queries, bank_keys, bank_values, self.config.top_k)
        read = read.reshape(1, self.config.value_dim, *last_value.shape[-2:])
        difference = read - last_value
        change = self.temp_sparity(last_feature, feature, last_alpha, difference) * cast(gate, self.dtype)
        readout = last_value + change * difference

        fused = self.pixel_fuser(feature, readout, sensory, last_alpha)
        readout = self.object_transformer(fused, object_memory)
        alpha, sensory_out = self.mask_decoder(readout, (f8, f4, f2, image), sensory)
        rows = key_rows(key, shrinkage).reshape(-1, self.config.key_row)
        return MatteOut(alpha, sensory_out, feature, rows)

    def value(self, frame: Tensor, feature: Tensor, alpha: Tensor) -> ValueOut:
        """What a frame with its alpha ``[1, 1, H, W]`` is worth remembering."""
        value = self.mask_encoder(image_from_frame(frame), feature, alpha)
        rows = value.reshape(self.config.value_dim, -1).transpose(0, 1)
        return ValueOut(value, rows, down(alpha, 16))

    def memorize(
        self, value: Tensor, sensory: Tensor, alpha_16: Tensor, object_memory: Tensor, keep: Tensor
    ) -> MemorizeOut:
        """Deep update of the sensory memory and one more summary in the object memory, on memory frames only.

        ``keep`` 0 empties the object memory first.
        """
        summary = self.object_summarizer(value, alpha_16)
        return MemorizeOut(self.mask_encoder.sensory_update(value, sensory), object_memory * keep + summary)


def strip_common_prefix(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Keys without the prefix that a wrapper (``module.``, ``model.``) put before all of them."""
    while True:
        heads = {key.split(".", 1)[0] for key in tensors if "." in key}
        if len(heads) != 1 or any("." not in key for key in tensors):
            return tensors
        tensors = {key.split(".", 1)[1]: value for key, value in tensors.items()}


def rule_state() -> dict[str, Tensor]:
    """A checkpoint of deterministic weights (``matte_models.rule``)."""
    return {k: torch.from_numpy(rule.tensor(k, v.shape)) for k, v in MatAnyone().state_dict().items()}


def load_checkpoint(network: MatAnyone, tensors: dict[str, Tensor]) -> None:
    """Loads a checkpoint strictly; half precision and the five-channel (many-object) form are accepted."""
    tensors = {k: v.float() if v.is_floating_point() else v for k, v in strip_common_prefix(tensors).items()}
    expected = network.state_dict()
    for key in ("mask_encoder.conv1.weight", "pixel_fuser.sensory_compress.weight"):
        # Many-object checkpoints see the other objects' mask too; with one object that channel is always 0.
        if key in tensors and tensors[key].shape[1] == expected[key].shape[1] + 1:
            tensors[key] = tensors[key][:, :-1]
    for key in expected:
        if key.endswith("num_batches_tracked"):
            tensors.setdefault(key, torch.zeros((), dtype=torch.int64))
    network.load_state_dict(tensors, strict=True)
