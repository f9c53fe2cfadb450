//! Key and value rows in fixed slots: the first frame, reference frames, temporary frames. Shapes never change, so a
//! provider sees the same tensors for ever, and nothing is allocated while frames run.

use ort::memory::Allocator;

use crate::error::{Error, Result};
use crate::matte::next_number;
use crate::runtime::manifest::Element;
use crate::runtime::tensor::{Slots, Tensor};

/// Names a reference frame; never used again after it has been removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReferenceId(pub u64);

/// Sizes of a bank.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BankShape {
    /// Tokens of a frame.
    pub(crate) tokens: usize,
    /// Width of a key row.
    pub(crate) key_row: usize,
    /// Coordinate of a key row that tells filled slots from empty ones.
    pub(crate) valid: usize,
    /// First of the coordinates that hold the place of a token, where a row holds it.
    pub(crate) place: Option<usize>,
    /// Channels of a value.
    pub(crate) value: usize,
    /// Element type of the values.
    pub(crate) element: Element,
    /// Slots for references.
    pub(crate) references: usize,
    /// Slots for temporary frames.
    pub(crate) temporary: usize,
}

impl BankShape {
    pub(crate) fn slots(&self) -> usize {
        1 + self.references + self.temporary
    }
}

/// Added to the similarity of every token of an empty slot: finite, so that no 0 · ∞ arises, and low enough that its
/// softmax weight is exactly 0.
const EMPTY: f32 = -1e9;

/// The memory bank. Slot 0 is the first frame, then come the references, then the ring of temporary frames.
#[derive(Debug)]
pub(crate) struct Bank {
    shape: BankShape,
    keys: Slots,
    values: Slots,
    /// Rows of an empty slot.
    empty_keys: Tensor,
    first: bool,
    references: Vec<Option<ReferenceId>>,
    /// Temporary frames stored since the bank was emptied.
    temporary: u64,
}

impl Bank {
    pub(crate) fn new(allocator: &Allocator, shape: BankShape) -> Result<Self> {
        let keys = Slots::new(
            allocator,
            Element::Float32,
            shape.slots(),
            shape.tokens,
            shape.key_row,
        )?;
        let values = Slots::new(
            allocator,
            shape.element,
            shape.slots(),
            shape.tokens,
            shape.value,
        )?;
        let mut empty_keys =
            Tensor::new(allocator, Element::Float32, &[shape.tokens, shape.key_row])?;
        empty_keys.write(|rows: &mut [f32]| {
            for row in rows.chunks_exact_mut(shape.key_row) {
                row[shape.valid] = EMPTY;
            }
        })?;
        let mut bank = Self {
            shape,
            keys,
            values,
            empty_keys,
            first: false,
            references: vec![None; shape.references],
            temporary: 0,
        };
        bank.clear()?;
        Ok(bank)
    }

    /// All keys, [N,K].
    pub(crate) fn keys(&self) -> &Tensor {
        self.keys.whole()
    }

    /// All values, [N,CV].
    pub(crate) fn values(&self) -> &Tensor {
        self.values.whole()
    }

    /// Holds what another bank of the same network holds, for another size. A slot that is smaller leaves the last rows out.
    pub(crate) fn take(&mut self, other: &mut Self) -> Result<()> {
        self.clear()?;
        let filled: Vec<usize> = other.filled().collect();
        for slot in filled {
            let rows = other.rows(slot)?;
            self.write_rows(slot, &rows)?;
        }
        self.first = other.first;
        self.references.clone_from(&other.references);
        self.temporary = other.temporary;
        Ok(())
    }

    /// Key and value rows of a slot.
    fn rows(&mut self, slot: usize) -> Result<[Vec<f32>; 2]> {
        let keys = self.keys.slot_mut(slot).read_f32()?;
        let values = self.values.slot_mut(slot).read_f32()?;
        Ok([keys, values])
    }

    fn write_rows(&mut self, slot: usize, [keys, values]: &[Vec<f32>; 2]) -> Result<()> {
        self.keys.slot_mut(slot).write_f32(keys)?;
        self.values.slot_mut(slot).write_f32(values)
    }

    /// Writes where in another window the tokens of the filled slots lie, where rows hold their places: y and x in, y and
    /// x out.
    pub(crate) fn move_places(&mut self, moved: impl Fn((f64, f64)) -> (f64, f64)) -> Result<()> {
        let Some(place) = self.shape.place else {
            return Ok(());
        };
        for slot in self.filled().collect::<Vec<usize>>() {
            let slot = self.keys.slot_mut(slot);
            let mut keys = slot.read_f32()?;
            for row in keys.chunks_exact_mut(self.shape.key_row) {
                let [y2, x2, square] = &mut row[place..place + 3] else {
                    continue;
                };
                let (y, x) = moved((f64::from(*y2) / 2.0, f64::from(*x2) / 2.0));
                (*y2, *x2, *square) = ((2.0 * y) as f32, (2.0 * x) as f32, -(y * y + x * x) as f32);
            }
            slot.write_f32(&keys)?;
        }
        Ok(())
    }

    /// Empties every slot. Values stay: a weight of exactly 0 makes them invisible, and they are finite.
    pub(crate) fn clear(&mut self) -> Result<()> {
        for slot in 0..self.shape.slots() {
            self.keys.slot_mut(slot).copy_from(&self.empty_keys)?;
        }
        self.first = false;
        self.references.fill(None);
        self.temporary = 0;
        Ok(())
    }

    /// Slot that the first frame takes; whatever else is stored, but references, is dropped.
    pub(crate) fn begin_first(&mut self) -> Result<usize> {
        for slot in 1 + self.shape.references..self.shape.slots() {
            self.keys.slot_mut(slot).copy_from(&self.empty_keys)?;
        }
        self.temporary = 0;
        self.first = true;
        Ok(0)
    }

    /// What a slot holds becomes the first frame, too.
    pub(crate) fn copy_to_first(&mut self, slot: usize) -> Result<()> {
        let rows = self.rows(slot)?;
        self.write_rows(0, &rows)?;
        self.first = true;
        Ok(())
    }

    /// Slot that the next temporary frame takes: the oldest one's, once all are taken.
    pub(crate) fn next_temporary(&mut self) -> usize {
        let slot = (self.temporary % self.shape.temporary as u64) as usize;
        self.temporary += 1;
        1 + self.shape.references + slot
    }

    /// Whether there is a slot for one more reference.
    ///
    /// # Errors
    /// [`Error::ReferencesFull`].
    pub(crate) fn check_room(&self) -> Result<usize> {
        let limit = self.shape.references as u32;
        let free = self.references.iter().position(Option::is_none);
        free.ok_or(Error::ReferencesFull { limit })
    }

    /// A free reference slot and the name of the reference that takes it.
    pub(crate) fn next_reference(&mut self) -> Result<(usize, ReferenceId)> {
        let free = self.check_room()?;
        let id = ReferenceId(next_number());
        self.references[free] = Some(id);
        Ok((1 + free, id))
    }

    pub(crate) fn remove_reference(&mut self, id: ReferenceId) -> Result<()> {
        let Some(slot) = self.references.iter().position(|r| *r == Some(id)) else {
            let known = self.references.iter().flatten().map(|r| r.0).collect();
            return Err(Error::UnknownReference { id: id.0, known });
        };
        self.keys.slot_mut(1 + slot).copy_from(&self.empty_keys)?;
        self.references[slot] = None;
        Ok(())
    }

    /// Key rows of a slot.
    pub(crate) fn key_slot(&mut self, slot: usize) -> &mut Tensor {
        self.keys.slot_mut(slot)
    }

    /// Value rows of a slot.
    pub(crate) fn value_slot(&mut self, slot: usize) -> &mut Tensor {
        self.values.slot_mut(slot)
    }

    /// Frames stored now: (permanent, temporary).
    pub(crate) fn frames(&self) -> (usize, usize) {
        let permanent = usize::from(self.first) + self.references.iter().flatten().count();
        (
            permanent,
            self.temporary.min(self.shape.temporary as u64) as usize,
        )
    }

    pub(crate) fn shape(&self) -> BankShape {
        self.shape
    }

    /// Slots that hold a frame.
    pub(crate) fn filled(&self) -> impl Iterator<Item = usize> + '_ {
        let references = self.shape.references;
        let (_, temporary) = self.frames();
        let taken = self
            .references
            .iter()
            .enumerate()
            .filter_map(|(i, r)| r.map(|_| 1 + i));
        self.first
            .then_some(0)
            .into_iter()
            .chain(taken)
            .chain((0..temporary).map(move |i| 1 + references + i))
    }
}
