//! The topics of a shard as others may need them: shown at one moment, and made again elsewhere.
//!
//! A survey goes over several turns, and until it is through the shard takes nothing from its inbox, so
//! that all of it shows the same moment. Frames are shared and not copied.

use std::sync::mpsc::Sender;

use super::super::request::Restored;
use super::super::topic::Image;
use super::Shard;

/// Topics that are shown in one turn, and runs: some tenths of a millisecond.
const TOPICS_MAX: usize = 256;
const RUNS_MAX: usize = 8192;

/// A survey that is not through.
#[derive(Debug)]
pub(super) struct Survey {
    next: usize,
    images: Sender<Vec<Image>>,
}

impl Shard {
    pub(super) fn begin_survey(&mut self, images: Sender<Vec<Image>>) {
        self.survey = Some(Survey { next: 0, images });
        self.go_on_with_survey();
    }

    /// Shows as many topics as one turn may.
    pub(super) fn go_on_with_survey(&mut self) {
        let Some(mut survey) = self.survey.take() else {
            return;
        };
        let (mut shown, mut runs) = (Vec::new(), 0);
        while shown.len() < TOPICS_MAX && runs < RUNS_MAX && survey.next < self.table.places() {
            if let Some(slot) = self.table.slot(survey.next) {
                let image = slot.topic.image();
                runs += image.runs.len();
                shown.push(image);
            }
            survey.next += 1;
        }
        // Whoever wanted it may have given up.
        let goes_on = survey.images.send(shown).is_ok();
        if goes_on && survey.next < self.table.places() {
            self.survey = Some(survey);
        }
    }

    /// Makes a topic as it was, unless there is one of its name.
    pub(super) fn restore(&mut self, restored: &Restored) {
        if self.table.find(&restored.name).is_some() {
            return;
        }
        let history = self.limits.history_events_max;
        if (restored.messages.len() as u64) < restored.seq.min(history as u64) {
            self.shared.counters.cut.add_owned(1);
        }
        let place = self.table.create_again(restored, history);
        if let Some(slot) = self.table.slot(place) {
            slot.topic.restore(restored, self.limits.run_events_max);
        }
        self.bound_histories(place);
        self.welcome(place);
    }
}
