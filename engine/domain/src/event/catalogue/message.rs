//! Events of HL7 v2 messages and the orders they carry.

use uuid::Uuid;

use crate::MessageFlag;
use crate::OrderConflict;
use crate::event::body::{details, event};

details! {
    /// What the trail records of a message.
    pub struct MessageFacts {
        /// Type, trigger event and structure (MSH-9).
        message_type: String,
        /// Message control ID (MSH-10).
        control_id: String,
        /// Acknowledgement code that was sent (MSA-1).
        code: String,
        /// Why it was not accepted.
        problem: Option<String>,
        /// Length in bytes.
        bytes: u64,
        /// What is unusual about it.
        flags: Vec<MessageFlag>,
    }
}

event! {
    /// A message was accepted and stored.
    pub struct MessageReceived(MessageFacts): C;
}

event! {
    /// A message was stored and not accepted; the sender was given an error.
    pub struct MessageRefused(MessageFacts): C;
}

event! {
    /// A message repeated an earlier one and was given the same acknowledgement (HL7-13).
    pub struct MessageRepeated: R {}
}

event! {
    /// A message was accepted and stored, and changes nothing: messages with its processing id have
    /// no effect here.
    pub struct MessageWithoutEffect: C {
        /// Processing id (MSH-11.1).
        processing_id: String,
    }
}

event! {
    /// A frame held no HL7 message that can be read.
    pub struct MessageUnreadable: C {
        /// What is wrong with it.
        reason: String,
        /// Length in bytes; not recorded of a frame that was cut because it was too long.
        bytes: Option<u64>,
    }
}

event! {
    /// The number of messages in a batch differs from the number its trailer states.
    pub struct BatchIncomplete: C {
        /// How many the trailer states (BTS-1).
        announced: Option<usize>,
        /// How many there were.
        came: usize,
    }
}

event! {
    /// An order was created or changed by a message.
    pub struct OrderReceived: U {
        /// The engine's key of the order.
        order: Uuid,
    }
}

event! {
    /// An order was cancelled by a message.
    pub struct OrderCancelled: U {
        /// The engine's key of the order.
        order: Uuid,
    }
}

event! {
    /// It is uncertain which order a message means: nothing was changed, and a person decides.
    pub struct OrderConflicting: R {
        /// Why it is uncertain.
        conflict: OrderConflict,
        /// The engine's keys of the orders it may mean.
        orders: Vec<Uuid>,
    }
}
