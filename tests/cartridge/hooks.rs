//! What the head publishes reaches its members, whatever is in it.

use std::os::unix::fs::PermissionsExt;

use crate::platform::Application;

/// One that would break a shell, a split at `;`, and a template.
const PASSWORD: &str = r#"p;a='s" $(touch x)\n%41&<é"#;

#[tokio::test]
async fn secrets_are_made_once_and_reach_members() {
    let mut app = Application::new();
    app.create().await;
    app.scale_up().await;
    app.members(1).await;
    let secret = |name: &str| {
        let file = app.head().data_dir().join(name);
        std::fs::read_to_string(file).unwrap().trim().to_owned()
    };
    let member = &app.gears[1];
    for (variable, file) in [
        ("OPENSHIFT_SCS_JOIN_TOKEN", "join-token"),
        ("OPENSHIFT_SCS_SOURCE_PASSWORD", "source-password"),
        ("OPENSHIFT_SCS_ADMIN_PASSWORD", "admin-password"),
    ] {
        assert_eq!(member.variable(variable), secret(file));
        assert!(secret(file).len() >= 16, "{file}");
        let kept = member.cartridge().join("env").join(variable);
        assert_eq!(kept.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        // Made by the head alone.
        assert!(!member.data_dir().join(file).exists(), "{file} on a member");
        assert!(!member.log().contains(&secret(file)));
        assert!(!app.head().log().contains(&secret(file)));
    }
    let before = secret("source-password");
    app.head().control("restart").await.fine();
    assert_eq!(secret("source-password"), before);
}

#[tokio::test]
async fn a_password_of_any_bytes_arrives_whole() {
    let mut app = Application::new();
    app.create().await;
    app.head().set("RELAYCTL_SOURCE_PASSWORD", PASSWORD);
    app.head().control("restart").await.fine();
    app.scale_up().await;
    assert_eq!(
        app.gears[1].variable("OPENSHIFT_SCS_SOURCE_PASSWORD"),
        PASSWORD
    );
    app.members(1).await;
}

#[tokio::test]
async fn a_gear_of_another_station_publishes_nothing() {
    let mut app = Application::new();
    app.create().await;
    app.scale_up().await;
    let hook = app.gears[1]
        .cartridge()
        .join("hooks/publish-relayctl-cluster");
    let said = app.gears[1]
        .shell(&format!("{} g n u", hook.display()))
        .await;
    assert_eq!(said.fine(), "");
}
