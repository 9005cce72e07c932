//! (8) Gives what a shard hands over to the connections of this core, in its order.
//!
//! That order is the order on every socket: a subscribe's ack, its replay, the events after it; a
//! publisher's own event before the ack of it. A shard never touches a connection.

use std::sync::Arc;

use super::Core;
use crate::broker::delivery::{Delivery, Item};
use crate::broker::directory::Audience;
use crate::broker::run::Run;
use crate::config::values::SlowConsumerPolicy;
use crate::connection::leave_late;

/// Works a delivery off.
pub(super) fn receive(core: &Core, delivery: Delivery) {
    for item in delivery.items {
        match item {
            Item::Events { run, to } => fan_out(core, &run, &to),
            Item::Reply(reply) => {
                let (local, to) = (&core.local, reply.to);
                let mut reply = Some(reply);
                core.table.with(to, |connection| {
                    reply
                        .take()
                        .into_iter()
                        .for_each(|reply| connection.take_reply(local, reply));
                });
                if let Some(late) = reply {
                    leave_late(local, to, late.said);
                }
            }
        }
    }
}

/// Pushes `run` on the ring of everyone it is for.
fn fan_out(core: &Core, run: &Arc<Run>, to: &Audience) {
    let local = &core.local;
    let ends_slow = local.config().slow_consumer_policy == SlowConsumerPolicy::Disconnect;
    let mut missed = 0_u64;
    for id in to.iter() {
        let pushed = core
            .table
            .with(*id, |connection| connection.push(local, run, ends_slow));
        missed += u64::from(pushed != Some(true));
    }
    if missed > 0 {
        local.counters.discarded.add(missed * run.events() as u64);
    }
}
