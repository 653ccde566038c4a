//! The closed sets of an incident, in the words of a status page.

names!(
    /// Where an incident or a maintenance stands.
    Phase {
        /// Something is wrong, the cause is not known.
        Investigating = "investigating",
        /// The cause is known.
        Identified = "identified",
        /// A fix is in place and being watched.
        Monitoring = "monitoring",
        /// The incident is over.
        Resolved = "resolved",
        /// What happened and why, after the end.
        Postmortem = "postmortem",
        /// News without a change of phase.
        Update = "update",
        /// A maintenance is announced.
        Scheduled = "scheduled",
        /// A maintenance has begun.
        InProgress = "in_progress",
        /// A maintenance is done and being checked.
        Verifying = "verifying",
        /// A maintenance is over.
        Completed = "completed",
    }
);

names!(
    /// How bad an incident is.
    Impact {
        /// Nobody notices.
        None = "none",
        /// Some notice.
        Minor = "minor",
        /// Many notice.
        Major = "major",
        /// Nothing works.
        Critical = "critical",
        /// Planned work.
        Maintenance = "maintenance",
    }
);

names!(
    /// How a component is doing; later ones are worse, and planned work is last.
    ComponentStatus {
        /// Works normally.
        Operational = "operational",
        /// Slow or faulty.
        DegradedPerformance = "degraded_performance",
        /// Down for some.
        PartialOutage = "partial_outage",
        /// Down for all.
        MajorOutage = "major_outage",
        /// Down on purpose.
        UnderMaintenance = "under_maintenance",
    }
);

impl Phase {
    /// The phase for people.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Investigating => "Investigating",
            Self::Identified => "Identified",
            Self::Monitoring => "Monitoring",
            Self::Resolved => "Resolved",
            Self::Postmortem => "Post-mortem",
            Self::Update => "Update",
            Self::Scheduled => "Scheduled maintenance",
            Self::InProgress => "Maintenance in progress",
            Self::Verifying => "Maintenance being verified",
            Self::Completed => "Maintenance completed",
        }
    }

    /// How far the incident has come by then; `None` for an update, which says nothing about that.
    #[must_use]
    pub const fn progress(self) -> Option<u8> {
        match self {
            Self::Update => None,
            Self::Scheduled => Some(0),
            Self::Investigating | Self::InProgress => Some(1),
            Self::Identified => Some(2),
            Self::Monitoring | Self::Verifying => Some(3),
            Self::Resolved | Self::Completed => Some(4),
            Self::Postmortem => Some(5),
        }
    }

    /// Whether nothing is wrong any more: resolved, completed or explained.
    #[must_use]
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Resolved | Self::Completed | Self::Postmortem)
    }
}

impl Impact {
    /// The impact for people.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Minor => "Minor",
            Self::Major => "Major",
            Self::Critical => "Critical",
            Self::Maintenance => "Maintenance",
        }
    }
}

impl ComponentStatus {
    /// Whether customers are worse off than with another state; planned work is the least of troubles.
    #[must_use]
    pub const fn is_worse_than(self, other: Self) -> bool {
        self.badness() > other.badness()
    }

    /// Down enough that a customer could not act.
    #[must_use]
    pub const fn is_down(self) -> bool {
        matches!(self, Self::PartialOutage | Self::MajorOutage)
    }

    const fn badness(self) -> u8 {
        match self {
            Self::Operational => 0,
            Self::UnderMaintenance => 1,
            Self::DegradedPerformance => 2,
            Self::PartialOutage => 3,
            Self::MajorOutage => 4,
        }
    }

    /// The state for people.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Operational => "Operational",
            Self::DegradedPerformance => "Degraded performance",
            Self::PartialOutage => "Partial outage",
            Self::MajorOutage => "Major outage",
            Self::UnderMaintenance => "Under maintenance",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_say_the_name_in_words() {
        for status in ComponentStatus::ALL {
            assert_eq!(status.label().to_lowercase().replace(' ', "_"), status.as_str());
        }
    }

    #[test]
    fn only_what_is_over_is_over() {
        let over: Vec<_> = Phase::ALL.iter().filter(|p| p.is_over()).map(|p| p.as_str()).collect();
        assert_eq!(over, ["resolved", "postmortem", "completed"]);
    }
}
