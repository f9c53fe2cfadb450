//! Views of pixels that check their bounds once, when they are made.

use crate::error::{Error, Result};

/// Longest side of a frame, mask or output, in pixels.
pub const MAX_SIDE: u32 = 16384;

/// Memory layout of a [`Frame`]'s pixels. 8 bits a component; the names give the order of the bytes in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[allow(
    missing_docs,
    reason = "the names are those of GStreamer's video formats"
)]
pub enum PixelFormat {
    Rgba,
    Bgra,
    Argb,
    Abgr,
    Rgbx,
    Bgrx,
    Xrgb,
    Xbgr,
    Rgb,
    Bgr,
    Gray8,
    /// Planes Y and interleaved UV, chroma at half size, rounded up.
    Nv12,
    /// Planes Y, U and V, chroma at half size, rounded up.
    I420,
    /// Y, U, Y, V of two pixels in turn; a last odd pixel takes four bytes too.
    Yuy2,
    /// U, Y, V, Y of two pixels in turn; likewise.
    Uyvy,
}

impl PixelFormat {
    /// All formats.
    pub const ALL: [Self; 15] = [
        Self::Rgba,
        Self::Bgra,
        Self::Argb,
        Self::Abgr,
        Self::Rgbx,
        Self::Bgrx,
        Self::Xrgb,
        Self::Xbgr,
        Self::Rgb,
        Self::Bgr,
        Self::Gray8,
        Self::Nv12,
        Self::I420,
        Self::Yuy2,
        Self::Uyvy,
    ];

    /// Name, as in GStreamer.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rgba => "RGBA",
            Self::Bgra => "BGRA",
            Self::Argb => "ARGB",
            Self::Abgr => "ABGR",
            Self::Rgbx => "RGBx",
            Self::Bgrx => "BGRx",
            Self::Xrgb => "xRGB",
            Self::Xbgr => "xBGR",
            Self::Rgb => "RGB",
            Self::Bgr => "BGR",
            Self::Gray8 => "GRAY8",
            Self::Nv12 => "NV12",
            Self::I420 => "I420",
            Self::Yuy2 => "YUY2",
            Self::Uyvy => "UYVY",
        }
    }

    /// Number of planes.
    pub const fn planes(self) -> usize {
        match self {
            Self::Nv12 => 2,
            Self::I420 => 3,
            _ => 1,
        }
    }

    /// Bytes of a row and number of rows of a plane.
    pub const fn plane_size(self, plane: usize, width: u32, height: u32) -> (usize, usize) {
        let (w, h) = (width as usize, height as usize);
        let (cw, ch) = (w.div_ceil(2), h.div_ceil(2));
        match (self, plane) {
            (Self::Gray8 | Self::Nv12 | Self::I420, 0) => (w, h),
            (Self::Nv12, _) => (cw * 2, ch),
            (Self::I420, _) => (cw, ch),
            (Self::Yuy2 | Self::Uyvy, _) => (cw * 4, h),
            (Self::Rgb | Self::Bgr, _) => (w * 3, h),
            _ => (w * 4, h),
        }
    }

    /// Byte positions of red, green and blue in a pixel, and the bytes of a pixel; `None` for grey and planar formats.
    pub(crate) const fn rgb_layout(self) -> Option<([usize; 3], usize)> {
        Some(match self {
            Self::Rgba | Self::Rgbx => ([0, 1, 2], 4),
            Self::Bgra | Self::Bgrx => ([2, 1, 0], 4),
            Self::Argb | Self::Xrgb => ([1, 2, 3], 4),
            Self::Abgr | Self::Xbgr => ([3, 2, 1], 4),
            Self::Rgb => ([0, 1, 2], 3),
            Self::Bgr => ([2, 1, 0], 3),
            Self::Gray8 | Self::Nv12 | Self::I420 | Self::Yuy2 | Self::Uyvy => return None,
        })
    }

    /// Byte positions of the two luma samples, U and V in four bytes of a packed luma and chroma format.
    pub(crate) const fn yuv_layout(self) -> Option<[usize; 4]> {
        match self {
            Self::Yuy2 => Some([0, 2, 1, 3]),
            Self::Uyvy => Some([1, 3, 0, 2]),
            _ => None,
        }
    }

    /// Whether the format holds luma and chroma.
    pub(crate) const fn is_yuv(self) -> bool {
        matches!(self, Self::Nv12 | Self::I420 | Self::Yuy2 | Self::Uyvy)
    }
}

/// How luma and chroma become RGB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[allow(missing_docs, reason = "the names are the standards'")]
pub enum YuvMatrix {
    Bt601,
    #[default]
    Bt709,
    Bt2020,
}

/// Colorimetry of a luma and chroma format; ignored for the RGB formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Colorimetry {
    /// The matrix.
    pub matrix: YuvMatrix,
    /// Components use 0 to 255; otherwise 16 to 235 (luma) and 16 to 240 (chroma).
    pub full_range: bool,
}

/// One plane of a [`Frame`].
#[derive(Debug, Clone, Copy, Default)]
pub struct Plane<'a> {
    /// The bytes; the last row need not be padded to the stride.
    pub data: &'a [u8],
    /// Bytes from one row to the next.
    pub stride: usize,
}

/// A picture to be matted: a view, nothing is copied.
#[derive(Debug, Clone, Copy)]
pub struct Frame<'a> {
    format: PixelFormat,
    width: u32,
    height: u32,
    planes: [Plane<'a>; 3],
    colorimetry: Colorimetry,
}

fn check_size(what: &'static str, width: u32, height: u32) -> Result<()> {
    if width == 0 || height == 0 || width > MAX_SIDE || height > MAX_SIDE {
        return Err(Error::Size {
            what,
            width,
            height,
        });
    }
    Ok(())
}

/// Refuses what has another size than the frames.
pub(crate) fn check_equal(
    what: &'static str,
    (width, height): (u32, u32),
    (expected_width, expected_height): (u32, u32),
) -> Result<()> {
    if (width, height) == (expected_width, expected_height) {
        return Ok(());
    }
    Err(Error::FrameSize {
        what,
        width,
        height,
        expected_width,
        expected_height,
    })
}

fn check_plane(
    what: &dyn Fn() -> String,
    format: &'static str,
    (width, height): (u32, u32),
    (row, rows): (usize, usize),
    len: usize,
    stride: usize,
) -> Result<()> {
    if stride < row {
        return Err(Error::Stride {
            what: what(),
            stride,
            width,
            format,
            row,
        });
    }
    // Sides are limited to 2^14, but a stride is not: the product may overflow.
    let need = stride
        .checked_mul(rows - 1)
        .and_then(|n| n.checked_add(row))
        .unwrap_or(usize::MAX);
    if len < need {
        return Err(Error::Buffer {
            what: what(),
            have: len,
            need,
            width,
            height,
            format,
            stride,
        });
    }
    Ok(())
}

impl<'a> Frame<'a> {
    /// Checks the planes against the size and the format.
    ///
    /// # Errors
    /// [`Error::Size`], [`Error::Stride`] or [`Error::Buffer`] when the view would reach outside its data.
    pub fn new(
        format: PixelFormat,
        width: u32,
        height: u32,
        planes: &[Plane<'a>],
        colorimetry: Colorimetry,
    ) -> Result<Self> {
        check_size("frame", width, height)?;
        let mut kept = [Plane::default(); 3];
        for (i, slot) in kept.iter_mut().enumerate().take(format.planes()) {
            let plane = planes.get(i).copied().unwrap_or_default();
            check_plane(
                &|| format!("frame, plane {i}"),
                format.name(),
                (width, height),
                format.plane_size(i, width, height),
                plane.data.len(),
                plane.stride,
            )?;
            *slot = plane;
        }
        Ok(Self {
            format,
            width,
            height,
            planes: kept,
            colorimetry,
        })
    }

    /// A frame of one plane: one of the RGB formats or grey.
    ///
    /// # Errors
    /// As [`Frame::new`].
    pub fn packed(
        format: PixelFormat,
        width: u32,
        height: u32,
        data: &'a [u8],
        stride: usize,
    ) -> Result<Self> {
        Self::new(
            format,
            width,
            height,
            &[Plane { data, stride }],
            Colorimetry::default(),
        )
    }

    /// Format of the pixels.
    pub fn format(&self) -> PixelFormat {
        self.format
    }

    /// Width in pixels.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Height in pixels.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// Width and height in pixels.
    pub fn size(&self) -> (u32, u32) {
        (self.width, self.height)
    }

    /// Colorimetry of luma and chroma.
    pub fn colorimetry(&self) -> Colorimetry {
        self.colorimetry
    }

    /// Row `y` of a plane, without the padding behind it.
    pub(crate) fn row(&self, plane: usize, y: usize) -> &'a [u8] {
        let (row, _) = self.format.plane_size(plane, self.width, self.height);
        let p = &self.planes[plane];
        &p.data[y * p.stride..][..row]
    }

    /// A plane, its stride, bytes of a row and number of rows.
    pub(crate) fn plane(&self, plane: usize) -> (&'a [u8], usize, usize, usize) {
        let (row, rows) = self.format.plane_size(plane, self.width, self.height);
        (
            self.planes[plane].data,
            self.planes[plane].stride,
            row,
            rows,
        )
    }
}

/// Layout of what the engine writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[allow(
    missing_docs,
    reason = "the names are those of GStreamer's video formats"
)]
pub enum OutputFormat {
    Rgba,
    Bgra,
    Argb,
    Abgr,
    /// Planes Y, U, V and alpha; chroma at half size, rounded up. The luma and chroma of a frame of the same colorimetry
    /// are copied where nothing is to be done to its colour.
    A420,
    /// Alpha alone.
    Gray8,
}

impl OutputFormat {
    /// All formats.
    pub const ALL: [Self; 6] = [
        Self::Rgba,
        Self::Bgra,
        Self::Argb,
        Self::Abgr,
        Self::A420,
        Self::Gray8,
    ];

    /// Name, as in GStreamer.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rgba => "RGBA",
            Self::Bgra => "BGRA",
            Self::Argb => "ARGB",
            Self::Abgr => "ABGR",
            Self::A420 => "A420",
            Self::Gray8 => "GRAY8",
        }
    }

    /// Bytes of a pixel in the first plane.
    pub const fn bytes_per_pixel(self) -> usize {
        match self {
            Self::Gray8 | Self::A420 => 1,
            _ => 4,
        }
    }

    /// Number of planes.
    pub const fn planes(self) -> usize {
        match self {
            Self::A420 => 4,
            _ => 1,
        }
    }

    /// Bytes of a row and number of rows of a plane.
    pub const fn plane_size(self, plane: usize, width: u32, height: u32) -> (usize, usize) {
        let (w, h) = (width as usize, height as usize);
        match (self, plane) {
            (Self::A420, 1 | 2) => (w.div_ceil(2), h.div_ceil(2)),
            _ => (w * self.bytes_per_pixel(), h),
        }
    }

    /// Byte positions of red, green, blue and alpha in a pixel; `None` for alpha alone and for planes.
    pub(crate) const fn layout(self) -> Option<[usize; 4]> {
        match self {
            Self::Rgba => Some([0, 1, 2, 3]),
            Self::Bgra => Some([2, 1, 0, 3]),
            Self::Argb => Some([1, 2, 3, 0]),
            Self::Abgr => Some([3, 2, 1, 0]),
            Self::A420 | Self::Gray8 => None,
        }
    }
}

/// One plane of an [`OutputMut`].
#[derive(Debug, Default)]
pub struct PlaneMut<'a> {
    /// The bytes; the last row need not be padded to the stride.
    pub data: &'a mut [u8],
    /// Bytes from one row to the next.
    pub stride: usize,
}

impl<'a> PlaneMut<'a> {
    fn split_at(self, row: usize) -> (Self, Self) {
        // The last row may end before the stride does.
        let at = (row * self.stride).min(self.data.len());
        let (upper, lower) = self.data.split_at_mut(at);
        let stride = self.stride;
        let half = |data: &'a mut [u8]| Self { data, stride };
        (half(upper), half(lower))
    }
}

/// Where the engine writes a matted frame.
#[derive(Debug)]
pub struct OutputMut<'a> {
    format: OutputFormat,
    width: u32,
    height: u32,
    planes: [PlaneMut<'a>; 4],
    colorimetry: Colorimetry,
}

impl<'a> OutputMut<'a> {
    /// An output of one plane.
    ///
    /// # Errors
    /// As [`OutputMut::with_planes`]; always for a format of several planes.
    pub fn new(
        format: OutputFormat,
        width: u32,
        height: u32,
        data: &'a mut [u8],
        stride: usize,
    ) -> Result<Self> {
        let plane = PlaneMut { data, stride };
        Self::with_planes(format, width, height, [plane], Colorimetry::default())
    }

    /// Checks the planes against the size and the format. `colorimetry` says what luma and chroma are to mean; the
    /// other formats ignore it.
    ///
    /// # Errors
    /// [`Error::Size`], [`Error::Stride`] or [`Error::Buffer`] when the view would reach outside its data.
    pub fn with_planes<const N: usize>(
        format: OutputFormat,
        width: u32,
        height: u32,
        planes: [PlaneMut<'a>; N],
        colorimetry: Colorimetry,
    ) -> Result<Self> {
        check_size("output", width, height)?;
        let mut given = planes.into_iter();
        let planes: [PlaneMut<'a>; 4] = std::array::from_fn(|_| given.next().unwrap_or_default());
        for (i, plane) in planes.iter().enumerate().take(format.planes()) {
            check_plane(
                &|| match format.planes() {
                    1 => "output".to_owned(),
                    _ => format!("output, plane {i}"),
                },
                format.name(),
                (width, height),
                format.plane_size(i, width, height),
                plane.data.len(),
                plane.stride,
            )?;
        }
        Ok(Self {
            format,
            width,
            height,
            planes,
            colorimetry,
        })
    }

    /// Format of the pixels.
    pub fn format(&self) -> OutputFormat {
        self.format
    }

    /// Width and height in pixels.
    pub fn size(&self) -> (u32, u32) {
        (self.width, self.height)
    }

    /// Colorimetry of luma and chroma.
    pub fn colorimetry(&self) -> Colorimetry {
        self.colorimetry
    }

    /// Refuses an output of another size than the frame's.
    pub(crate) fn check_size(&self, expected: (u32, u32)) -> Result<()> {
        check_equal("output", (self.width, self.height), expected)
    }

    /// The same output, to be consumed by a drawing.
    pub(crate) fn reborrow(&mut self) -> OutputMut<'_> {
        OutputMut {
            format: self.format,
            width: self.width,
            height: self.height,
            planes: self.planes.each_mut().map(|plane| PlaneMut {
                data: &mut *plane.data,
                stride: plane.stride,
            }),
            colorimetry: self.colorimetry,
        }
    }

    /// The rows above `row` and the others; `row` is even, so that chroma can be parted too.
    pub(crate) fn split_at_row(self, row: usize) -> (Self, Self) {
        let (format, width) = (self.format, self.width);
        let none = || std::array::from_fn(|_| PlaneMut::default());
        let mut halves: ([PlaneMut<'a>; 4], [PlaneMut<'a>; 4]) = (none(), none());
        for (i, plane) in self.planes.into_iter().enumerate() {
            let (_, rows) = format.plane_size(i, width, row as u32);
            (halves.0[i], halves.1[i]) = plane.split_at(rows);
        }
        let part = |planes, height| Self {
            format,
            width,
            height,
            planes,
            colorimetry: self.colorimetry,
        };
        (
            part(halves.0, row as u32),
            part(halves.1, self.height - row as u32),
        )
    }

    /// Row `y` of a plane, without the padding behind it.
    pub(crate) fn row_mut(&mut self, plane: usize, y: usize) -> &mut [u8] {
        let (row, _) = self.format.plane_size(plane, self.width, self.height);
        let plane = &mut self.planes[plane];
        &mut plane.data[y * plane.stride..][..row]
    }

    /// Rows `y` of the planes U and V.
    pub(crate) fn chroma_rows_mut(&mut self, y: usize) -> (&mut [u8], &mut [u8]) {
        let (row, _) = self.format.plane_size(1, self.width, self.height);
        let [_, u, v, _] = &mut self.planes;
        (
            &mut u.data[y * u.stride..][..row],
            &mut v.data[y * v.stride..][..row],
        )
    }
}

/// A mask: grey, 8 bits, 255 where the target is. It may have any size with the frame's aspect ratio.
#[derive(Debug, Clone, Copy)]
pub struct Mask<'a> {
    width: u32,
    height: u32,
    data: &'a [u8],
    stride: usize,
}

impl<'a> Mask<'a> {
    /// Checks the data against the size.
    ///
    /// # Errors
    /// [`Error::Size`], [`Error::Stride`] or [`Error::Buffer`] when the view would reach outside its data.
    pub fn new(width: u32, height: u32, data: &'a [u8], stride: usize) -> Result<Self> {
        check_size("mask", width, height)?;
        check_plane(
            &|| "mask".to_owned(),
            "GRAY8",
            (width, height),
            (width as usize, height as usize),
            data.len(),
            stride,
        )?;
        Ok(Self {
            width,
            height,
            data,
            stride,
        })
    }

    /// Width and height in pixels.
    pub fn size(&self) -> (u32, u32) {
        (self.width, self.height)
    }

    /// Refuses a mask of another size than the frame's.
    pub(crate) fn check_size(&self, expected: (u32, u32)) -> Result<()> {
        check_equal("mask", (self.width, self.height), expected)
    }

    /// Refuses a mask whose aspect ratio is more than 2 % off that of a frame of this size.
    ///
    /// # Errors
    /// [`Error::MaskAspect`].
    pub fn check_aspect(&self, (frame_width, frame_height): (u32, u32)) -> Result<()> {
        let wide = u64::from(self.width) * u64::from(frame_height);
        let high = u64::from(self.height) * u64::from(frame_width);
        if wide.abs_diff(high) * 50 > wide.max(high) {
            return Err(Error::MaskAspect {
                mask_width: self.width,
                mask_height: self.height,
                frame_width,
                frame_height,
            });
        }
        Ok(())
    }

    pub(crate) fn row(&self, y: usize) -> &'a [u8] {
        &self.data[y * self.stride..][..self.width as usize]
    }

    /// The rows from top to bottom, without the padding behind them.
    pub fn rows(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let mask = *self;
        (0..mask.height as usize).map(move |y| mask.row(y))
    }
}

/// A mask that owns its pixels, read from an image file.
#[derive(Debug, Clone)]
pub struct MaskImage {
    width: u32,
    height: u32,
    data: Vec<u8>,
}

impl MaskImage {
    /// Reads a PNG or JPEG file. A colour image is taken as luma; where the image has an alpha channel that is not
    /// opaque everywhere, that channel is the mask.
    ///
    /// # Errors
    /// [`Error::MaskFile`] when the file is missing, is no such image, or is larger than [`MAX_SIDE`].
    pub fn read(path: impl AsRef<std::path::Path>) -> Result<Self> {
        let path = path.as_ref();
        let fail = |reason: String| Error::MaskFile {
            path: path.to_owned(),
            reason,
        };
        let mut reader = image::ImageReader::open(path)
            .map_err(|e| fail(e.to_string()))?
            .with_guessed_format()
            .map_err(|e| fail(e.to_string()))?;
        let mut limits = image::Limits::default();
        limits.max_image_width = Some(MAX_SIDE);
        limits.max_image_height = Some(MAX_SIDE);
        reader.limits(limits);
        let picture = reader.decode().map_err(|e| fail(e.to_string()))?;
        let (width, height) = (picture.width(), picture.height());
        check_size("mask", width, height)?;
        let data = match picture.color().has_alpha() {
            true => {
                let rgba = picture.to_rgba8();
                let alpha: Vec<u8> = rgba.pixels().map(|p| p.0[3]).collect();
                if alpha.iter().any(|a| *a != 255) {
                    alpha
                } else {
                    picture.to_luma8().into_raw()
                }
            }
            false => picture.to_luma8().into_raw(),
        };
        Ok(Self {
            width,
            height,
            data,
        })
    }

    /// Takes rows without padding.
    pub(crate) fn from_raw(width: u32, height: u32, data: Vec<u8>) -> Self {
        debug_assert_eq!(data.len(), width as usize * height as usize);
        Self {
            width,
            height,
            data,
        }
    }

    /// The pixels as a view.
    pub fn as_mask(&self) -> Mask<'_> {
        Mask {
            width: self.width,
            height: self.height,
            data: &self.data,
            stride: self.width as usize,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn views_refuse_what_would_reach_outside() {
        let data = [0u8; 100];
        let ok = Frame::packed(PixelFormat::Rgb, 5, 6, &data, 16);
        assert!(
            ok.is_ok(),
            "95 bytes are enough: the last row has no padding"
        );
        let short = Frame::packed(PixelFormat::Rgb, 5, 7, &data, 16)
            .unwrap_err()
            .to_string();
        assert_eq!(
            short,
            "frame, plane 0: 100 bytes, but 5x7 RGB with a stride of 16 bytes needs 111"
        );
        let stride = Frame::packed(PixelFormat::Rgb, 6, 2, &data, 16)
            .unwrap_err()
            .to_string();
        assert_eq!(
            stride,
            "frame, plane 0: stride of 16 bytes, but a row of 6 RGB pixels has 18"
        );
        let zero = Frame::packed(PixelFormat::Rgb, 0, 2, &data, 16)
            .unwrap_err()
            .to_string();
        assert_eq!(
            zero,
            "frame: 0x2 pixels, but each side must be from 1 to 16384"
        );
        let overflow = Mask::new(4, 3, &data, usize::MAX / 2)
            .unwrap_err()
            .to_string();
        assert!(
            overflow.contains("needs 18446744073709551615"),
            "{overflow}"
        );
    }

    #[test]
    fn a_planar_frame_needs_all_planes() {
        let data = [0u8; 64];
        let plane = |len: usize, stride| Plane {
            data: &data[..len],
            stride,
        };
        assert!(
            Frame::new(
                PixelFormat::Nv12,
                5,
                5,
                &[plane(25, 5), plane(18, 6)],
                Colorimetry::default()
            )
            .is_ok()
        );
        let missing = Frame::new(
            PixelFormat::I420,
            5,
            5,
            &[plane(25, 5), plane(9, 3)],
            Colorimetry::default(),
        )
        .unwrap_err();
        assert_eq!(
            missing.to_string(),
            "frame, plane 2: stride of 0 bytes, but a row of 5 I420 pixels has 3"
        );
    }

    #[test]
    fn a_missing_or_broken_mask_file_is_named() {
        let missing = MaskImage::read("/nonexistent/mask.png")
            .unwrap_err()
            .to_string();
        assert_eq!(
            missing,
            "mask file /nonexistent/mask.png: No such file or directory (os error 2)"
        );
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mask.png");
        std::fs::write(&path, b"\x89PNG\r\n\x1a\nnot really").unwrap();
        let broken = MaskImage::read(&path).unwrap_err().to_string();
        assert!(
            broken.starts_with(&format!("mask file {}: ", path.display())),
            "{broken}"
        );
    }
}
