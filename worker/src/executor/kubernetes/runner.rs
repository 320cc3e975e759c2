//! How the runner gets into pods: as ConfigMaps, made once for each version of it.
//!
//! A ConfigMap holds at most a mebibyte, so the runner is cut; `buildit-start`, small enough to be one whole, puts it
//! together. Compared with an init container this saves each pod a second and a container.

use std::{collections::BTreeMap, io, path::Path};

use futures::FutureExt;
use k8s_openapi::{
    ByteString,
    api::core::v1::{ConfigMap, ConfigMapProjection, KeyToPath, ProjectedVolumeSource, VolumeProjection},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{Api, api::PostParams};
use sha2::{Digest, Sha256};

use super::{Error, cluster};

/// The file of a pod's volume that is executed.
pub(super) const START: &str = "start";
/// Bytes of one ConfigMap.
const PART: usize = 1_000_000;

/// The runner, cut to ConfigMaps.
#[derive(Clone, Debug)]
pub(super) struct Parts {
    maps: Vec<ConfigMap>,
}

impl Parts {
    /// Reads `buildit-start` and `buildit-runner`, both static, from `folder`.
    pub(super) fn read(folder: &Path) -> io::Result<Self> {
        let read = |name: &str| {
            let path = folder.join(name);
            std::fs::read(&path).map_err(|error| io::Error::other(format!("{}: {error}", path.display())))
        };
        let (start, runner) = (read("buildit-start")?, read("buildit-runner")?);
        if start.len() > PART {
            return Err(io::Error::other(format!("buildit-start has {} bytes; is it the static one?", start.len())));
        }
        let hash = Sha256::new().chain_update(&start).chain_update(&runner).finalize();
        let version = hex::encode(&hash[..6]);
        let parts = runner.chunks(PART).enumerate().map(|(number, part)| (format!("part-{number}"), part.to_vec()));
        let files = std::iter::once((START.to_owned(), start)).chain(parts);
        let maps = files.map(|(name, bytes)| map(&version, &name, bytes)).collect();
        Ok(Self { maps })
    }

    /// Makes those ConfigMaps that are not there.
    pub(super) async fn ensure(&self, api: &Api<ConfigMap>) -> Result<(), Error> {
        let create = PostParams::default();
        for map in &self.maps {
            let make = || api.create(&create, map).boxed();
            match cluster::attempt("the runner's ConfigMaps cannot be made", make).await? {
                Err(status) if status.code != 409 => return Err(cluster::not_created(&status)),
                _ => {}
            }
        }
        Ok(())
    }

    /// The pod's volume with all of them, and with `more`.
    pub(super) fn volume_with(&self, more: VolumeProjection) -> ProjectedVolumeSource {
        let source = |map: &ConfigMap| VolumeProjection {
            config_map: Some(ConfigMapProjection {
                name: map.metadata.name.clone().unwrap_or_default(),
                items: Some(map.binary_data.iter().flatten().map(|(key, _)| whole(key)).collect()),
                ..ConfigMapProjection::default()
            }),
            ..VolumeProjection::default()
        };
        let sources = Some(self.maps.iter().map(source).chain([more]).collect());
        ProjectedVolumeSource { default_mode: Some(0o555), sources, ..ProjectedVolumeSource::default() }
    }
}

fn map(version: &str, name: &str, bytes: Vec<u8>) -> ConfigMap {
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(format!("buildit-runner-{version}-{name}")),
            labels: Some([("app.kubernetes.io/managed-by".to_owned(), "buildit".to_owned())].into()),
            ..ObjectMeta::default()
        },
        immutable: Some(true),
        binary_data: Some(BTreeMap::from([(name.to_owned(), ByteString(bytes))])),
        ..ConfigMap::default()
    }
}

fn whole(key: &str) -> KeyToPath {
    KeyToPath { key: key.to_owned(), path: key.to_owned(), ..KeyToPath::default() }
}
