//! Who wakes whom. A wake-up is a courtesy, the poll is the truth; but nobody is woken who would look in vain, and a stage
//! that goes on from poll to poll, as the archive does, does not wake itself.

use std::sync::Arc;
use tokio::sync::{Notify, watch};

/// The bells of a process's loops.
#[derive(Clone, Debug, Default)]
pub(super) struct Wakes {
    /// Whoever plans; `true` after a notice, of which something is to be planned for sure.
    pub plan: watch::Sender<bool>,
    /// Whoever sweeps.
    pub sweep: watch::Sender<()>,
    /// Whoever sends mail: a bell wakes one of the dispatchers that share it, and that one the next if it has too much.
    pub send: Vec<Arc<Notify>>,
    /// Whoever posts to the operators' system.
    pub post: watch::Sender<()>,
    /// Whoever tells the other nodes, which are to help with what there is then: one notice is planned sooner than told.
    pub tell: watch::Sender<()>,
}

impl Wakes {
    /// Something came in, here or at another node.
    pub fn came_in(&self) {
        self.plan.send_replace(false);
        self.sweep.send_replace(());
    }

    /// Something was planned.
    pub fn planned(&self) {
        // Who rested last is the likeliest to have a session open.
        self.send.iter().for_each(|bell| bell.notify_last());
        self.post.send_replace(());
        self.tell.send_replace(());
    }

    /// Something was swept: corrections are to be sent, and whoever did not confirm, or is told of a surge, is to be planned.
    pub fn swept(&self) {
        self.plan.send_replace(false);
        self.planned();
    }

    /// A request was answered; `reads` when its method changes nothing.
    pub fn answered(&self, path: &str, reads: bool, accepted: bool) {
        if reads {
            return;
        }
        if path == "/v1/notices" {
            // It takes nothing back, and what it makes is planned first.
            self.plan.send_replace(accepted);
            return;
        }
        // Whatever the answer is: of many signals, those before a fault were taken in.
        self.came_in();
        if path != "/v1/signals" {
            // What is let go or sent again is planned already.
            self.planned();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;

    /// Who is woken: those that plan, sweep, send, tell.
    fn woken(by: impl FnOnce(&Wakes)) -> [bool; 4] {
        let bells = [Arc::default(), Arc::default()];
        let wakes = Wakes { send: bells.to_vec(), ..Wakes::default() };
        let plan = wakes.plan.subscribe();
        let [sweep, post, tell] = [&wakes.sweep, &wakes.post, &wakes.tell].map(watch::Sender::subscribe);
        by(&wakes);
        let send = bells.map(|bell| pin!(bell.notified()).enable());
        assert_eq!(send, [post.has_changed().unwrap(); 2]);
        [plan.has_changed().unwrap(), sweep.has_changed().unwrap(), send[0], tell.has_changed().unwrap()]
    }

    #[test]
    fn whoever_has_something_to_do_is_woken_and_no_stage_by_itself() {
        assert_eq!(woken(Wakes::came_in), [true, true, false, false]);
        assert_eq!(woken(Wakes::planned), [false, false, true, true]);
        assert_eq!(woken(Wakes::swept), [true, false, true, true]);
    }

    #[test]
    fn a_request_wakes_those_for_whom_it_made_work() {
        let by = |path: &'static str, reads, accepted| woken(move |wakes| wakes.answered(path, reads, accepted));
        assert_eq!(by("/v1/deliveries", true, false), [false; 4]);
        assert_eq!(by("/v1/notices", false, true), [true, false, false, false]);
        let wakes = Wakes::default();
        wakes.answered("/v1/notices", false, true);
        assert!(*wakes.plan.borrow(), "there is a notice to plan");
        assert_eq!(by("/v1/signals", false, false), [true, true, false, false], "those before a fault were taken in");
        assert_eq!(by("/v1/surges/srg_1/release", false, false), [true; 4]);
        assert_eq!(by("/v1/resends", false, true), [true; 4]);
    }
}
