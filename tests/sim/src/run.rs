//! Runs a plan from beginning to end, in one thread and in no time.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use crate::judge::Judge;
use crate::mutation::Mutation;
use crate::plan::Plan;
use crate::verdict::{Broken, Invariant, Report};
use crate::world::World;

thread_local! {
    /// Panics of this thread, also those that the server's tasks have caught.
    static PANICS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Notes panics instead of printing them: every run is in one thread.
fn watch_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let noted = PANICS.with(|panics| match panics.try_borrow_mut() {
                Ok(mut panics) => {
                    panics.push(info.to_string());
                    RUNNING.with(|running| *running.borrow())
                }
                Err(_) => false,
            });
            if !noted {
                before(info);
            }
        }));
    });
}

thread_local! {
    static RUNNING: RefCell<bool> = const { RefCell::new(false) };
}

/// Runs a plan.
pub fn run(plan: &Plan, mutation: Option<Mutation>) -> Result<Report, Broken> {
    watch_panics();
    PANICS.with(|panics| panics.borrow_mut().clear());
    RUNNING.with(|running| *running.borrow_mut() = true);
    let plan = plan.clone();
    let outcome = catch_unwind(AssertUnwindSafe(|| in_virtual_time(plan, mutation)));
    RUNNING.with(|running| *running.borrow_mut() = false);
    let panics = PANICS.with(|panics| std::mem::take(&mut *panics.borrow_mut()));
    match outcome {
        Ok(outcome) if panics.is_empty() => outcome,
        Ok(_) | Err(_) => {
            Err(Broken { invariant: Invariant::NoPanic, why: panics.join("; then ") })
        }
    }
}

fn in_virtual_time(plan: Plan, mutation: Option<Mutation>) -> Result<Report, Broken> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without a driver for sockets always starts");
    runtime.block_on(async {
        let mut world = World::new(plan, mutation);
        world.run().await?;
        world.finish();
        Judge::judge(&world)
    })
}
