//! Tensors that keep their address, and runs of a graph on them.
//!
//! This is the engine's one doorway to raw ONNX Runtime. `ort`'s own `IoBinding` allocates a string per name and a list
//! of outputs per run, and it cannot bind a part of a tensor as an input; binding tensors by pointer does neither
//! allocate nor copy, and serves CPU and CUDA alike.

#![allow(
    unsafe_code,
    reason = "raw bindings of ONNX Runtime; every block says why it is sound"
)]

use std::ffi::CString;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::ptr::{self, NonNull};

use ort::AsPointer as _;
use ort::memory::Allocator;
use ort::session::{IoBinding, NoSelectedOutputs, RunOptions, Session};
use ort::value::{DynTensor, Shape, TensorElementType};

use super::ending::{enter, enter_for, watch};
use super::manifest::Element;
use crate::error::{Doing as _, Error, Result};

impl Element {
    pub(crate) const fn ort(self) -> TensorElementType {
        match self {
            Self::Uint8 => TensorElementType::Uint8,
            Self::Float16 => TensorElementType::Float16,
            Self::Float32 => TensorElementType::Float32,
        }
    }
}

/// Element types that the host reads and writes.
pub(crate) trait Host: Copy + bytemuck_like::Pod {
    const ELEMENT: Element;
}

/// The few plain types that tensors hold; any bit pattern is a value of them.
mod bytemuck_like {
    pub(crate) trait Pod {}
    impl Pod for u8 {}
    impl Pod for f32 {}
    impl Pod for half::f16 {}
}

impl Host for u8 {
    const ELEMENT: Element = Element::Uint8;
}
impl Host for f32 {
    const ELEMENT: Element = Element::Float32;
}
impl Host for half::f16 {
    const ELEMENT: Element = Element::Float16;
}

/// Something of ONNX Runtime's: freed when it is dropped, but left alone once the program is ending.
#[derive(Debug)]
struct Kept<T>(ManuallyDrop<T>);

impl<T> Kept<T> {
    fn new(thing: T) -> Self {
        Self(ManuallyDrop::new(thing))
    }
}

impl<T> Deref for Kept<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for Kept<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

impl<T> Drop for Kept<T> {
    fn drop(&mut self) {
        if let Some(_inside) = enter() {
            // SAFETY: nothing else drops or takes it, and nobody can use it after this.
            unsafe { ManuallyDrop::drop(&mut self.0) }
        }
    }
}

fn dims(shape: &[usize]) -> Shape {
    Shape::new(shape.iter().map(|d| *d as i64))
}

/// A tensor with memory of its own, on the host or on the session's device.
#[derive(Debug)]
pub(crate) struct Tensor {
    value: Kept<DynTensor>,
    element: Element,
    len: usize,
    on_host: bool,
    /// A host copy for tensors that lie on a device.
    staging: Option<Box<Kept<DynTensor>>>,
    /// Whether the device holds something newer than the host copy.
    is_stale: bool,
}

impl Tensor {
    /// Zeros.
    pub(crate) fn new(allocator: &Allocator, element: Element, shape: &[usize]) -> Result<Self> {
        let doing = || format!("allocating a tensor {shape:?} of {}", element.name());
        let _inside = enter_for(doing)?;
        let value = DynTensor::new(allocator, element.ort(), dims(shape)).doing(doing)?;
        let mut tensor = Self {
            on_host: value.memory_info().is_cpu_accessible(),
            value: Kept::new(value),
            element,
            len: shape.iter().product(),
            staging: None,
            is_stale: false,
        };
        if !tensor.on_host {
            // `DynTensor::new` zeroes host memory only.
            DynTensor::new(&Allocator::default(), element.ort(), dims(shape))
                .and_then(|zeros| zeros.copy_into(&mut *tensor.value))
                .doing(doing)?;
            tensor.is_stale = true;
        }
        Ok(tensor)
    }

    /// Zeros, in a tensor that the host writes or reads for every frame.
    pub(crate) fn exchanged(
        allocator: &Allocator,
        element: Element,
        shape: &[usize],
    ) -> Result<Self> {
        let mut tensor = Self::new(allocator, element, shape)?;
        tensor.stage()?;
        tensor.is_stale = false;
        Ok(tensor)
    }

    /// The host copy of a tensor that lies on a device is there from here on.
    fn stage(&mut self) -> Result<()> {
        if self.on_host || self.staging.is_some() {
            return Ok(());
        }
        let doing = || "allocating a host copy".to_owned();
        let _inside = enter_for(doing)?;
        let shape = self.value.shape().clone();
        let staging =
            DynTensor::new(&Allocator::default(), self.element.ort(), shape).doing(doing)?;
        self.staging = Some(Box::new(Kept::new(staging)));
        Ok(())
    }

    fn upload_staging(&mut self) -> Result<()> {
        if let Some(staging) = &self.staging {
            let doing = || "copying to the device".to_owned();
            let _inside = enter_for(doing)?;
            staging.copy_into(&mut *self.value).doing(doing)?;
            self.is_stale = false;
        }
        Ok(())
    }

    fn download_staging(&mut self) -> Result<()> {
        self.stage()?;
        if !self.is_stale {
            return Ok(());
        }
        if let Some(staging) = &mut self.staging {
            let doing = || "copying from the device".to_owned();
            let _inside = enter_for(doing)?;
            self.value.copy_into(&mut ***staging).doing(doing)?;
            self.is_stale = false;
        }
        Ok(())
    }

    /// What the host reads and writes; `None` of a tensor on a device of which it has no copy.
    fn host(&self) -> Option<&DynTensor> {
        match &self.staging {
            Some(staging) => Some(staging),
            None => self.on_host.then_some(&self.value),
        }
    }

    fn host_slice<T: Host>(&self) -> &[T] {
        assert_eq!(
            T::ELEMENT,
            self.element,
            "tensors are read as what they were made as"
        );
        let Some(host) = self.host() else {
            return &[];
        };
        let data = host.data_ptr().cast::<T>();
        // SAFETY: `len` elements of this type lie on the host: memory of ONNX Runtime's, aligned to 64 bytes, or a slot of such
        // memory, which begins at a multiple of the element's size in it. All of it was zeroed when the tensor, or the one
        // that the slot is a part of, was made, so it is initialised; every bit pattern is a value of `T`. Runs write to the
        // memory only through `Graph::run`, which borrows the tensor mutably.
        unsafe { std::slice::from_raw_parts(data, self.len) }
    }

    fn host_slice_mut<T: Host>(&mut self) -> &mut [T] {
        assert_eq!(
            T::ELEMENT,
            self.element,
            "tensors are written as what they were made as"
        );
        let value = match &mut self.staging {
            Some(staging) => staging.as_mut(),
            None if self.on_host => &mut self.value,
            None => return &mut [],
        };
        let data = value.data_ptr_mut().cast::<T>();
        // SAFETY: as in `host_slice`; `&mut self` excludes every other access.
        unsafe { std::slice::from_raw_parts_mut(data, self.len) }
    }

    /// Lets `write` set the elements, then brings them to the device. Of a tensor that lies there it finds what the host
    /// wrote or read last: to change a part, [`read`](Tensor::read) first.
    pub(crate) fn write<T: Host>(&mut self, write: impl FnOnce(&mut [T])) -> Result<()> {
        self.stage()?;
        write(self.host_slice_mut());
        self.upload_staging()
    }

    /// The elements, brought from the device if they lie there.
    pub(crate) fn read<T: Host>(&mut self) -> Result<&[T]> {
        self.download_staging()?;
        Ok(self.host_slice())
    }

    /// The elements as the host wrote or read them last.
    pub(crate) fn host_view<T: Host>(&self) -> &[T] {
        self.host_slice()
    }

    /// The elements of a floating-point tensor as f32.
    pub(crate) fn read_f32(&mut self) -> Result<Vec<f32>> {
        Ok(match self.element {
            Element::Float16 => self
                .read::<half::f16>()?
                .iter()
                .map(|v| v.to_f32())
                .collect(),
            Element::Float32 => self.read::<f32>()?.to_vec(),
            Element::Uint8 => self.read::<u8>()?.iter().map(|v| f32::from(*v)).collect(),
        })
    }

    /// Sets the elements of a floating-point tensor: as many as there are on both sides. The others stay.
    pub(crate) fn write_f32(&mut self, values: &[f32]) -> Result<()> {
        if values.len() < self.len {
            self.download_staging()?;
        }
        match self.element {
            Element::Float16 => self.write(|all: &mut [half::f16]| {
                for (to, from) in all.iter_mut().zip(values) {
                    *to = half::f16::from_f32(*from);
                }
            }),
            _ => self.write(|all: &mut [f32]| {
                let count = all.len().min(values.len());
                all[..count].copy_from_slice(&values[..count]);
            }),
        }
    }

    /// Sets all elements to one value.
    pub(crate) fn fill<T: Host>(&mut self, value: T) -> Result<()> {
        self.write(|all: &mut [T]| all.fill(value))
    }

    /// As [`fill`](Self::fill); what is there already is not brought to the device again.
    pub(crate) fn set<T: Host + PartialEq>(&mut self, value: T) -> Result<()> {
        if !self.is_stale && self.host_slice::<T>().iter().all(|v| *v == value) {
            return Ok(());
        }
        self.fill(value)
    }

    /// Sets all elements to 0.
    pub(crate) fn zero(&mut self) -> Result<()> {
        match self.element {
            Element::Uint8 => self.fill(0u8),
            Element::Float16 => self.fill(half::f16::ZERO),
            Element::Float32 => self.fill(0f32),
        }
    }

    /// Copies all elements; both have the same type and shape.
    pub(crate) fn copy_from(&mut self, source: &Tensor) -> Result<()> {
        if self.on_host
            && source.on_host
            && self.element == source.element
            && self.len == source.len
        {
            let bytes = self.len * self.element.bytes();
            // SAFETY: both are host tensors of `len` elements of the same size, and `&mut self` keeps them from being
            // the same one.
            unsafe {
                ptr::copy_nonoverlapping(
                    source.value.data_ptr().cast::<u8>(),
                    self.value.data_ptr_mut().cast::<u8>(),
                    bytes,
                );
            }
            return Ok(());
        }
        let doing = || "copying between tensors".to_owned();
        let _inside = enter_for(doing)?;
        self.is_stale = !self.on_host;
        source.value.copy_into(&mut *self.value).doing(doing)
    }
}

/// A matrix of which blocks of rows are tensors in their own right: the slots of the memory bank.
#[derive(Debug)]
pub(crate) struct Slots {
    // Declared before `whole`, so dropped before the memory that they point into.
    slots: Vec<Tensor>,
    whole: Tensor,
}

impl Slots {
    /// `count` slots of `rows` × `width` elements each.
    pub(crate) fn new(
        allocator: &Allocator,
        element: Element,
        count: usize,
        rows: usize,
        width: usize,
    ) -> Result<Self> {
        let doing = || "making a view of the memory bank".to_owned();
        let _inside = enter_for(doing)?;
        let mut whole = Tensor::new(allocator, element, &[count * rows, width])?;
        let base = whole.value.data_ptr_mut();
        let bytes = rows * width * element.bytes();
        let shape = [rows as i64, width as i64];
        let slots = (0..count)
            .map(|i| {
                let mut view = ptr::null_mut();
                // SAFETY: the memory info is that of `whole`. The range lies inside `whole`'s memory, which has `count`
                // times `bytes` bytes, and stays there as long as `whole`: `Slots` owns both, never hands out or
                // replaces either and drops the views first. ONNX Runtime does not free memory that a tensor was
                // created with.
                let status = unsafe {
                    (ort::api().CreateTensorWithDataAsOrtValue)(
                        whole.value.memory_info().ptr(),
                        base.byte_add(i * bytes),
                        bytes,
                        shape.as_ptr(),
                        shape.len(),
                        element.ort().into(),
                        &raw mut view,
                    )
                };
                check(status, doing)?;
                let view = NonNull::new(view).ok_or_else(|| Error::Ort {
                    doing: doing(),
                    source: ort::Error::new("no value was returned"),
                })?;
                // SAFETY: `view` is a tensor that was just created, and nobody else owns it. The allocator is the one
                // of the memory that it looks at.
                let value: DynTensor = unsafe { DynTensor::from_ptr(view, Some(allocator)) };
                Ok(Tensor {
                    value: Kept::new(value),
                    element,
                    len: rows * width,
                    on_host: whole.on_host,
                    staging: None,
                    is_stale: !whole.on_host,
                })
            })
            .collect::<Result<_>>()?;
        Ok(Self { slots, whole })
    }

    /// All slots as one matrix.
    pub(crate) fn whole(&self) -> &Tensor {
        &self.whole
    }

    /// One slot.
    pub(crate) fn slot_mut(&mut self, i: usize) -> &mut Tensor {
        &mut self.slots[i]
    }
}

fn check(status: ort::sys::OrtStatusPtr, doing: impl FnOnce() -> String) -> Result<()> {
    // SAFETY: the status comes straight from a call of ONNX Runtime, and is consumed once, here.
    unsafe { ort::Error::result_from_status(status) }.doing(doing)
}

/// A session with a binding that is used again for every run.
#[derive(Debug)]
pub(crate) struct BoundSession {
    session: Kept<Session>,
    binding: Kept<IoBinding>,
    inputs: Vec<(String, CString)>,
    outputs: Vec<(String, CString)>,
    has_run: bool,
    captures: Option<Captures>,
}

/// What a session does for one set of addresses, recorded once and then replayed as a whole: a CUDA graph for each.
#[derive(Default)]
struct Captures {
    /// Addresses of inputs and outputs, and the options that name their graph.
    known: Vec<(Vec<usize>, Kept<RunOptions<NoSelectedOutputs>>)>,
    /// Of this run.
    addresses: Vec<usize>,
    /// Of runs that are not recorded.
    unrecorded: Option<Kept<RunOptions<NoSelectedOutputs>>>,
}

impl std::fmt::Debug for Captures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Captures({})", self.known.len())
    }
}

impl Captures {
    /// Tensors change places in pairs, so there are a few sets of addresses; what comes after so many is not recorded.
    const MOST: usize = 64;

    /// Options of a run on tensors at these addresses.
    fn options(
        &mut self,
        addresses: impl Iterator<Item = usize>,
    ) -> ort::Result<*const ort::sys::OrtRunOptions> {
        self.addresses.clear();
        self.addresses.extend(addresses);
        if let Some((_, options)) = self.known.iter().find(|(a, _)| *a == self.addresses) {
            return Ok(options.ptr());
        }
        if self.known.len() >= Self::MOST {
            let options = match &mut self.unrecorded {
                Some(options) => options,
                none => none.insert(named("-1")?),
            };
            return Ok(options.ptr());
        }
        let options = named(&self.known.len().to_string())?;
        let pointer = options.ptr();
        self.known.push((self.addresses.clone(), options));
        Ok(pointer)
    }
}

/// Options that name a CUDA graph.
fn named(id: &str) -> ort::Result<Kept<RunOptions<NoSelectedOutputs>>> {
    let mut options = RunOptions::new()?;
    options.set("gpu_graph_id", id)?;
    Ok(Kept::new(options))
}

impl BoundSession {
    /// With `captures` for a session that records what it does.
    pub(crate) fn new(session: Session, captures: bool) -> Result<Self> {
        let session = Kept::new(session);
        let names = |all: &[ort::value::Outlet]| {
            all.iter()
                .filter_map(|o| Some((o.name().to_owned(), CString::new(o.name()).ok()?)))
                .collect::<Vec<_>>()
        };
        let inputs = names(session.inputs());
        let outputs = names(session.outputs());
        let doing = || "creating a binding".to_owned();
        let _inside = enter_for(doing)?;
        let binding = Kept::new(session.create_binding().doing(doing)?);
        Ok(Self {
            session,
            binding,
            inputs,
            outputs,
            has_run: false,
            captures: captures.then(Captures::default),
        })
    }

    pub(crate) fn records(&self) -> bool {
        self.captures.is_some()
    }

    pub(crate) fn session(&self) -> &Session {
        &self.session
    }

    /// Runs the graph. Absent tensors and names that the graph does not have are skipped; an input that nobody binds is
    /// an error of the run.
    pub(crate) fn run(
        &mut self,
        inputs: &[(&str, Option<&Tensor>)],
        outputs: &mut [(&str, Option<&mut Tensor>)],
        doing: &'static str,
    ) -> Result<()> {
        let _inside = enter_for(|| doing.to_owned())?;
        let api = ort::api();
        let binding = self.binding.ptr_mut();
        for (name, tensor) in inputs {
            let Some(tensor) = tensor else { continue };
            if let Some((_, c_name)) = self.inputs.iter().find(|(n, _)| n == name) {
                // SAFETY: binding and value are alive, the name ends in NUL. ONNX Runtime keeps a reference of its own
                // to the value. It reads through it only in the run below, while `inputs` borrows the tensor; the next
                // call of this function binds every input anew before it runs.
                let status =
                    unsafe { (api.BindInput)(binding, c_name.as_ptr(), tensor.value.ptr()) };
                check(status, || format!("{doing}: binding input `{name}`"))?;
            }
        }
        for (name, tensor) in outputs.iter_mut() {
            let Some(tensor) = tensor else { continue };
            if let Some((_, c_name)) = self.outputs.iter().find(|(n, _)| n == name) {
                tensor.is_stale = !tensor.on_host;
                // SAFETY: as above; ONNX Runtime writes only in the run below, while `outputs` borrows the tensor
                // mutably, so no input of this run and no slice of the host is the same memory.
                let status =
                    unsafe { (api.BindOutput)(binding, c_name.as_ptr(), tensor.value.ptr()) };
                check(status, || format!("{doing}: binding output `{name}`"))?;
            }
        }
        let options = match &mut self.captures {
            Some(captures) => {
                let read = inputs.iter().filter_map(|(_, tensor)| *tensor);
                let written = outputs.iter().filter_map(|(_, tensor)| tensor.as_deref());
                let bound = read.chain(written).map(|t| t.value.data_ptr().addr());
                captures.options(bound).doing(|| doing.to_owned())?
            }
            None => ptr::null(),
        };
        // SAFETY: session and binding belong together and are alive; `&mut self` keeps a second run away. The options are
        // the session's own and alive; null options are the defaults.
        let status = unsafe { (api.RunWithBinding)(self.session.ptr_mut(), options, binding) };
        if !std::mem::replace(&mut self.has_run, true) {
            watch();
        }
        check(status, || doing.to_owned())
    }
}
