//! A pod's mounts: each volume made, and the words that mount it.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::account;
use super::cluster::Cluster;
use super::only;
use super::volumes::{self, FileVolume, Files, Identity};
use crate::harness::eventually;

/// Where a pod's account is mounted.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// A pod's mounts so far.
struct Mounts {
    folder: PathBuf,
    identity: Identity,
    words: Vec<String>,
    settings: Vec<(String, FileVolume)>,
}

impl Mounts {
    fn bind(&mut self, from: &Path, target: &str, read_only: bool) {
        let from = from.display();
        let end = if read_only { ",readonly" } else { "" };
        let words = format!("--mount=type=bind,source={from},target={target}{end}");
        self.words.push(words);
    }

    /// A volume of the StatefulSet's claims.
    fn claim(&mut self, workload: &Value, mount: &Value) {
        let claims = workload["spec"]["volumeClaimTemplates"].as_array();
        let mut claims = claims.into_iter().flatten();
        let found = claims.any(|claim| claim["metadata"]["name"] == mount["name"]);
        assert!(found, "no volume for {mount}");
        let folder = self.folder.join(mount["name"].as_str().unwrap());
        volumes::claim(&folder, self.identity);
        let target = mount["mountPath"].as_str().unwrap();
        self.bind(&folder, target, mount["readOnly"] == true);
    }
}

impl Cluster<'_> {
    /// Makes the pod's volumes: the words that mount them, and those that may change later.
    pub(super) async fn mounts(
        &self,
        workload: &Value,
        pod: &str,
        identity: Identity,
    ) -> (Vec<String>, Vec<(String, FileVolume)>) {
        let spec = &workload["spec"]["template"]["spec"];
        let folder = self.folder.path().join(pod);
        let mut all = Mounts {
            folder,
            identity,
            words: Vec::new(),
            settings: Vec::new(),
        };
        let mounts = spec["containers"][0]["volumeMounts"].as_array();
        for mount in mounts.unwrap() {
            only(mount, &["name", "mountPath", "readOnly"]);
            let is = |volume: &&Value| volume["name"] == mount["name"];
            let volume = spec["volumes"].as_array().unwrap().iter().find(is);
            match volume {
                Some(volume) => self.mount(&mut all, mount, volume).await,
                None => all.claim(workload, mount),
            }
        }
        if spec["automountServiceAccountToken"] == true {
            let name = spec["serviceAccountName"].as_str().unwrap();
            let files = account::files(&self.control, &self.arrangement.namespace, name);
            let mut volume = FileVolume::of_account(all.folder.join("account"), identity);
            volume.write(&files);
            all.bind(volume.folder(), ACCOUNT, true);
        }
        (all.words, all.settings)
    }

    /// A volume of the pod's. Files of ConfigMaps and Secrets are no container's to write, whatever the mount says.
    async fn mount(&self, all: &mut Mounts, mount: &Value, volume: &Value) {
        only(volume, &["name", "configMap", "secret", "emptyDir"]);
        let target = mount["mountPath"].as_str().unwrap();
        let folder = all.folder.join(volume["name"].as_str().unwrap());
        let mode = |of: &Value| u32::try_from(of["defaultMode"].as_u64().unwrap_or(0o644)).unwrap();
        if let Some(name) = volume["configMap"]["name"].as_str() {
            only(&volume["configMap"], &["name", "defaultMode"]);
            let files = text_files(&self.arrangement.find("ConfigMap", name).unwrap()["data"]);
            let mut made = FileVolume::new(folder, all.identity, mode(&volume["configMap"]));
            made.write(&files);
            all.bind(made.folder(), target, true);
            all.settings.push((name.to_owned(), made));
        } else if let Some(name) = volume["secret"]["secretName"].as_str() {
            let secret = &volume["secret"];
            only(secret, &["secretName", "defaultMode", "items"]);
            let mut files = Files::new();
            for item in secret["items"].as_array().unwrap() {
                only(item, &["key", "path"]);
                let [key, path] = ["key", "path"].map(|field| item[field].as_str().unwrap());
                // A pod whose Secret is not there yet waits.
                let what = format!("the Secret `{name}` has `{key}`");
                let text = eventually(&what, async || self.secret(name, key)).await;
                files.insert(path.to_owned(), text.into_bytes());
            }
            let mut made = FileVolume::new(folder, all.identity, mode(secret));
            made.write(&files);
            all.bind(made.folder(), target, true);
        } else {
            let empty = &volume["emptyDir"];
            only(empty, &["medium", "sizeLimit"]);
            assert!(mount["readOnly"].is_null(), "{mount}: nobody could fill it");
            let words = volumes::memory(target, empty, all.identity);
            all.words.push(format!("--tmpfs={words}"));
        }
    }
}

/// A ConfigMap's files.
pub fn text_files(data: &Value) -> Files {
    let pairs = data.as_object().unwrap().iter();
    let pairs = pairs.map(|(name, text)| (name.clone(), text.as_str().unwrap().into()));
    pairs.collect()
}
