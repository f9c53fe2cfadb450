//! The learned refinement: the graph `detail` draws the edges of the full-size matte anew, from the full-size picture.
//!
//! The guided filter brings the matte to full size first. Wherever that is not the same all around, tiles of picture and matte
//! go through a small network that has learned what is wrong with such edges; all else stays as it is. To refine patches where
//! the coarse matte is in doubt is the idea of Lin et al., "Real-Time High-Resolution Background Matting", CVPR 2021, section
//! 3.2; here every edge is one.

use crate::error::{Error, Result};
use crate::frame::Frame;
use crate::matte::Matte;
use crate::pixel::bands::{self, Grid};
use crate::pixel::guided::{Spread, Upsampler, rounded};
use crate::pixel::rows::{Planes, YuvToRgb, frame_columns};
use crate::runtime::floats::FlushDenormals;
use crate::runtime::manifest::{DETAIL_PLANES, DETAIL_TILE};
use crate::runtime::tensor::Tensor;
use crate::runtime::{Engine, Graph, Package, Role};
use crate::stages::postprocess::draw_rows;

/// Side of a cell: what is drawn anew is made up of these, in pixels of the frame.
const CELL: usize = 16;
/// Cells of a tile that are kept, across and down.
const CORE: usize = 3;
/// What a tile shows around them, pixels.
const MARGIN: usize = (DETAIL_TILE - CORE * CELL) / 2;
/// How far beyond a cell its surroundings go, pixels.
const AROUND: usize = 4;
/// Steps of 255 by which the matte has to differ around a cell for it to be drawn anew.
const DIFFERS: u8 = 12;
/// Bytes of a tile.
const TILE_BYTES: usize = DETAIL_PLANES * DETAIL_TILE * DETAIL_TILE;
/// Tiles that go through the network at once: enough that the cost of a run is small beside them.
const BATCH: usize = 4;
/// No more tiles than these are drawn in a frame, the uppermost, so that the time that a frame takes has a bound.
const MOST_TILES: usize = 160;
/// How many times larger than the matte the frame may be: the network has been trained for these.
const SCALES: std::ops::RangeInclusive<f64> = 0.9..=3.3;

/// What a thread needs for its rows.
#[derive(Debug, Default)]
struct Strip {
    planes: Planes,
    spread: Spread,
}

impl Strip {
    /// What a row of the full-size matte needs.
    fn rows(&mut self) -> (&mut Planes, &mut Spread) {
        (&mut self.planes, &mut self.spread)
    }
}

/// Which cells of the frame are to be drawn anew.
#[derive(Debug, Default)]
struct Cells {
    columns: usize,
    rows: usize,
    live: Vec<bool>,
    /// Smallest and largest value of every column around a row of cells.
    lowest: Vec<u8>,
    highest: Vec<u8>,
}

impl Cells {
    /// Looks at a full-size matte.
    fn look(&mut self, alpha: &[u8], (width, height): (usize, usize)) {
        (self.columns, self.rows) = (width.div_ceil(CELL), height.div_ceil(CELL));
        self.live.clear();
        let around = |cell: usize, size: usize| {
            (cell * CELL).saturating_sub(AROUND)..(cell * CELL + CELL + AROUND).min(size)
        };
        for row in 0..self.rows {
            for (extreme, pick) in [
                (&mut self.lowest, u8::min as fn(u8, u8) -> u8),
                (&mut self.highest, u8::max),
            ] {
                let rows = around(row, height);
                extreme.clear();
                extreme.extend_from_slice(&alpha[rows.start * width..][..width]);
                for y in rows.skip(1) {
                    for (e, a) in extreme.iter_mut().zip(&alpha[y * width..][..width]) {
                        *e = pick(*e, *a);
                    }
                }
            }
            for column in 0..self.columns {
                let columns = around(column, width);
                let lowest = self.lowest[columns.clone()].iter().min();
                let highest = self.highest[columns].iter().max();
                let differs = highest.unwrap_or(&0) - lowest.unwrap_or(&0);
                self.live.push(differs > DIFFERS);
            }
        }
    }

    fn is_live(&self, column: usize, row: usize) -> bool {
        column < self.columns && row < self.rows && self.live[row * self.columns + column]
    }

    /// Places tiles over all live cells: column and row of the first cell of each, by rows.
    fn place(&self, places: &mut Vec<(usize, usize)>) {
        places.clear();
        let mut row = 0;
        while row < self.rows {
            let first = row * self.columns;
            if !self.live[first..first + self.columns].contains(&true) {
                row += 1;
                continue;
            }
            let mut column = 0;
            while column < self.columns {
                if (row..row + CORE).any(|row| self.is_live(column, row)) {
                    places.push((column, row));
                    column += CORE;
                } else {
                    column += 1;
                }
            }
            row += CORE;
        }
    }
}

/// Copies what a tile shows of a row that is `to.len()` long from `start` on; beyond the row its ends are repeated.
fn copy_columns(row: &[u8], start: isize, to: &mut [u8]) {
    let inside = usize::try_from(start)
        .ok()
        .and_then(|start| row.get(start..start + to.len()));
    if let Some(inside) = inside {
        to.copy_from_slice(inside);
        return;
    }
    let last = row.len() as isize - 1;
    for (x, to) in (start..).zip(to) {
        *to = row[x.clamp(0, last) as usize];
    }
}

/// First column or row that a tile shows, by its first cell; it may lie outside the frame.
fn start_of(cell: usize) -> isize {
    (cell * CELL) as isize - MARGIN as isize
}

/// The graph `detail`, for one thread. Tiles do not depend on each other, and in layers as small as these threads that share
/// one run wait for each other more than they compute.
#[derive(Debug)]
struct Lane {
    graph: Graph,
    tiles: Tensor,
    alpha: Tensor,
    failed: Option<Error>,
}

impl Lane {
    fn open(engine: &Engine, package: &Package) -> Result<Self> {
        let graph = Graph::open(engine, package, "detail", &[("T", BATCH)], Role::Small)?;
        let allocator = graph.allocator(engine)?;
        let exchanged = |name: &str| {
            graph.exchanged(&allocator, name)?.ok_or_else(|| {
                Error::model(&package.dir, format!("graph `detail` has no `{name}`"))
            })
        };
        Ok(Self {
            tiles: exchanged("tiles")?,
            alpha: exchanged("tile_alpha")?,
            graph,
            failed: None,
        })
    }

    /// Runs the network on tiles, in whose last plane it puts the alpha that it draws.
    fn draw(&mut self, tiles: &mut [u8]) -> Result<()> {
        const PLANE: usize = DETAIL_TILE * DETAIL_TILE;
        // The thread is one of those that draw.
        let _guard = FlushDenormals::new();
        for some in tiles.chunks_mut(BATCH * TILE_BYTES) {
            // Where there are fewer, what is left of those before is drawn for nothing.
            self.tiles
                .write(|batch: &mut [u8]| batch[..some.len()].copy_from_slice(some))?;
            self.graph.run(
                &[("tiles", Some(&self.tiles))],
                &mut [("tile_alpha", Some(&mut self.alpha))],
            )?;
            let drawn = self.alpha.read::<f32>()?.chunks_exact(PLANE);
            for (tile, drawn) in some.chunks_exact_mut(TILE_BYTES).zip(drawn) {
                for (to, from) in tile[TILE_BYTES - PLANE..].iter_mut().zip(drawn) {
                    *to = rounded(from * 255.0);
                }
            }
        }
        Ok(())
    }
}

/// Draws edges anew: the graph `detail` on as many threads as draw, and what it needs.
#[derive(Debug)]
pub(crate) struct Detail {
    lanes: Vec<Lane>,
    upsampler: Upsampler,
    strips: Vec<Strip>,
    cells: Cells,
    places: Vec<(usize, usize)>,
    /// All tiles of a frame.
    cut: Vec<u8>,
    /// Whether the last frame could not be drawn.
    fails: bool,
}

impl Detail {
    /// Opens the graph, on the CPU whatever runs the matting network; none where the package has none.
    pub(crate) fn open(engine: &Engine, package: &Package) -> Result<Option<Self>> {
        if !package.manifest.graphs.contains_key("detail") {
            return Ok(None);
        }
        let lanes = bands::count(usize::MAX).min(engine.threads()).max(1);
        let engine = engine.on_one_thread();
        let lanes = (0..lanes).map(|_| Lane::open(&engine, package));
        Ok(Some(Self {
            lanes: lanes.collect::<Result<_>>()?,
            upsampler: Upsampler::default(),
            strips: Vec::new(),
            cells: Cells::default(),
            places: Vec::new(),
            cut: Vec::new(),
            fails: false,
        }))
    }

    /// Whether a matte of this size gains from it on a frame of that size.
    pub(crate) fn serves(low: (usize, usize), full: (usize, usize)) -> bool {
        let area = |(w, h): (usize, usize)| w as f64 * h as f64;
        SCALES.contains(&(area(full) / area(low).max(1.0)).sqrt())
    }

    /// Tells once of frames that could not be drawn.
    pub(crate) fn note(&mut self, drawn: Result<()>) {
        let failed = drawn.is_err();
        if let Err(e) = drawn
            && !self.fails
        {
            log::warn!("edges are not drawn anew: {e}");
        }
        self.fails = failed;
    }

    /// Draws the matte of a frame at full size, into `matte`.
    pub(crate) fn draw(&mut self, frame: &Frame<'_>, matte: &mut Matte) -> Result<()> {
        let Some(geometry) = matte.geometry else {
            return Err(Error::NotSeeded);
        };
        let (size, full) = (geometry.size, geometry.frame);
        let (width, height) = full;
        self.strips
            .resize_with(bands::count(width * height), Strip::default);
        for strip in &mut self.strips {
            strip.planes.resize(width);
            strip.spread.begin(width);
        }
        let guide = (size != full).then_some(matte.picture.as_slice());
        self.upsampler
            .prepare(&mut self.strips, &matte.alpha, guide, size, full);
        matte.full.resize(width * height, 0);
        let (strips, out) = (&mut self.strips, &mut matte.full);
        draw_rows(&self.upsampler, frame, strips, Strip::rows, out);
        let yuv = YuvToRgb::new(frame.colorimetry());
        let drawn = self.draw_tiles(frame, yuv, &mut matte.full);
        if drawn.is_err() {
            matte.full.clear();
        }
        drawn
    }

    fn draw_tiles(&mut self, frame: &Frame<'_>, yuv: YuvToRgb, alpha: &mut [u8]) -> Result<()> {
        let full = (frame.width() as usize, frame.height() as usize);
        self.cells.look(alpha, full);
        let mut places = std::mem::take(&mut self.places);
        self.cells.place(&mut places);
        if places.len() > MOST_TILES {
            log::debug!("{} of {} tiles are drawn", MOST_TILES, places.len());
            places.truncate(MOST_TILES);
        }
        // Tiles overlap: all are cut out before any is drawn, so that each shows the filter's matte, as in the training.
        let mut tiles = std::mem::take(&mut self.cut);
        let need = places.len() * TILE_BYTES;
        if tiles.len() < need {
            tiles.resize(MOST_TILES * TILE_BYTES, 0);
        }
        let mut rest = &mut tiles[..need];
        for row in places.chunk_by(|a, b| a.1 == b.1) {
            let (tiles, below) = rest.split_at_mut(row.len() * TILE_BYTES);
            self.cut_row(frame, yuv, alpha, row, tiles);
            rest = below;
        }
        let rows = Grid {
            data: &mut tiles[..need],
            width: TILE_BYTES,
        };
        bands::each(&mut self.lanes, rows, &|lane: &mut Lane, band, _| {
            lane.failed = lane.draw(band.data).err();
        });
        let failed = self.lanes.iter_mut().find_map(|lane| lane.failed.take());
        if failed.is_none() {
            self.put_back(&places, &tiles, alpha, full);
        }
        (self.places, self.cut) = (places, tiles);
        failed.map_or(Ok(()), Err)
    }

    /// Cuts out the tiles of one row of them: planes of red, green, blue and the matte.
    fn cut_row(
        &mut self,
        frame: &Frame<'_>,
        yuv: YuvToRgb,
        alpha: &[u8],
        places: &[(usize, usize)],
        tiles: &mut [u8],
    ) {
        let (width, height) = (frame.width() as usize, frame.height() as usize);
        let (Some((_, row)), Some(strip)) = (places.first(), self.strips.first_mut()) else {
            return;
        };
        let planes = &mut strip.planes;
        let top = start_of(*row);
        for line in 0..DETAIL_TILE {
            let y = (top + line as isize).clamp(0, height as isize - 1) as usize;
            let matte = &alpha[y * width..][..width];
            for ((column, _), tile) in places.iter().zip(tiles.chunks_exact_mut(TILE_BYTES)) {
                let left = start_of(*column);
                let columns =
                    left.max(0) as usize..((left + DETAIL_TILE as isize) as usize).min(width);
                frame_columns(frame, yuv, y, columns, planes);
                let [r, g, b] = planes.rgb();
                for (plane, source) in [r, g, b, matte].into_iter().enumerate() {
                    let to = (plane * DETAIL_TILE + line) * DETAIL_TILE;
                    copy_columns(source, left, &mut tile[to..to + DETAIL_TILE]);
                }
            }
        }
    }

    /// Puts the live cells of tiles that have been drawn where they belong.
    fn put_back(
        &self,
        places: &[(usize, usize)],
        tiles: &[u8],
        alpha: &mut [u8],
        (width, height): (usize, usize),
    ) {
        for ((column, row), tile) in places.iter().zip(tiles.chunks_exact(TILE_BYTES)) {
            let drawn = &tile[(DETAIL_PLANES - 1) * DETAIL_TILE * DETAIL_TILE..];
            for (i, j) in (0..CORE).flat_map(|j| (0..CORE).map(move |i| (i, j))) {
                if !self.cells.is_live(column + i, row + j) {
                    continue;
                }
                let (left, top) = ((column + i) * CELL, (row + j) * CELL);
                let columns = CELL.min(width - left);
                for line in 0..CELL.min(height - top) {
                    let from = (MARGIN + j * CELL + line) * DETAIL_TILE + MARGIN + i * CELL;
                    alpha[(top + line) * width + left..][..columns]
                        .copy_from_slice(&drawn[from..from + columns]);
                }
            }
        }
    }
}
