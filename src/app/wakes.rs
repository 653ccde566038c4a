//! Who wakes whom. A wake-up is a courtesy, the poll is the truth; but nobody is woken who would look in vain, and a stage
//! that goes on from poll to poll, as the archive does, does not wake itself.

use tokio::sync::watch;

/// The bells of a process's loops.
#[derive(Clone, Debug, Default)]
pub(super) struct Wakes {
    /// Whoever plans.
    pub plan: watch::Sender<()>,
    /// Whoever sweeps.
    pub sweep: watch::Sender<()>,
    /// Whoever sends mail, and whoever posts to the operators' system.
    pub send: watch::Sender<()>,
    /// Whoever tells the other nodes.
    pub tell: watch::Sender<()>,
}

impl Wakes {
    /// Something came in, here or at another node.
    pub fn came_in(&self) {
        self.plan.send_replace(());
        self.sweep.send_replace(());
    }

    /// Something was planned.
    pub fn planned(&self) {
        self.send.send_replace(());
    }

    /// Something was swept: corrections are to be sent, and whoever did not confirm, or is told of a surge, is to be planned.
    pub fn swept(&self) {
        self.plan.send_replace(());
        self.send.send_replace(());
    }

    /// A request was answered; `reads` when its method changes nothing.
    pub fn answered(&self, path: &str, reads: bool, accepted: bool) {
        if accepted {
            self.tell.send_replace(());
        }
        if reads {
            return;
        }
        // Whatever the answer is: of many signals, those before a fault were taken in.
        self.came_in();
        if !matches!(path, "/v1/notices" | "/v1/signals") {
            // What is let go or sent again is planned already.
            self.send.send_replace(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Who is woken: those that plan, sweep, send, tell.
    fn woken(by: impl FnOnce(&Wakes)) -> [bool; 4] {
        let wakes = Wakes::default();
        let ears = [&wakes.plan, &wakes.sweep, &wakes.send, &wakes.tell].map(watch::Sender::subscribe);
        by(&wakes);
        ears.map(|ear| ear.has_changed().unwrap())
    }

    #[test]
    fn whoever_has_something_to_do_is_woken_and_no_stage_by_itself() {
        assert_eq!(woken(Wakes::came_in), [true, true, false, false]);
        assert_eq!(woken(Wakes::planned), [false, false, true, false]);
        assert_eq!(woken(Wakes::swept), [true, false, true, false]);
    }

    #[test]
    fn a_request_wakes_those_for_whom_it_made_work() {
        let by = |path: &'static str, reads, accepted| woken(move |wakes| wakes.answered(path, reads, accepted));
        assert_eq!(by("/v1/deliveries", true, false), [false; 4]);
        assert_eq!(by("/v1/notices", false, true), [true, true, false, true]);
        assert_eq!(by("/v1/signals", false, false), [true, true, false, false], "those before a fault were taken in");
        assert_eq!(by("/v1/surges/srg_1/release", false, false), [true, true, true, false]);
        assert_eq!(by("/v1/resends", false, true), [true; 4]);
    }
}
