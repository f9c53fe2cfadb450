//! Several targets in one video.

use crate::error::{Error, Result};
use crate::frame::{Frame, Mask, OutputMut, check_equal};
use crate::matte::Matte;
use crate::matter::{FrameReport, MatteState, Matter};
use crate::options::{Options, Policy, SeedMode};
use crate::runtime::{Backend, ModelSet};
use crate::stages::postprocess::Renderer;

/// Names a target of a [`MultiMatter`]; never used again after it has been removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TargetId(pub u64);

/// Which targets are drawn. All are followed, whatever is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Show {
    /// All of them: their union.
    #[default]
    All,
    /// One.
    One(TargetId),
}

#[derive(Debug)]
struct Target {
    id: TargetId,
    matter: Matter,
    matte: Matte,
    report: Option<FrameReport>,
}

/// Several targets of one video, each with a [`Matter`] and a memory of its own.
///
/// Every target costs what a [`Matter`] costs: nothing is shared but the threads, so that one can be named, put right or
/// lost without a trace on the others. Alphas of targets add up, to 1 at most, since different targets cover different
/// parts of a pixel: where two touch, no background shows between them.
#[derive(Debug)]
pub struct MultiMatter {
    models: ModelSet,
    backend: Backend,
    options: Options,
    frame_size: (u32, u32),
    targets: Vec<Target>,
    next: u64,
    show: Show,
    renderer: Renderer,
    union: Matte,
}

impl MultiMatter {
    /// Without targets. Each is named by a mask: [`Options::seed`] is not heeded.
    ///
    /// # Errors
    /// [`Error::Option`] for an option outside its range.
    pub fn new(
        models: &ModelSet,
        backend: Backend,
        options: &Options,
        frame_size: (u32, u32),
    ) -> Result<Self> {
        let options = Options {
            seed: SeedMode::Mask,
            ..options.clone()
        };
        Ok(Self {
            renderer: Renderer::new(&options)?,
            models: models.clone(),
            backend,
            options,
            frame_size,
            targets: Vec::new(),
            next: 0,
            show: Show::All,
            union: Matte::new(),
        })
    }

    /// Adds a target: what the mask covers on the next frame that is processed.
    ///
    /// # Errors
    /// As [`Matter::open`].
    pub fn add(&mut self, mask: &Mask<'_>) -> Result<TargetId> {
        let mut matter = Matter::open(
            &self.models,
            self.backend,
            self.options.clone(),
            self.frame_size,
        )?;
        matter.queue_seed(mask);
        let id = TargetId(self.next);
        self.next += 1;
        self.targets.push(Target {
            id,
            matter,
            matte: Matte::new(),
            report: None,
        });
        Ok(id)
    }

    fn place(&self, id: TargetId) -> Result<usize> {
        self.targets
            .iter()
            .position(|t| t.id == id)
            .ok_or_else(|| Error::UnknownTarget {
                id: id.0,
                known: self.targets.iter().map(|t| t.id.0).collect(),
            })
    }

    /// Removes a target. Where it alone was drawn, nothing is drawn from now on.
    ///
    /// # Errors
    /// [`Error::UnknownTarget`].
    pub fn remove(&mut self, id: TargetId) -> Result<()> {
        let place = self.place(id)?;
        self.targets.remove(place);
        Ok(())
    }

    /// Chooses what is drawn.
    ///
    /// # Errors
    /// [`Error::UnknownTarget`].
    pub fn show(&mut self, show: Show) -> Result<()> {
        if let Show::One(id) = show {
            self.place(id)?;
        }
        self.show = show;
        Ok(())
    }

    /// The targets, in the order in which they were added.
    pub fn targets(&self) -> impl Iterator<Item = TargetId> + '_ {
        self.targets.iter().map(|t| t.id)
    }

    /// The engine of a target: to correct it, to give it references, for its statistics. Options and frame size are to be
    /// set here, not there.
    ///
    /// # Errors
    /// [`Error::UnknownTarget`].
    pub fn matter(&mut self, id: TargetId) -> Result<&mut Matter> {
        let place = self.place(id)?;
        Ok(&mut self.targets[place].matter)
    }

    /// What became of the last frame, for a target; none before its first.
    ///
    /// # Errors
    /// [`Error::UnknownTarget`].
    pub fn report(&self, id: TargetId) -> Result<Option<&FrameReport>> {
        Ok(self.targets[self.place(id)?].report.as_ref())
    }

    /// Changes the options of all targets.
    ///
    /// # Errors
    /// As [`Matter::set_options`]; targets before the one that failed have the new options.
    pub fn set_options(&mut self, options: &Options) -> Result<()> {
        let options = Options {
            seed: SeedMode::Mask,
            ..options.clone()
        };
        self.renderer.set_options(&options)?;
        for target in &mut self.targets {
            target.matter.set_options(options.clone())?;
        }
        self.options = options;
        Ok(())
    }

    /// Takes frames of another size from now on; see [`Matter::resize`].
    ///
    /// # Errors
    /// As [`Matter::resize`]; targets before the one that failed have the new size.
    pub fn resize(&mut self, frame_size: (u32, u32)) -> Result<()> {
        for target in &mut self.targets {
            target.matter.resize(frame_size)?;
        }
        self.frame_size = frame_size;
        Ok(())
    }

    /// Follows all targets on a frame and draws those that are to be shown. A target that has no matte, because its mask
    /// was refused or its network failed, is not drawn; its report says so, the others go on. Without any matte `out`
    /// gets what [`Options::before_seed`] says, or [`Options::on_failure`] where one of the shown failed.
    ///
    /// # Errors
    /// [`Error::FrameSize`] for a frame or output of another size; with [`Policy::Error`] also [`Error::NotSeeded`] and
    /// what the network failed with.
    pub fn process(&mut self, frame: &Frame<'_>, out: &mut OutputMut<'_>) -> Result<()> {
        check_equal("frame", frame.size(), self.frame_size)?;
        out.check_size(frame.size())?;
        let mut failure = None;
        let mut union = std::mem::take(&mut self.union);
        union.clear();
        for target in &mut self.targets {
            let shown = self.show == Show::All || self.show == Show::One(target.id);
            let made = target.matter.predict(frame).and_then(|report| {
                if report.has_matte() && shown {
                    target.matter.snapshot(&mut target.matte)?;
                    union.add(&target.matte);
                }
                Ok(report)
            });
            target.report = Some(match made {
                Ok(report) => report,
                Err(e @ Error::FrameSize { .. }) => {
                    self.union = union;
                    return Err(e);
                }
                Err(e) => {
                    log::error!("target {}: {e}", target.id.0);
                    let report = FrameReport::of(MatteState::Failed(e.to_string()));
                    if shown {
                        failure = Some(e);
                    }
                    report
                }
            });
        }
        let drawn = if union.is_empty() {
            let policy = match failure {
                Some(_) => self.options.on_failure,
                None => self.options.before_seed,
            };
            match policy {
                Policy::Error => Err(failure.unwrap_or(Error::NotSeeded)),
                policy => self.renderer.render_without_matte(policy, frame, out),
            }
        } else {
            // The network that draws edges anew is the same in all of them.
            if let Some(target) = self.targets.first_mut() {
                target.matter.refine_if_it_works(frame, &mut union);
            }
            self.renderer.render(&union, frame, out)
        };
        self.union = union;
        drawn
    }

    /// Brings the memories of all targets up to date; see [`Matter::remember`].
    ///
    /// # Errors
    /// The first of [`Matter::remember`]'s; all targets are tried.
    pub fn remember(&mut self) -> Result<()> {
        let mut result = Ok(());
        for target in &mut self.targets {
            result = result.and(target.matter.remember());
        }
        result
    }
}
