//! Makes a plan shorter that fails: leaves out clients and steps, and simplifies what is left, as long
//! as the run breaks the same invariant.

use crate::mutation::Mutation;
use crate::plan::{Plan, What};
use crate::run::run;
use crate::verdict::Broken;

/// A plan that fails, and how.
#[derive(Clone, Debug)]
pub struct Failing {
    /// The plan.
    pub plan: Plan,
    /// How its run fails.
    pub broken: Broken,
}

struct Shrinker {
    best: Failing,
    mutation: Option<Mutation>,
    /// Runs that may still be made.
    runs: usize,
}

/// The shortest plan that can be found in so many runs.
pub fn shrink(failing: Failing, mutation: Option<Mutation>, runs: usize) -> Failing {
    let mut shrinker = Shrinker { best: failing, mutation, runs };
    shrinker.leave_out_steps();
    shrinker.leave_out_clients();
    shrinker.simplify();
    shrinker.leave_out_steps();
    shrinker.best
}

impl Shrinker {
    /// Whether the plan fails in the same way; it is the best then.
    fn try_plan(&mut self, plan: Plan) -> bool {
        if self.runs == 0 {
            return false;
        }
        self.runs -= 1;
        match run(&plan, self.mutation) {
            Err(broken) if broken.invariant == self.best.broken.invariant => {
                self.best = Failing { plan, broken };
                true
            }
            Err(_) | Ok(_) => false,
        }
    }

    /// Halves, quarters and so on, down to single steps.
    fn leave_out_steps(&mut self) {
        let mut size = self.best.plan.steps.len().div_ceil(2);
        while size > 0 && self.runs > 0 {
            let mut at = 0;
            while at < self.best.plan.steps.len() && self.runs > 0 {
                let mut shorter = self.best.plan.clone();
                let end = (at + size).min(shorter.steps.len());
                let waited: u64 = shorter.steps.drain(at..end).map(|step| step.wait_ms).sum();
                let without_wait = shorter.clone();
                if let Some(next) = shorter.steps.get_mut(at) {
                    next.wait_ms += waited;
                }
                // First without the time that it took, then with it.
                if !self.try_plan(without_wait) && !self.try_plan(shorter) {
                    at += size;
                }
            }
            size /= 2;
        }
    }

    fn leave_out_clients(&mut self) {
        let mut client = self.best.plan.clients;
        while client > 0 && self.best.plan.clients > 1 {
            client -= 1;
            let mut fewer = self.best.plan.clone();
            fewer.clients -= 1;
            fewer.steps.retain(|step| step.what.client() != Some(client));
            for step in &mut fewer.steps {
                if let Some(at) = step.what.client_mut().filter(|at| **at > client) {
                    *at -= 1;
                }
            }
            self.try_plan(fewer);
        }
    }

    fn simplify(&mut self) {
        for at in 0..self.best.plan.steps.len() {
            if self.best.plan.steps[at].wait_ms > 0 {
                let mut simpler = self.best.plan.clone();
                simpler.steps[at].wait_ms = 0;
                self.try_plan(simpler);
            }
            let mut nth = 0;
            while nth < edits(&self.best.plan, at) && edits(&self.best.plan, at) > 1 {
                let mut simpler = self.best.plan.clone();
                if let What::Write { writes, .. } | What::Transaction { writes, .. } =
                    &mut simpler.steps[at].what
                {
                    writes.remove(nth);
                }
                if !self.try_plan(simpler) {
                    nth += 1;
                }
            }
        }
    }
}

fn edits(plan: &Plan, at: usize) -> usize {
    match plan.steps.get(at).map(|step| &step.what) {
        Some(What::Write { writes, .. } | What::Transaction { writes, .. }) => writes.len(),
        _ => 0,
    }
}
