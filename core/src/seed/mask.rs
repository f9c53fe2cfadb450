//! A mask given by the caller, brought to the working size.

use crate::error::{Error, Result};
use crate::frame::Mask;
use crate::options::Options;
use crate::pixel::morphology::{dilate, erode};
use crate::pixel::scale::Scaler;
use crate::stages::preprocess::Geometry;

/// Scales a mask to the working size, then dilates and erodes it as the options say: alpha 0 to 255, without padding.
pub(crate) fn prepare(
    scaler: &mut Scaler,
    mask: &Mask<'_>,
    geometry: &Geometry,
    options: &Options,
) -> Result<Vec<u8>> {
    let (width, height) = geometry.frame;
    mask.check_aspect((width as u32, height as u32))?;
    let mut alpha = scaler.mask(mask, geometry.size);
    dilate(&mut alpha, geometry.size.0, options.mask_dilate as usize);
    erode(&mut alpha, geometry.size.0, options.mask_erode as usize);
    if alpha.iter().all(|a| *a == 0) {
        return Err(Error::MaskEmpty {
            erode: options.mask_erode,
            dilate: options.mask_dilate,
        });
    }
    Ok(alpha)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scaled(mask: (u32, u32), options: &Options) -> Result<Vec<u8>> {
        let data = vec![255; (mask.0 * mask.1) as usize];
        let view = Mask::new(mask.0, mask.1, &data, mask.0 as usize).unwrap();
        prepare(
            &mut Scaler::new(),
            &view,
            &Geometry::new((1280, 720), (512, 288)),
            options,
        )
    }

    #[test]
    fn any_size_with_the_aspect_ratio_of_the_frame_will_do() {
        for size in [
            (1280, 720),
            (640, 360),
            (641, 360),
            (512, 288),
            (1920, 1080),
        ] {
            assert_eq!(
                scaled(size, &Options::default()).unwrap(),
                vec![255; 512 * 288],
                "{size:?}"
            );
        }
    }

    #[test]
    fn another_aspect_ratio_is_refused_with_both_sizes() {
        assert_eq!(
            scaled((640, 480), &Options::default())
                .unwrap_err()
                .to_string(),
            "mask of 640x480: its aspect ratio differs from that of the 1280x720 frame by more than 2 %"
        );
    }

    #[test]
    fn an_empty_mask_is_refused() {
        let data = vec![0; 512 * 288];
        let view = Mask::new(512, 288, &data, 512).unwrap();
        let geometry = Geometry::new((1280, 720), (512, 288));
        let options = Options {
            mask_erode: 3,
            ..Options::default()
        };
        assert_eq!(
            prepare(&mut Scaler::new(), &view, &geometry, &options)
                .unwrap_err()
                .to_string(),
            "the mask is empty after erosion by 3 and dilation by 0 pixels: no pixel is selected"
        );
    }
}
