//! The places where tests kill or freeze a worker: before and after each effect on the outside.

/// Where every run comes by, in this order.
pub const ALWAYS: [&str; 17] = [
    "plan: before the fetch",
    "plan: after the fetch",
    "plan: commit packed",
    "plan: steps written, not committed",
    "plan: committed",
    "step: claimed",
    "step: marked started",
    "step: started",
    "step: log chunk stored",
    "step: log followed to its end",
    "step: ended, nothing stored",
    "step: log stored",
    "step: outputs stored",
    "step: end written, not committed",
    "step: end committed",
    "publish: claimed",
    "publish: stored",
];

/// Those at the very end of a run, after which there is nothing left that a successor could do wrong but the end itself.
pub const LAST: [&str; 2] = ["publish: end written, not committed", "publish: end committed"];

/// Those that only a cancelled run comes to.
pub const CANCEL: [&str; 2] = ["step: before the stop", "step: stop asked for"];

/// Those of steps that are processes of the machine.
pub const LOCAL: [&str; 1] = ["step: before its runner starts"];

/// Those of steps that are pods.
pub const KUBERNETES: [&str; 2] = ["step: before its Secret is made", "step: before its pod is made"];

/// Where steps are started before their turn.
pub const AHEAD: [&str; 1] = ["step: reserved ahead"];

/// Those of steps that are containers.
pub const DOCKER: [&str; 1] = ["step: container made"];

/// Those of telling others how a run ended.
pub const WEBHOOK: [&str; 1] = ["webhook: sent, not noted"];

/// Those of telling a forge how a commit's run stands.
pub const STATUS: [&str; 3] = ["status: about to be sent", "status: sent, not noted", "status: being sent"];
