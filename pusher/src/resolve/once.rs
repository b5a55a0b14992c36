//! The origins of a run: each is asked at the first need, once, for all that is wanted of it.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::{OnceCell, Semaphore};
use tokio::task::JoinSet;

use crate::failure::Failure;
use crate::source::Source;

use super::{Answers, Outcome, Resolved, Run, broken};

/// How many origins are asked at once.
const AT_ONCE: usize = 16;

/// Everything that a run may ask.
pub(super) struct Origins {
    all: BTreeMap<Source, Origin>,
    slots: Arc<Semaphore>,
}

/// What is asked once, and what it answered.
#[derive(Default)]
struct Origin {
    wanted: BTreeSet<Source>,
    answered: OnceCell<Resolved>,
}

impl Origins {
    /// Finds the origins of `sources` and of their parts.
    pub(super) fn of(sources: &BTreeSet<Source>) -> Self {
        let mut all: BTreeMap<Source, Origin> = BTreeMap::new();
        let mut left: Vec<&Source> = sources.iter().collect();
        while let Some(source) = left.pop() {
            let origin = all.entry(source.origin()).or_default();
            if origin.wanted.insert(source.clone()) {
                left.extend(source.parts());
            }
        }
        Self {
            all,
            slots: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }
}

impl Run {
    /// Returns what each of `sources` came to, all of them asked side by side.
    pub(crate) async fn answers<'s>(
        self: &Arc<Self>,
        sources: impl IntoIterator<Item = &'s Source>,
    ) -> Resolved {
        let mut asking = JoinSet::new();
        for source in sources.into_iter().cloned() {
            let run = self.clone();
            asking.spawn(async move {
                let outcome = run.answer(&source).await;
                (source, outcome)
            });
        }
        // What panics does so in a task of its own, below `answer`, and is an answer here.
        asking.join_all().await.into_iter().collect()
    }

    /// Returns what `source`, or a part of one, came to, and asks its origin if nobody has.
    pub(crate) fn answer<'a>(
        self: &'a Arc<Self>,
        source: &'a Source,
    ) -> Pin<Box<dyn Future<Output = Outcome> + Send + 'a>> {
        Box::pin(async move {
            let key = source.origin();
            let unknown = || Failure::source("a bug: nobody said that it would be asked");
            let origin = self.origins.all.get(&key).ok_or_else(unknown)?;
            let answered = origin
                .answered
                .get_or_init(|| self.ask(key, &origin.wanted));
            answered
                .await
                .get(source)
                .cloned()
                .unwrap_or_else(|| Err(unknown()))
        })
    }

    /// Asks an origin in a task of its own: a panic there is its failure alone.
    async fn ask(self: &Arc<Self>, origin: Source, wanted: &BTreeSet<Source>) -> Resolved {
        let wanted: Vec<Source> = wanted.iter().cloned().collect();
        let (run, names) = (self.clone(), wanted.clone());
        let mut task = JoinSet::new();
        task.spawn(async move {
            // What waits for others takes no place from them. The semaphore is never closed: without a slot there is
            // only one task too many.
            let _slot = match origin.parts().as_slice() {
                [] => Some(run.origins.slots.clone().acquire_owned().await),
                _ => None,
            };
            origin.ask(names, run).await
        });
        let answers = match task.join_next().await {
            Some(Ok(answers)) => answers,
            Some(Err(error)) => Err(broken(&error)),
            None => Err(Failure::source("a bug: nobody was asked")),
        };
        share(wanted, answers)
    }
}

/// Gives each of `wanted` its answer; a failed origin is the failure of all of them.
fn share(wanted: Vec<Source>, answers: Answers) -> Resolved {
    match answers {
        Ok(answers) => wanted
            .into_iter()
            .zip(answers.into_iter().map(|answer| answer.map(Arc::new)))
            .collect(),
        Err(failure) => wanted
            .into_iter()
            .map(|source| (source, Err(failure.clone())))
            .collect(),
    }
}
