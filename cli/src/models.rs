//! `matte models`: which packages there are, and bringing one's own weights.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use matte_core::import::{Checkpoint, Skeleton, WeightSource};
use matte_core::runtime::paths;
use matte_core::{Manifest, Package};

use crate::doctor::package_line;

/// List, import or verify model packages.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List the packages that can be found.
    List,
    /// Fill a network's skeleton with weights that you have downloaded, into the cache.
    Import {
        /// Name of the skeleton, such as matanyone2, or its folder.
        name: String,
        /// The weights: a .safetensors file, as published on the model hub, or a PyTorch checkpoint (.pth), whose
        /// code is not run.
        file: PathBuf,
    },
    /// Check every file of one package, or of all.
    Verify {
        /// Name or folder of the package.
        name: Option<String>,
    },
}

pub(crate) fn run(args: &Args) -> Result<()> {
    match &args.command {
        Command::List => {
            list();
            Ok(())
        }
        Command::Import { name, file } => import(name, file),
        Command::Verify { name } => verify(name.as_deref()),
    }
}

fn list() {
    let packages = Package::list();
    if packages.is_empty() {
        println!("no model packages; looked in:");
        for folder in paths::model_dirs() {
            println!("  {}", folder.display());
        }
    }
    for (path, package) in &packages {
        println!("{}", package_line(path, package));
    }
}

/// A network whose weights are still to come, by name or folder.
pub(crate) fn skeleton(name: &str) -> Result<Skeleton> {
    Ok(if name.contains(['/', '\\']) {
        Skeleton::open(Path::new(name))?
    } else {
        Skeleton::find(name)?
    })
}

fn import(name: &str, file: &Path) -> Result<()> {
    let skeleton = skeleton(name)?;
    let manifest = skeleton.manifest();
    println!(
        "{} {}: licence {}",
        manifest.name, manifest.version, manifest.licence.id
    );
    println!("{}", manifest.licence.text);
    if !manifest.licence.commercial_use {
        println!("Commercial use is not allowed.");
    }
    let target = paths::models_cache().join(&manifest.name);
    let checkpoint = Checkpoint::read(file)?;
    let package = skeleton.import(&WeightSource::Checkpoint(&checkpoint), &target)?;
    println!("imported: {}", package_line(&target, &Ok(package)));
    Ok(())
}

fn verify(name: Option<&str>) -> Result<()> {
    if let Some(name) = name {
        let package = Package::find(name)?;
        println!("ok: {}", package_line(&package.dir.clone(), &Ok(package)));
        return Ok(());
    }
    let mut broken = 0;
    for (path, package) in Package::list() {
        let manifest = Manifest::read(&path.join("manifest.json"));
        match &package {
            Ok(_) => println!("ok: {}", package_line(&path, &package)),
            Err(_) if manifest.is_ok_and(|manifest| manifest.is_skeleton()) => {
                println!("skeleton, no weights yet: {}", path.display());
            }
            Err(error) => {
                println!("broken: {}: {error}", path.display());
                broken += 1;
            }
        }
    }
    if broken > 0 {
        bail!("{broken} packages are broken");
    }
    Ok(())
}
