//! What is carried from frame to frame beside the bank.

use ort::memory::Allocator;

use crate::error::Result;
use crate::region::carry;
use crate::runtime::Graph;
use crate::runtime::tensor::Tensor;
use crate::stages::preprocess::{Geometry, STRIDE};

/// Two tensors in turn: a graph reads the current one and writes the other.
#[derive(Debug)]
pub(crate) struct Pair {
    tensors: Option<[Tensor; 2]>,
    current: usize,
}

impl Pair {
    /// Tensors for an input or output of a graph; none if the graph does not have it.
    fn new(allocator: &Allocator, graph: &Graph, name: &str) -> Result<Self> {
        let tensors = match (
            graph.tensor(allocator, name)?,
            graph.tensor(allocator, name)?,
        ) {
            (Some(a), Some(b)) => Some([a, b]),
            _ => None,
        };
        Ok(Self {
            tensors,
            current: 0,
        })
    }

    pub(crate) fn current(&self) -> Option<&Tensor> {
        self.tensors.as_ref().map(|t| &t[self.current])
    }

    pub(crate) fn other(&self) -> Option<&Tensor> {
        self.tensors.as_ref().map(|t| &t[1 - self.current])
    }

    pub(crate) fn other_mut(&mut self) -> Option<&mut Tensor> {
        self.tensors.as_mut().map(|t| &mut t[1 - self.current])
    }

    pub(crate) fn current_mut(&mut self) -> Option<&mut Tensor> {
        self.tensors.as_mut().map(|t| &mut t[self.current])
    }

    /// The current one to read and the other one to write.
    pub(crate) fn split(&mut self) -> (Option<&Tensor>, Option<&mut Tensor>) {
        match &mut self.tensors {
            None => (None, None),
            Some([a, b]) => match self.current {
                0 => (Some(a), Some(b)),
                _ => (Some(b), Some(a)),
            },
        }
    }

    /// What was written last becomes the current one.
    pub(crate) fn swap(&mut self) {
        self.current = 1 - self.current;
    }

    /// What was written last becomes the current one, in its place.
    pub(crate) fn settle(&mut self) -> Result<()> {
        match &mut self.tensors {
            None => Ok(()),
            Some([a, b]) if self.current == 0 => a.copy_from(b),
            Some([a, b]) => b.copy_from(a),
        }
    }

    fn values(&mut self) -> Result<Option<Vec<f32>>> {
        self.current_mut().map(Tensor::read_f32).transpose()
    }

    fn set(&mut self, values: Option<Vec<f32>>) -> Result<()> {
        match (self.current_mut(), values) {
            (Some(tensor), Some(values)) => tensor.write_f32(&values),
            _ => Ok(()),
        }
    }

    fn zero(&mut self) -> Result<()> {
        match &mut self.tensors {
            Some(t) => t[self.current].zero(),
            None => Ok(()),
        }
    }
}

/// The recurrent state of a network. A network that does not have one of these leaves it out.
#[derive(Debug)]
pub(crate) struct State {
    /// Sensory memory, [1,CS,h,w].
    pub(crate) sensory: Pair,
    /// Sums of the object summaries with their area, [1,Q,CE+1].
    pub(crate) object_memory: Pair,
    /// Pixel feature of the last frame, [1,CP,h,w].
    pub(crate) feature: Pair,
    /// Value of the last frame with its own alpha, [1,CV,h,w].
    pub(crate) value: Pair,
    /// 16×16 means of the last padded alpha, [1,1,h,w].
    pub(crate) alpha_16: Pair,
}

/// What of a [`State`] lasts when another window is seen.
#[derive(Debug)]
pub(crate) struct Lasting {
    sensory: Option<Vec<f32>>,
    object_memory: Option<Vec<f32>>,
}

impl State {
    pub(crate) fn new(allocator: &Allocator, matte: &Graph) -> Result<Self> {
        let pair = |name| Pair::new(allocator, matte, name);
        Ok(Self {
            sensory: pair("sensory")?,
            object_memory: pair("object_memory")?,
            feature: match matte.spec().input("last_feature") {
                Some(_) => pair("last_feature")?,
                None => pair("feature")?,
            },
            value: pair("last_value")?,
            alpha_16: pair("last_alpha")?,
        })
    }

    /// What lasts from one window to another, on the host: the sensory memory, brought to where it belongs, and the object
    /// memory. The rest is of one frame, and made anew from its matte.
    pub(crate) fn carried(&mut self, from: &Geometry, to: &Geometry) -> Result<Lasting> {
        let sensory = self.sensory.values()?;
        Ok(Lasting {
            sensory: sensory.map(|map| carry(&map, (from, to), STRIDE, None)),
            object_memory: self.object_memory.values()?,
        })
    }

    pub(crate) fn set(&mut self, lasting: Lasting) -> Result<()> {
        self.sensory.set(lasting.sensory)?;
        self.object_memory.set(lasting.object_memory)
    }

    /// As before the first frame.
    pub(crate) fn clear(&mut self) -> Result<()> {
        self.sensory.zero()?;
        self.object_memory.zero()?;
        self.feature.zero()?;
        self.value.zero()?;
        self.alpha_16.zero()
    }
}
