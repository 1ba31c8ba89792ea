//! What the platform reads before it runs anything.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::harness::program::{output_of, tool};
use crate::platform::{source, yaml};

#[test]
fn the_manifest_says_what_the_platform_asks() {
    let manifest = yaml(&source().join("metadata/manifest.yml"));
    for key in [
        "Name",
        "Cartridge-Short-Name",
        "Version",
        "Cartridge-Version",
        "Cartridge-Vendor",
    ] {
        assert!(manifest[key].is_string(), "{key}");
    }
    assert_eq!(manifest["Cartridge-Version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(manifest["Cartridge-Short-Name"], "SCS");
    let categories = manifest["Categories"].as_array().unwrap();
    assert!(
        categories
            .iter()
            .any(|category| category == "web_framework")
    );
    assert_eq!(
        (&manifest["Scaling"]["Min"], &manifest["Scaling"]["Max"]),
        (&1.into(), &(-1).into())
    );
    let endpoints = manifest["Endpoints"].as_array().unwrap();
    // The balancer takes the first, and its variables by these very names.
    assert_eq!(endpoints[0]["Private-IP-Name"], "IP");
    assert_eq!(endpoints[0]["Private-Port-Name"], "PORT");
    assert_eq!(endpoints[0]["Mappings"][0]["Frontend"], "");
    assert_eq!(endpoints.len(), 2);
    for endpoint in endpoints {
        assert!(endpoint["Public-Port-Name"].is_string());
    }
    assert_eq!(endpoints[1]["Protocols"][0], "tcp");
    assert!(
        endpoints[1]["Mappings"].is_null(),
        "no front end before sources"
    );
    // Both sides of every event of our own have their script, and are of one type.
    for (side, name) in [
        ("Publishes", "publish-relayctl-cluster"),
        ("Subscribes", "set-relayctl-cluster"),
    ] {
        assert_eq!(
            manifest[side][name]["Type"],
            "NET_TCP:relayctl-cluster-info"
        );
        let script = source().join("hooks").join(name);
        assert_eq!(
            script.metadata().unwrap().permissions().mode() & 0o111,
            0o111
        );
    }
    for reserved in ["publish-http-url", "publish-gear-endpoint"] {
        assert!(manifest["Publishes"][reserved]["Type"].is_string());
    }
    // Nobody's host but the operator's.
    let text = fs::read_to_string(source().join("metadata/manifest.yml")).unwrap();
    assert!(!text.contains("://"));
}

#[test]
fn every_script_may_be_executed() {
    let mut seen = 0;
    for folder in ["bin", "hooks", "template/.openshift/action_hooks"] {
        for entry in fs::read_dir(source().join(folder)).unwrap().flatten() {
            let mode = entry.metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o111, 0o111, "{}", entry.path().display());
            seen += 1;
        }
    }
    assert!(seen > 7, "{seen}");
}

#[tokio::test]
async fn shellcheck_finds_nothing() {
    let mut check = tool("shellcheck", "shellcheck");
    check.args(["-x", "--source-path=SCRIPTDIR"]);
    for folder in ["bin", "hooks"] {
        check.args(
            fs::read_dir(source().join(folder))
                .unwrap()
                .map(|entry| entry.unwrap().path()),
        );
    }
    check
        .arg(source().join("usr/lib/gear"))
        .arg(source().join("pack"));
    output_of(check).await;
}

#[tokio::test]
async fn every_setting_in_the_readme_is_one() {
    let readme = fs::read_to_string(source().join("README.md")).unwrap();
    let known = relayctl_settings();
    let rows: Vec<&str> = readme
        .lines()
        .filter(|line| line.starts_with("| `"))
        .collect();
    let mut seen = 0;
    for row in rows {
        let first = row.split('|').nth(1).unwrap();
        for name in first.split('`').skip(1).step_by(2) {
            if !name.starts_with("OPENSHIFT") && !name.starts_with('_') {
                assert!(known.contains(&format!("| `{name}` |")), "{name}");
                seen += 1;
            }
        }
    }
    assert!(seen > 6, "{seen}");
}

fn relayctl_settings() -> String {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/settings.md");
    fs::read_to_string(file).unwrap()
}
