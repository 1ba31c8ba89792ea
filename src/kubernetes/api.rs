//! The API server as a pod sees it: an address in the environment, a token and an authority in files.

use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::Value;

use crate::discovery::{http_client, http_client_trusting, read_at_most};

/// Where the platform mounts a pod's service account.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// A question to the API server takes at most this long.
const PATIENCE: Duration = Duration::from_secs(10);

/// Most bytes that an answer may have: a Secret is at most 1 MiB, half as much again in base64.
const MAX_ANSWER: usize = 2 * 1024 * 1024;

/// Why Kubernetes did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The process is in no pod.
    #[error(
        "`kubernetes.secret` and `kubernetes.deletion_cost` work in a pod only: KUBERNETES_SERVICE_HOST is not set"
    )]
    NoPod,
    /// The account's files are not there.
    #[error("cannot read `{path}`: {why}; set `automountServiceAccountToken: true` on the pod")]
    Account {
        /// Which file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// The role lacks a verb.
    #[error(
        "the pod's service account may not {verb} {what} (HTTP {status}): apply the Role of deploy/kubernetes/base"
    )]
    Forbidden {
        /// get, create, patch.
        verb: &'static str,
        /// Kind and name.
        what: String,
        /// 401 or 403.
        status: u16,
    },
    /// Somebody else changed it at the same moment.
    #[error("{0} was made by somebody else at the same moment")]
    Conflict(String),
    /// No answer, or one that says no more than its number.
    #[error("cannot {verb} {what}: {why}")]
    Failed {
        /// get, create, patch.
        verb: &'static str,
        /// Kind and name.
        what: String,
        /// Why.
        why: String,
    },
}

/// The API server, asked as this pod.
#[derive(Debug, Clone)]
pub struct Api {
    client: reqwest::Client,
    base: String,
    namespace: String,
    token: PathBuf,
}

impl Api {
    /// The one that the platform names in `environment`.
    ///
    /// # Errors
    /// Where this is no pod, or its account is not mounted.
    pub fn of_pod(environment: &[(String, String)]) -> Result<Self, ApiError> {
        let variable = |wanted: &str| {
            let mut pairs = environment.iter();
            pairs
                .find(|(name, value)| name == wanted && !value.is_empty())
                .map(|(_, value)| value.as_str())
        };
        let host = variable("KUBERNETES_SERVICE_HOST").ok_or(ApiError::NoPod)?;
        let port = variable("KUBERNETES_SERVICE_PORT").unwrap_or("443");
        let host = if host.contains(':') {
            format!("[{host}]")
        } else {
            host.to_owned()
        };
        let account = Path::new(ACCOUNT);
        let authority = read(&account.join("ca.crt"))?;
        Self::at(format!("https://{host}:{port}"), account, Some(&authority))
    }

    /// The one at `base` with the account in `account`, trusting `authority` (PEM) alone where it is given.
    ///
    /// # Errors
    /// Where the account's files cannot be read or the authority is no certificate.
    pub fn at(base: String, account: &Path, authority: Option<&str>) -> Result<Self, ApiError> {
        let broken = |why: String| ApiError::Account {
            path: account.join("ca.crt"),
            why,
        };
        let client = match authority {
            Some(pem) => {
                let bundle = reqwest::Certificate::from_pem_bundle(pem.as_bytes());
                http_client_trusting(bundle.map_err(|error| broken(error.to_string()))?)
            }
            None => http_client(),
        };
        let client = client.timeout(PATIENCE).no_proxy().build();
        Ok(Self {
            client: client.map_err(|error| broken(error.to_string()))?,
            base,
            namespace: read(&account.join("namespace"))?.trim().to_owned(),
            token: account.join("token"),
        })
    }

    /// `secrets/NAME` or `pods/NAME` in the pod's own namespace; none where there is no such thing.
    pub(super) async fn get(&self, what: &str) -> Result<Option<Value>, ApiError> {
        match self.ask(Method::GET, "get", what, None).await? {
            (StatusCode::NOT_FOUND, _) => Ok(None),
            (_, body) => Ok(Some(body)),
        }
    }

    /// Makes an object of the plural `kind`.
    pub(super) async fn create(&self, kind: &str, object: &Value) -> Result<(), ApiError> {
        let (status, _) = self.ask(Method::POST, "create", kind, Some(object)).await?;
        match status {
            StatusCode::CONFLICT => Err(ApiError::Conflict(kind.to_owned())),
            _ => Ok(()),
        }
    }

    /// Changes parts of an object (RFC 7396); false where there is no such thing.
    pub(super) async fn patch(&self, what: &str, change: &Value) -> Result<bool, ApiError> {
        let (status, _) = self.ask(Method::PATCH, "patch", what, Some(change)).await?;
        Ok(status != StatusCode::NOT_FOUND)
    }

    async fn ask(
        &self,
        method: Method,
        verb: &'static str,
        what: &str,
        body: Option<&Value>,
    ) -> Result<(StatusCode, Value), ApiError> {
        let failed = |why: String| ApiError::Failed {
            verb,
            what: what.to_owned(),
            why,
        };
        let url = format!("{}/api/v1/namespaces/{}/{what}", self.base, self.namespace);
        // Read anew each time: the platform changes it within the hour.
        let mut request = self
            .client
            .request(method.clone(), url)
            .bearer_auth(read(&self.token)?.trim());
        if let Some(body) = body {
            let kind = match method {
                Method::PATCH => "application/merge-patch+json",
                _ => "application/json",
            };
            request = request.header("Content-Type", kind).body(body.to_string());
        }
        let answer = request
            .send()
            .await
            .map_err(|error| failed(causes(&error)))?;
        let status = answer.status();
        let text = read_at_most(answer, MAX_ANSWER).await;
        let text = text.map_err(|error| failed(causes(&error)))?;
        match status {
            StatusCode::NOT_FOUND | StatusCode::CONFLICT => Ok((status, Value::Null)),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(ApiError::Forbidden {
                verb,
                what: what.to_owned(),
                status: status.as_u16(),
            }),
            status if status.is_success() => serde_json::from_slice(&text)
                .map(|body| (status, body))
                .map_err(|error| failed(error.to_string())),
            status => Err(failed(format!("HTTP {}", status.as_u16()))),
        }
    }
}

fn read(path: &Path) -> Result<String, ApiError> {
    std::fs::read_to_string(path).map_err(|error| ApiError::Account {
        path: path.to_owned(),
        why: error.to_string(),
    })
}

/// An error and what lies under it: reqwest's own text ends before the cause.
fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(below) = cause {
        text = format!("{text}: {below}");
        cause = below.source();
    }
    text
}
