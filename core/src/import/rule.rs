//! Deterministic weights for the MatAnyone network: a number for every (tensor name, index), the same bits in every
//! language. The published implementation was traced under them, so that this one can be compared with it anywhere,
//! without anybody's weights.

/// Name, whether the elements are integers, shape and CRC-32 under this rule of every tensor of the state dict.
#[derive(Debug, Clone)]
pub struct TensorInfo {
    /// Name in the state dict.
    pub name: &'static str,
    /// 64-bit integers; otherwise 32-bit floating point.
    pub integer: bool,
    /// Shape.
    pub shape: Vec<usize>,
    /// CRC-32 (IEEE) of the little-endian bytes.
    pub crc32: u32,
}

/// All tensors of the single-object state dict.
pub fn tensors() -> Vec<TensorInfo> {
    include_str!("matanyone_tensors.tsv")
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| {
            let mut fields = line.split('\t');
            let (name, element, shape, crc) = (
                fields.next()?,
                fields.next()?,
                fields.next()?,
                fields.next()?,
            );
            let shape = match shape {
                "scalar" => Vec::new(),
                shape => shape
                    .split('x')
                    .map(|n| n.parse().ok())
                    .collect::<Option<_>>()?,
            };
            Some(TensorInfo {
                name,
                integer: element == "int64",
                shape,
                crc32: u32::from_str_radix(crc, 16).ok()?,
            })
        })
        .collect()
}

#[derive(Clone, Copy)]
enum Scale {
    Absolute(f64),
    /// Divided by √(fan-in).
    FanIn(f64),
}

use Scale::{Absolute, FanIn};

/// Offset and scale of a tensor; the first rule that fits counts.
fn rule(name: &str, rank: usize) -> (f64, Scale) {
    let ends = |s| name.ends_with(s);
    let has = |s| name.contains(s);
    match () {
        () if ends(".running_mean") => (0.0, Absolute(0.1)),
        () if ends(".running_var") => (1.0, Absolute(0.2)),
        () if ends(".bn3.weight") => (0.3, Absolute(0.1)),
        () if name.starts_with("mask_encoder.layer") && ends(".bn2.weight") => (0.4, Absolute(0.1)),
        () if rank == 1 && ends("weight") => (1.0, Absolute(0.1)),
        () if name == "mask_decoder.pred_mat.bias" => (0.4, Absolute(0.0)),
        () if name == "object_transformer.mask_pred.1.1.bias" => (0.6, Absolute(0.0)),
        () if name == "object_transformer.mask_pred.2.1.bias" => (0.3, Absolute(0.0)),
        () if ends("bias") => (0.0, Absolute(0.1)),
        () if name == "object_transformer.query_init.weight" => (0.0, Absolute(1.0)),
        () if name == "object_transformer.query_emb.weight" => (0.0, Absolute(1.0)),
        () if name == "pix_feat_proj.weight" => (0.0, FanIn(1.0)),
        () if name == "key_proj.pix_feat_proj.weight" => (0.0, FanIn(1.0)),
        () if name == "key_proj.key_proj.weight" => (0.0, FanIn(4.0)),
        () if name == "key_proj.d_proj.weight" => (0.0, FanIn(1.0)),
        () if name == "key_proj.e_proj.weight" => (0.0, FanIn(1.7)),
        () if name == "mask_decoder.pred_mat.weight" => (0.0, FanIn(0.7)),
        () if name == "temp_sparity.conv1x1_v2.weight" => (0.0, FanIn(1.7)),
        () if name == "temp_sparity.conv3x3_out.weight" => (0.0, FanIn(1.7)),
        () if has("sensory_update.transform.weight") => (0.0, FanIn(1.2)),
        () if has("sensory_update.g") => (0.0, FanIn(1.0)),
        () if name == "pixel_fuser.fuser.distributor.g_transform.weight" => (0.0, FanIn(1.6)),
        () if name == "mask_encoder.fuser.distributor.g_transform.weight" => (0.0, FanIn(1.9)),
        () if name == "mask_encoder.conv1.weight" => (0.0, FanIn(3.3)),
        () if has("distributor.x_transform.weight") => (0.0, FanIn(0.8)),
        () if name == "pixel_fuser.sensory_compress.weight" => (0.0, FanIn(1.7)),
        () if has("block1.conv2.weight") => (0.0, FanIn(1.2)),
        () if has("block2.conv2.weight") => (0.0, FanIn(1.2)),
        () if has("pixel_ffn.conv.conv2.weight") => (0.0, FanIn(1.2)),
        () if has("out_conv.conv2.weight") => (0.0, FanIn(1.7)),
        () if has("out_conv.downsample.weight") => (0.0, FanIn(1.7)),
        () if has("decoder_feat_proc") => (0.0, FanIn(1.2)),
        () if has("object_transformer.mask_pred") => (0.0, FanIn(1.0)),
        () if has("read_from_pixel.cross_attn.out_proj.weight") => (0.0, FanIn(0.3)),
        () if has("out_proj.weight") => (0.0, FanIn(1.2)),
        () if has("in_proj_weight") => (0.0, FanIn(1.7)),
        () if has("object_transformer.pixel_") => (0.0, FanIn(1.2)),
        () if has("object_transformer.summary_to_") => (0.0, FanIn(1.2)),
        () if has("object_summarizer.input_proj") => (0.0, FanIn(1.2)),
        () => (0.0, FanIn(2.449)),
    }
}

/// f32 of 128^(−2i/128), i = 0..64, computed in f64.
const INVERSE_FREQUENCIES: [u32; 64] = [
    0x3f80_0000,
    0x3f6d_4f30,
    0x3f5b_fbb8,
    0x3f4b_ec15,
    0x3f3d_08a4,
    0x3f2f_3b79,
    0x3f22_7043,
    0x3f16_942d,
    0x3f0b_95c2,
    0x3f01_64d2,
    0x3eef_e4ba,
    0x3ede_60f5,
    0x3ece_248c,
    0x3ebf_179a,
    0x3eb1_23f6,
    0x3ea4_3516,
    0x3e98_37f0,
    0x3e8d_1adf,
    0x3e82_cd87,
    0x3e72_8177,
    0x3e60_ccdf,
    0x3e50_6334,
    0x3e41_2c4d,
    0x3e33_11c4,
    0x3e25_fed7,
    0x3e19_e046,
    0x3e0e_a43a,
    0x3e04_3a29,
    0x3df5_257d,
    0x3de3_3f89,
    0x3dd2_a81e,
    0x3dc3_46cd,
    0x3db5_04f3,
    0x3da7_cd94,
    0x3d9b_8d3a,
    0x3d90_31dc,
    0x3d85_aac3,
    0x3d77_d0df,
    0x3d65_b907,
    0x3d54_f35b,
    0x3d45_672a,
    0x3d36_fd92,
    0x3d29_a15b,
    0x3d1d_3eda,
    0x3d11_c3d3,
    0x3d07_1f62,
    0x3cfa_83b3,
    0x3ce8_396a,
    0x3cd7_44fd,
    0x3cc7_8d75,
    0x3cb8_fbaf,
    0x3cab_7a3a,
    0x3c9e_f532,
    0x3c93_5a2b,
    0x3c88_980f,
    0x3c7d_3e0c,
    0x3c6a_c0c7,
    0x3c59_9d16,
    0x3c49_b9be,
    0x3c3a_ff5b,
    0x3c2d_583f,
    0x3c20_b051,
    0x3c14_f4f0,
    0x3c0a_14d5,
];

/// FNV-1a, 64 bits.
fn seed(name: &str) -> u64 {
    name.bytes().fold(0xCBF2_9CE4_8422_2325, |h, b| {
        (h ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01B3)
    })
}

/// Output `i` of splitmix64.
fn splitmix(seed: u64, i: u64) -> u64 {
    let s = seed.wrapping_add((i + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    let s = (s ^ (s >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let s = (s ^ (s >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    s ^ (s >> 31)
}

/// Elements of a floating-point tensor.
pub fn fill(name: &str, shape: &[usize]) -> Vec<f32> {
    if name.ends_with("inv_freq") {
        return INVERSE_FREQUENCIES
            .iter()
            .map(|bits| f32::from_bits(*bits))
            .collect();
    }
    let (offset, scale) = rule(name, shape.len());
    let scale = match scale {
        Absolute(c) => c,
        FanIn(c) => c / (shape.iter().skip(1).product::<usize>() as f64).sqrt(),
    };
    let seed = seed(name);
    (0..shape.iter().product::<usize>() as u64)
        .map(|i| {
            let x = ((splitmix(seed, i) >> 40) as i64 - 8_388_608) as f64 / 8_388_608.0;
            // Two roundings, not one: a fused multiply-add would give other bits.
            #[allow(clippy::suboptimal_flops)]
            let value = offset + scale * x;
            value as f32
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// CRC-32 (IEEE), bit by bit.
    fn crc32(bytes: impl Iterator<Item = u8>) -> u32 {
        let table: Vec<u32> = (0..256u32)
            .map(|i| {
                (0..8).fold(i, |c, _| {
                    if c & 1 == 1 {
                        0xEDB8_8320 ^ (c >> 1)
                    } else {
                        c >> 1
                    }
                })
            })
            .collect();
        !bytes.fold(!0u32, |c, b| {
            table[((c ^ u32::from(b)) & 255) as usize] ^ (c >> 8)
        })
    }

    #[test]
    fn the_stream_is_splitmix64_seeded_by_fnv1a() {
        let s = seed("pixel_encoder.conv1.weight");
        assert_eq!(s, 0x54a0_eb0f_ffc5_9323);
        assert_eq!(
            (splitmix(s, 0), splitmix(s, 1)),
            (0x91a1_0017_8f5e_adeb, 0x2ca6_a186_156f_8745)
        );
    }

    #[test]
    fn all_562_tensors_have_the_bits_of_the_rule() {
        let all = tensors();
        assert_eq!(all.len(), 562);
        for tensor in all {
            let crc = if tensor.integer {
                crc32([0u8; 8].into_iter())
            } else {
                let data = fill(tensor.name, &tensor.shape);
                assert_eq!(
                    data.len(),
                    tensor.shape.iter().product::<usize>(),
                    "{}",
                    tensor.name
                );
                crc32(data.iter().flat_map(|v| v.to_le_bytes()))
            };
            assert_eq!(crc, tensor.crc32, "{}", tensor.name);
        }
    }
}
