//! Frames and masks to the working size.

use fast_image_resize::images::{CroppedImage, Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};

use super::bands;
use super::rows::{
    Chroma, Planes, YuvToRgb, frame_row, split_packed, split_pairs_half, split_yuv, write_rgb,
};
use crate::frame::{Frame, Mask, PixelFormat};

/// Scales one plane.
struct PlaneScaler {
    resizer: Resizer,
    /// A plane whose stride is no multiple of its pixel, packed.
    packed: Vec<u8>,
    /// Plane of a packed luma and chroma format.
    parted: Vec<u8>,
    /// The plane at the working size.
    scaled: Vec<u8>,
}

/// Scales with buffers that are kept from frame to frame.
pub(crate) struct Scaler {
    scalers: [PlaneScaler; 3],
    /// A row of the result.
    planes: Planes,
}

impl std::fmt::Debug for Scaler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scaler").finish_non_exhaustive()
    }
}

/// A rectangle of a frame in pixels: left, top, width, height.
pub(crate) type Crop = [f64; 4];

/// Where pixels go: rows of `row_pixels`, the first one at `left`, `top`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Placement {
    pub(crate) left: usize,
    pub(crate) top: usize,
    pub(crate) row_pixels: usize,
}

impl Scaler {
    pub(crate) fn new() -> Self {
        Self {
            scalers: std::array::from_fn(|_| PlaneScaler {
                resizer: Resizer::new(),
                packed: Vec::new(),
                parted: Vec::new(),
                scaled: Vec::new(),
            }),
            planes: Planes::default(),
        }
    }

    /// Scales a frame, or a part of it, to `size` as packed RGB into a larger picture.
    pub(crate) fn rgb(
        &mut self,
        frame: &Frame<'_>,
        crop: Option<Crop>,
        (width, height): (usize, usize),
        out: &mut [u8],
        place: Placement,
    ) {
        let row = |y: usize| -> std::ops::Range<usize> {
            let start = ((place.top + y) * place.row_pixels + place.left) * 3;
            start..start + width * 3
        };
        let yuv = YuvToRgb::new(frame.colorimetry());
        self.planes.resize(width);
        if crop.is_none() && frame.size() == (width as u32, height as u32) {
            for y in 0..height {
                frame_row(frame, yuv, y, &mut self.planes);
                write_rgb(&self.planes, &mut out[row(y)]);
            }
            return;
        }
        let (size, format) = ((width, height), frame.format());
        if let Some((layout, bytes)) = format.rgb_layout() {
            let pixel = if bytes == 4 {
                PixelType::U8x4
            } else {
                PixelType::U8x3
            };
            let [scaler, ..] = &mut self.scalers;
            scaler.run(frame, 0, pixel, crop, size);
            for (y, scaled) in scaler.scaled.chunks_exact(width * bytes).enumerate() {
                split_packed(scaled, layout, bytes, &mut self.planes.all());
                write_rgb(&self.planes, &mut out[row(y)]);
            }
            return;
        }
        if let Some(layout) = format.yuv_layout() {
            self.part(frame, layout);
        }
        let [luma, u, v] = &mut self.scalers;
        let chroma = match format {
            PixelFormat::Nv12 => Some(PixelType::U8x2),
            PixelFormat::I420 | PixelFormat::Yuy2 | PixelFormat::Uyvy => Some(PixelType::U8),
            _ => None,
        };
        bands::both(
            bands::count((frame.width() * frame.height()) as usize),
            || luma.run(frame, 0, PixelType::U8, crop, size),
            chroma.map(|pixel| {
                move || {
                    u.run(frame, 1, pixel, crop, size);
                    if pixel == PixelType::U8 {
                        v.run(frame, 2, pixel, crop, size);
                    }
                }
            }),
        );
        let [luma, u, v] = self.scalers.each_ref().map(|s| s.scaled.as_slice());
        for y in 0..height {
            let (from, to) = (y * width, (y + 1) * width);
            let chroma = match format {
                PixelFormat::Nv12 => Chroma::Pairs(&u[from * 2..to * 2]),
                PixelFormat::I420 | PixelFormat::Yuy2 | PixelFormat::Uyvy => {
                    Chroma::Planes(&u[from..to], &v[from..to])
                }
                _ => Chroma::None,
            };
            split_yuv(&luma[from..to], chroma, yuv, &mut self.planes.all());
            write_rgb(&self.planes, &mut out[row(y)]);
        }
    }

    /// Takes a packed luma and chroma format apart.
    fn part(&mut self, frame: &Frame<'_>, layout: [usize; 4]) {
        let (width, height) = (frame.width() as usize, frame.height() as usize);
        let half = width.div_ceil(2);
        let [ys, us, vs] = self.scalers.each_mut().map(|s| &mut s.parted);
        ys.resize(width * height, 0);
        us.resize(half * height, 0);
        vs.resize(half * height, 0);
        let rows = ys.chunks_exact_mut(width);
        let chroma = us.chunks_exact_mut(half).zip(vs.chunks_exact_mut(half));
        for (y, (luma, (u, v))) in rows.zip(chroma).enumerate() {
            split_pairs_half(frame.row(0, y), layout, luma, u, v);
        }
    }

    /// Scales a mask to `size`.
    pub(crate) fn mask(&mut self, mask: &Mask<'_>, (width, height): (usize, usize)) -> Vec<u8> {
        let (w, h) = mask.size();
        let [
            PlaneScaler {
                resizer, packed, ..
            },
            ..,
        ] = &mut self.scalers;
        packed.clear();
        for y in 0..h as usize {
            packed.extend_from_slice(mask.row(y));
        }
        if (w as usize, h as usize) == (width, height) {
            return packed.clone();
        }
        let mut out = vec![0; width * height];
        let source = (w as usize, h as usize, w as usize);
        let crop = [0.0, 0.0, f64::from(w), f64::from(h)];
        resize(
            resizer,
            packed,
            source,
            PixelType::U8,
            crop,
            (width, height),
            &mut out,
        );
        out
    }
}

impl PlaneScaler {
    /// Scales one plane of a frame into `self.scaled`.
    fn run(
        &mut self,
        frame: &Frame<'_>,
        plane: usize,
        pixel: PixelType,
        crop: Option<Crop>,
        (width, height): (usize, usize),
    ) {
        let bytes = pixel.size();
        let parted = frame.format().yuv_layout().is_some();
        let (data, stride, row, rows) = if parted {
            let (width, height) = (frame.width() as usize, frame.height() as usize);
            let row = if plane == 0 { width } else { width.div_ceil(2) };
            (self.parted.as_slice(), row, row, height)
        } else {
            frame.plane(plane)
        };
        // The crop is in frame pixels; chroma planes have fewer.
        let (fx, fy) = match plane {
            0 => (1.0, 1.0),
            _ => (
                (row / bytes) as f64 / f64::from(frame.width()),
                rows as f64 / f64::from(frame.height()),
            ),
        };
        let crop = crop.map(|[x, y, w, h]| [x * fx, y * fy, w * fx, h * fy]);
        let as_is = stride % bytes == 0 && data.len() >= stride * rows;
        let (source, source_width) = if as_is {
            (data, stride / bytes)
        } else {
            self.packed.clear();
            for y in 0..rows {
                self.packed.extend_from_slice(&data[y * stride..][..row]);
            }
            (self.packed.as_slice(), row / bytes)
        };
        let crop = crop.unwrap_or([0.0, 0.0, (row / bytes) as f64, rows as f64]);
        self.scaled.resize(width * height * bytes, 0);
        resize(
            &mut self.resizer,
            source,
            (row / bytes, rows, source_width),
            pixel,
            crop,
            (width, height),
            &mut self.scaled,
        );
    }
}

/// Scales with antialiasing. All sizes were checked by the views, and crops lie within them, so the crate's errors cannot
/// arise; should one of them do so after all, the destination keeps what it held and the log tells.
fn resize(
    resizer: &mut Resizer,
    source: &[u8],
    (source_width, source_height, row_pixels): (usize, usize, usize),
    pixel: PixelType,
    [left, top, crop_width, crop_height]: Crop,
    (width, height): (usize, usize),
    out: &mut [u8],
) {
    // A crop that ends at the border of the picture may end beyond it by a rounding, and would be refused for that.
    let crop_width = crop_width.min(source_width as f64 - left);
    let crop_height = crop_height.min(source_height as f64 - top);
    // Hamming is as sharp as bicubic when it scales down, but shows steps when it scales up.
    let filter = match (width as f64) < crop_width {
        true => FilterType::Hamming,
        false => FilterType::Bilinear,
    };
    let options = ResizeOptions::new()
        .resize_alg(ResizeAlg::Convolution(filter))
        .crop(left, top, crop_width, crop_height)
        .use_alpha(false);
    let mut run = || -> Result<(), String> {
        let rows = ImageRef::new(row_pixels as u32, source_height as u32, source, pixel)
            .map_err(|e| e.to_string())?;
        // The filter reaches beyond a crop of `options`, but not beyond the picture: padding must lie outside that.
        let source = CroppedImage::new(&rows, 0, 0, source_width as u32, source_height as u32)
            .map_err(|e| e.to_string())?;
        let mut target = Image::from_slice_u8(width as u32, height as u32, out, pixel)
            .map_err(|e| e.to_string())?;
        resizer
            .resize(&source, &mut target, &options)
            .map_err(|e| e.to_string())
    };
    if let Err(e) = run() {
        log::error!("scaling {crop_width}x{crop_height} to {width}x{height}: {e}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{Colorimetry, Plane};

    fn whole(width: usize) -> Placement {
        Placement {
            left: 0,
            top: 0,
            row_pixels: width,
        }
    }

    #[test]
    fn a_padded_stride_gives_the_same_picture() {
        let (w, h) = (37usize, 23usize);
        for (format, bytes) in [(PixelFormat::Rgba, 4), (PixelFormat::Bgr, 3)] {
            let pixel = |x: usize, y: usize, c: usize| (x * 5 + y * 3 + c * 40) as u8;
            let picture = |stride: usize| {
                let mut data = vec![255; stride * (h - 1) + w * bytes];
                for y in 0..h {
                    for x in 0..w {
                        for c in 0..bytes {
                            data[y * stride + x * bytes + c] = pixel(x, y, c);
                        }
                    }
                }
                data
            };
            let mut results = Vec::new();
            for stride in [w * bytes, w * bytes + bytes * 3, w * bytes + 5] {
                let data = picture(stride);
                let frame = Frame::packed(format, w as u32, h as u32, &data, stride).unwrap();
                let all = [(16, 10), (5, 4), (30, 20), (50, 31)].map(|(width, height)| {
                    let mut out = vec![0; width * height * 3];
                    Scaler::new().rgb(&frame, None, (width, height), &mut out, whole(width));
                    out
                });
                results.push(all);
            }
            assert_eq!(results[0], results[1]);
            assert_eq!(results[0], results[2]);
        }
    }

    #[test]
    fn luma_and_chroma_formats_agree_with_rgb() {
        let (w, h) = (64usize, 32usize);
        let (y, u, v) = (
            vec![120u8; w * h],
            vec![90u8; w * h / 4],
            vec![160u8; w * h / 4],
        );
        let uv: Vec<u8> = u.iter().zip(&v).flat_map(|(u, v)| [*u, *v]).collect();
        let planes = |chroma: &[&'static str]| chroma.len();
        assert_eq!(planes(&["u", "v"]), 2);
        let nv12 = Frame::new(
            PixelFormat::Nv12,
            w as u32,
            h as u32,
            &[
                Plane {
                    data: &y,
                    stride: w,
                },
                Plane {
                    data: &uv,
                    stride: w,
                },
            ],
            Colorimetry::default(),
        )
        .unwrap();
        let i420 = Frame::new(
            PixelFormat::I420,
            w as u32,
            h as u32,
            &[
                Plane {
                    data: &y,
                    stride: w,
                },
                Plane {
                    data: &u,
                    stride: w / 2,
                },
                Plane {
                    data: &v,
                    stride: w / 2,
                },
            ],
            Colorimetry::default(),
        )
        .unwrap();
        // BT.709, limited range, by the standard's formula.
        let rgb = [178, 112, 41];
        for frame in [nv12, i420] {
            for size in [(64, 32), (24, 12)] {
                let mut out = vec![0; size.0 * size.1 * 3];
                Scaler::new().rgb(&frame, None, size, &mut out, whole(size.0));
                assert!(
                    out.chunks(3).all(|p| p == rgb),
                    "{} {size:?}",
                    frame.format().name()
                );
            }
        }
    }

    /// 170 of 602 rows and 432 of them, of 720, make 720.0000000000001.
    #[test]
    fn a_crop_may_end_at_the_border_but_for_a_rounding() {
        let (w, h) = (40usize, 720usize);
        let (y, chroma) = (vec![126u8; w * h], vec![128u8; w * h / 2]);
        let rgb = vec![128u8; w * h * 3];
        let planes = [&y, &chroma].map(|data| Plane { data, stride: w });
        let nv12 = Frame::new(
            PixelFormat::Nv12,
            w as u32,
            h as u32,
            &planes,
            Colorimetry::default(),
        )
        .unwrap();
        let rgb = Frame::packed(PixelFormat::Rgb, w as u32, h as u32, &rgb, w * 3).unwrap();
        let scale = 720.0 / 602.0;
        let crop = [0.0, 170.0 * scale, 40.0, 432.0 * scale];
        assert!(crop[1] + crop[3] > 720.0);
        for frame in [nv12, rgb] {
            let mut out = vec![0; 16 * 16 * 3];
            Scaler::new().rgb(&frame, Some(crop), (16, 16), &mut out, whole(16));
            assert!(
                out.iter().all(|v| v.abs_diff(128) <= 1),
                "{}: {:?}",
                frame.format().name(),
                &out[..3]
            );
        }
    }

    #[test]
    fn padding_stays_untouched() {
        let data = vec![200u8; 10 * 6 * 3];
        let frame = Frame::packed(PixelFormat::Rgb, 10, 6, &data, 30).unwrap();
        let mut out = vec![0; 16 * 16 * 3];
        Scaler::new().rgb(
            &frame,
            None,
            (10, 6),
            &mut out,
            Placement {
                left: 3,
                top: 5,
                row_pixels: 16,
            },
        );
        for y in 0..16 {
            for x in 0..16 {
                let inside = (3..13).contains(&x) && (5..11).contains(&y);
                assert_eq!(out[(y * 16 + x) * 3] == 200, inside, "{x} {y}");
            }
        }
    }
}
