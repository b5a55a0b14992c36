//! A server and a token: what is read with it, and why something cannot be.

use std::sync::Arc;

use reqwest::StatusCode;
use tokio::sync::{Mutex, OnceCell};

use crate::failure::Failure;

use super::VaultSource;
use super::answer::Answer;
use super::call::Call;
use super::farewell;
use super::login;
use super::mount::Mount;
use super::reach::Reach;
use super::secret::Found;
use super::server::Server;
use super::site::Site;
use super::token::Token;

/// A server where we are logged in.
pub(super) struct Session {
    server: Server,
    /// None where an agent before the server has one.
    token: Option<Token>,
    /// The mounts that were met, each asked about once.
    mounts: Mutex<Vec<Mount>>,
    /// Whether the server knows the token, asked at the first refusal.
    token_is_good: OnceCell<bool>,
}

/// What is at a path.
pub(super) enum Looked {
    Found(Found),
    /// Nothing: neither deleted nor denied.
    Nothing(Mount),
}

impl Session {
    /// Finds the server and logs in there.
    pub(super) async fn open(site: Site<'_>) -> Result<Arc<Self>, Failure> {
        let reach = Reach::of(site)?;
        let server = Server::new(site, &reach)?;
        let token = login::token(&server, site, &reach).await?;
        let session = Arc::new(Self {
            server,
            token,
            mounts: Mutex::default(),
            token_is_good: OnceCell::new(),
        });
        // Nothing is awaited in between: a token that was made is one that will be revoked.
        farewell::expect(&session);
        Ok(session)
    }

    /// Revokes the token if it was made for this run.
    pub(super) async fn end(&self) -> Result<(), Failure> {
        match &self.token {
            Some(token) => token.end(&self.server).await,
            None => Ok(()),
        }
    }

    /// How messages call the server.
    pub(super) fn place(&self) -> &str {
        self.server.place()
    }

    /// Reads the secret of an origin.
    pub(super) async fn read(&self, source: &VaultSource) -> Result<Found, Failure> {
        match self.look(source).await? {
            Looked::Found(found) => Ok(found),
            Looked::Nothing(mount) => {
                let path = &source.path.0;
                Err(mount.nothing(path).at(path))
            }
        }
    }

    /// Says what is at the path of an origin.
    pub(super) async fn look(&self, source: &VaultSource) -> Result<Looked, Failure> {
        let path = &source.path.0;
        let mount = match &source.mount {
            Some(mount) => mount.clone(),
            None => self.mount(path).await?,
        };
        let call = mount.read(path, source.version).map_err(|f| f.at(path))?;
        let answer = self.ask(&call).await?;
        let failure = match answer.status {
            StatusCode::OK => return Ok(Looked::Found(Found { answer, mount })),
            StatusCode::FORBIDDEN => self.denied(&mount, path, "read").await,
            StatusCode::NOT_FOUND => match Found::absent(&answer, path) {
                Some(failure) => failure,
                None => return Ok(Looked::Nothing(mount)),
            },
            _ => answer.failure("Vault"),
        };
        Err(failure.at(path))
    }

    /// Makes a request as who we are.
    pub(super) async fn ask(&self, call: &Call) -> Result<Answer, Failure> {
        let token = self.token.as_ref().map(Token::header);
        self.server.send(call, token).await
    }

    /// Returns the mount that holds `path`. The lock is held while asking: the others mostly want the same mount.
    async fn mount(&self, path: &str) -> Result<Mount, Failure> {
        let mut mounts = self.mounts.lock().await;
        if let Some(mount) = mounts.iter().find(|mount| path.starts_with(&mount.path)) {
            return Ok(mount.clone());
        }
        let answer = self.ask(&Mount::asked(path)).await?;
        let mount = match answer.status {
            StatusCode::OK => Mount::parse(&answer, path),
            StatusCode::FORBIDDEN => Err(self.no_mount(path).await),
            // Before 0.10 there was version 1 alone, and nobody to ask.
            StatusCode::NOT_FOUND => Err(Failure::source(
                "this server does not say what is mounted (404)",
            )
            .hint("say it: `engine = 1` or `engine = 2` beside `path`")),
            _ => Err(answer.failure("Vault")),
        };
        let mount = mount.map_err(|failure| failure.at(path))?;
        mounts.push(mount.clone());
        Ok(mount)
    }

    /// Vault answers 403 for a mount that is not there, too.
    pub(super) async fn no_mount(&self, path: &str) -> Failure {
        if !self.token_is_good().await {
            return token_refused();
        }
        let first = path.split('/').next().unwrap_or(path);
        Failure::source(format!("no mount `{first}/`, or none that the token may use (403)"))
            .hint("`vault secrets list` shows the mounts; a namespace goes into `namespace` under [vault]")
    }

    /// Says why the token may not do `what` there.
    pub(super) async fn denied(&self, mount: &Mount, path: &str, what: &str) -> Failure {
        self.refused(what, &mount.policy_path(path)).await
    }

    /// Says why the token may not do `what` at a path as policies name it.
    pub(super) async fn refused(&self, what: &str, path: &str) -> Failure {
        if !self.token_is_good().await {
            return token_refused();
        }
        Failure::source("permission denied (403)")
            .hint(format!("the token's policies have no `{what}` on {path}"))
    }

    /// Asks, once, whether the server knows the token. Where it does not say, the token is not blamed.
    pub(super) async fn token_is_good(&self) -> bool {
        let good = self.token_is_good.get_or_init(async || {
            let answer = self.ask(&Call::get("auth/token/lookup-self")).await;
            answer.is_ok_and(|answer| answer.status != StatusCode::FORBIDDEN)
        });
        *good.await
    }
}

fn token_refused() -> Failure {
    Failure::source("Vault does not know the token: expired, revoked, or from elsewhere (403)")
        .hint("`vault login`, or a new VAULT_TOKEN")
}
