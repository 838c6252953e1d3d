//! DIMSE messages (PS3.7), put together from the fragments PDUs carry (PS3.8, 9.3.5 and Annex E).
//! Pure: no socket, no disk. Data sets pass through in pieces and are never held.

use std::collections::BTreeMap;

/// Most bytes a command set may have. Those of PS3.7 stay under one kilobyte.
const COMMAND_BYTES_MAX: usize = 64 * 1024;

/// `CommandDataSetType` of a command that no data set follows (PS3.7, E.1).
const NO_DATA_SET: u16 = 0x0101;

/// Bit that makes a response of a `CommandField` (PS3.7, E.1).
const RESPONSE: u16 = 0x8000;

/// Longest Error Comment (PS3.7, C.4.1).
const COMMENT_BYTES_MAX: usize = 64;

/// C-STORE (PS3.7, E.1).
pub const STORE: u16 = 0x0001;
/// C-ECHO.
pub const ECHO: u16 = 0x0030;
/// N-EVENT-REPORT.
pub const EVENT_REPORT: u16 = 0x0100;
/// N-ACTION.
pub const ACTION: u16 = 0x0130;
/// C-CANCEL.
pub const CANCEL: u16 = 0x0FFF;

/// Elements of command sets (PS3.7, E.1), by their number in group 0000.
mod element {
    pub(super) const GROUP_LENGTH: u16 = 0x0000;
    pub(super) const AFFECTED_SOP_CLASS: u16 = 0x0002;
    pub(super) const REQUESTED_SOP_CLASS: u16 = 0x0003;
    pub(super) const COMMAND_FIELD: u16 = 0x0100;
    pub(super) const MESSAGE_ID: u16 = 0x0110;
    pub(super) const RESPONDED_TO: u16 = 0x0120;
    pub(super) const PRIORITY: u16 = 0x0700;
    pub(super) const DATA_SET_TYPE: u16 = 0x0800;
    pub(super) const STATUS: u16 = 0x0900;
    pub(super) const ERROR_COMMENT: u16 = 0x0902;
    pub(super) const AFFECTED_SOP_INSTANCE: u16 = 0x1000;
    pub(super) const REQUESTED_SOP_INSTANCE: u16 = 0x1001;
    pub(super) const EVENT_TYPE: u16 = 0x1002;
    pub(super) const ACTION_TYPE: u16 = 0x1008;
}

/// One command, of a peer or of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// The presentation context it came on, and its answer goes back on.
    pub context: u8,
    /// What is asked or answered.
    pub field: u16,
    /// The number of the request.
    pub message_id: u16,
    /// Affected or Requested SOP Class UID, or nothing.
    pub sop_class: String,
    /// Affected or Requested SOP Instance UID, or nothing.
    pub sop_instance: String,
    /// Action Type ID or Event Type ID, where there is one.
    pub kind: Option<u16>,
    /// Whether a data set follows.
    pub has_data_set: bool,
    /// How it went, in a response.
    pub status: Status,
    /// What went wrong, in a response.
    pub comment: String,
}

/// How a request went (PS3.7, Annex C; PS3.4, B.2.3; DIN-21).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status(pub u16);

impl Status {
    /// It is done.
    pub const SUCCESS: Self = Self(0x0000);
    /// Stored, and flagged.
    pub const COERCION: Self = Self(0xB000);
    /// Refused: out of resources. Another try may help.
    pub const OUT_OF_RESOURCES: Self = Self(0xA700);
    /// Error: data set does not match SOP class.
    pub const DOES_NOT_MATCH: Self = Self(0xA900);
    /// Error: cannot understand.
    pub const CANNOT_UNDERSTAND: Self = Self(0xC000);
    /// Invalid SOP instance.
    pub const INVALID_INSTANCE: Self = Self(0x0117);
    /// Unrecognized operation.
    pub const UNRECOGNIZED_OPERATION: Self = Self(0x0211);
    /// Mistyped argument.
    pub const MISTYPED_ARGUMENT: Self = Self(0x0212);
    /// Processing failure.
    pub const PROCESSING_FAILURE: Self = Self(0x0110);
    /// No such SOP instance.
    pub const NO_SUCH_INSTANCE: Self = Self(0x0112);
    /// No such event type.
    pub const NO_SUCH_EVENT: Self = Self(0x0113);
    /// Invalid argument value.
    pub const INVALID_ARGUMENT: Self = Self(0x0115);
    /// Missing attribute.
    pub const MISSING_ATTRIBUTE: Self = Self(0x0120);
    /// No such action.
    pub const NO_SUCH_ACTION: Self = Self(0x0123);
    /// Error: another version of this instance is here already, and the site takes no second one.
    pub const OTHER_VERSION: Self = Self(0xC001);

    /// Whether what was sent is kept: success or a warning (PS3.7, C.1).
    pub const fn is_kept(self) -> bool {
        self.0 == 0 || self.0 & 0xF000 == 0xB000
    }

    /// Whether another try may help.
    pub const fn is_passing(self) -> bool {
        self.0 & 0xFF00 == 0xA700 || self.0 == Self::PROCESSING_FAILURE.0
    }
}

impl Command {
    /// A request of ours.
    pub fn request(context: u8, field: u16, message_id: u16, class: &str, instance: &str) -> Self {
        let (sop_class, sop_instance) = (class.to_owned(), instance.to_owned());
        let has_data_set = matches!(field, STORE | ACTION | EVENT_REPORT);
        let (kind, status, comment) = (None, Status::SUCCESS, String::new());
        Self {
            context,
            field,
            message_id,
            sop_class,
            sop_instance,
            kind,
            has_data_set,
            status,
            comment,
        }
    }

    /// The same, of this Action Type or Event Type.
    #[must_use]
    pub fn of_kind(mut self, kind: u16) -> Self {
        self.kind = Some(kind);
        self
    }

    /// The answer to this request.
    #[must_use]
    pub fn answer(&self, status: Status, comment: &str) -> Self {
        let comment = comment.get(..comment.floor_char_boundary(COMMENT_BYTES_MAX));
        Self {
            field: self.field | RESPONSE,
            has_data_set: false,
            status,
            comment: comment.unwrap_or_default().to_owned(),
            ..self.clone()
        }
    }

    /// Whether it answers something.
    pub const fn is_response(&self) -> bool {
        self.field & RESPONSE != 0
    }

    /// The command set: Implicit VR Little Endian, in order of its elements (PS3.7, 6.3.1).
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut set: BTreeMap<u16, Vec<u8>> = BTreeMap::new();
        let mut short = |number, value: u16| set.insert(number, value.to_le_bytes().to_vec());
        short(element::COMMAND_FIELD, self.field);
        short(element::DATA_SET_TYPE, if self.has_data_set { 0 } else { NO_DATA_SET });
        if self.is_response() {
            short(element::RESPONDED_TO, self.message_id);
            short(element::STATUS, self.status.0);
        } else {
            short(element::MESSAGE_ID, self.message_id);
            if self.field == STORE {
                short(element::PRIORITY, 0);
            }
        }
        if let Some(kind) = self.kind {
            let is_event = self.field & !RESPONSE == EVENT_REPORT;
            short(if is_event { element::EVENT_TYPE } else { element::ACTION_TYPE }, kind);
        }
        // Only a request names what it wants something of; all else names what it is about.
        let (class, instance) = if self.field == ACTION {
            (element::REQUESTED_SOP_CLASS, element::REQUESTED_SOP_INSTANCE)
        } else {
            (element::AFFECTED_SOP_CLASS, element::AFFECTED_SOP_INSTANCE)
        };
        for (number, text, padding) in [
            (class, &self.sop_class, 0),
            (instance, &self.sop_instance, 0),
            (element::ERROR_COMMENT, &self.comment, b' '),
        ] {
            if !text.is_empty() {
                let mut value = text.clone().into_bytes();
                value.resize(value.len().next_multiple_of(2), padding);
                set.insert(number, value);
            }
        }
        let mut body = Vec::new();
        for (number, value) in set {
            push_element(&mut body, number, &value);
        }
        let mut bytes = Vec::new();
        let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
        push_element(&mut bytes, element::GROUP_LENGTH, &length.to_le_bytes());
        bytes.extend(body);
        bytes
    }

    fn parse(context: u8, bytes: &[u8]) -> Result<Self, MessageError> {
        let set = elements(bytes)?;
        let short = |number| {
            let value: Option<[u8; 2]> = set.get(&number).and_then(|it| (*it).try_into().ok());
            value.map(u16::from_le_bytes)
        };
        let missing = |name| MessageError::Missing { name };
        let text = |number| {
            let value = set.get(&number).copied().unwrap_or_default();
            String::from_utf8_lossy(value).trim_end_matches(['\0', ' ']).to_owned()
        };
        let either = |affected, requested| {
            Some(text(affected)).filter(|it| !it.is_empty()).unwrap_or_else(|| text(requested))
        };
        let field = short(element::COMMAND_FIELD).ok_or(missing("Command Field"))?;
        let id = if field & RESPONSE == 0 && field != CANCEL {
            element::MESSAGE_ID
        } else {
            element::RESPONDED_TO
        };
        let data_set = short(element::DATA_SET_TYPE).ok_or(missing("Command Data Set Type"))?;
        Ok(Self {
            context,
            field,
            message_id: short(id).ok_or(missing("Message ID"))?,
            sop_class: either(element::AFFECTED_SOP_CLASS, element::REQUESTED_SOP_CLASS),
            sop_instance: either(element::AFFECTED_SOP_INSTANCE, element::REQUESTED_SOP_INSTANCE),
            kind: short(element::EVENT_TYPE).or_else(|| short(element::ACTION_TYPE)),
            has_data_set: data_set != NO_DATA_SET,
            // A response that does not say how it went says nothing: it must not pass for success.
            status: match short(element::STATUS) {
                None if field & RESPONSE != 0 => return Err(missing("Status")),
                status => Status(status.unwrap_or_default()),
            },
            comment: text(element::ERROR_COMMENT),
        })
    }
}

fn push_element(bytes: &mut Vec<u8>, number: u16, value: &[u8]) {
    bytes.extend([0, 0]);
    bytes.extend(number.to_le_bytes());
    bytes.extend(u32::try_from(value.len()).unwrap_or(u32::MAX).to_le_bytes());
    bytes.extend(value);
}

/// The elements of a command set. All are of group 0000.
fn elements(mut bytes: &[u8]) -> Result<BTreeMap<u16, &[u8]>, MessageError> {
    let mut set = BTreeMap::new();
    while !bytes.is_empty() {
        let (header, rest) = bytes.split_first_chunk::<8>().ok_or(MessageError::Unreadable)?;
        let [0, 0, a, b, length @ ..] = *header else { return Err(MessageError::Unreadable) };
        let length = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
        let (value, rest) = rest.split_at_checked(length).ok_or(MessageError::Unreadable)?;
        set.insert(u16::from_le_bytes([a, b]), value);
        bytes = rest;
    }
    Ok(set)
}

/// What a fragment leads to.
#[derive(Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// Nothing yet.
    Wait,
    /// A command is whole. Its data set, if it has one, comes next.
    Command(Command),
    /// Some bytes of the data set of the last command.
    Data {
        /// The bytes.
        bytes: &'a [u8],
        /// Whether they are the last.
        is_last: bool,
    },
}

/// Collects fragments.
#[derive(Debug, Default)]
pub struct Assembler {
    command: Vec<u8>,
    /// The context of the fragments collected so far.
    context: Option<u8>,
    /// Whether a data set is to come.
    is_data_next: bool,
}

/// One presentation data value of a P-DATA PDU (PS3.8, 9.3.5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment<'a> {
    context: u8,
    is_command: bool,
    is_last: bool,
    data: &'a [u8],
}

/// The fragments of a P-DATA PDU, given with its header.
///
/// # Errors
///
/// Fails if a fragment does not end within the PDU.
pub fn fragments(pdu: &[u8]) -> Result<Vec<Fragment<'_>>, MessageError> {
    let mut rest = pdu.get(6..).unwrap_or_default();
    let mut found = Vec::new();
    while !rest.is_empty() {
        let (header, after) = rest.split_first_chunk::<6>().ok_or(MessageError::BadFragment)?;
        let [a, b, c, d, context, control] = *header;
        let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
        let length = length.checked_sub(2).ok_or(MessageError::BadFragment)?;
        let (data, after) = after.split_at_checked(length).ok_or(MessageError::BadFragment)?;
        let (is_command, is_last) = (control & 1 == 1, control & 2 == 2);
        found.push(Fragment { context, is_command, is_last, data });
        rest = after;
    }
    Ok(found)
}

impl Assembler {
    /// Takes one fragment.
    ///
    /// # Errors
    ///
    /// Fails if the fragments are no messages. The association is of no more use.
    pub fn push<'a>(&mut self, fragment: Fragment<'a>) -> Result<Step<'a>, MessageError> {
        let is_same = self.context.is_none_or(|it| it == fragment.context);
        if !is_same || fragment.is_command == self.is_data_next {
            return Err(MessageError::OutOfOrder);
        }
        self.context = Some(fragment.context);
        if self.is_data_next {
            if fragment.is_last {
                self.is_data_next = false;
                self.context = None;
            }
            return Ok(Step::Data { bytes: fragment.data, is_last: fragment.is_last });
        }
        if self.command.len() + fragment.data.len() > COMMAND_BYTES_MAX {
            return Err(MessageError::TooLong);
        }
        self.command.extend(fragment.data);
        if !fragment.is_last {
            return Ok(Step::Wait);
        }
        let command = Command::parse(fragment.context, &std::mem::take(&mut self.command))?;
        self.is_data_next = command.has_data_set;
        if !command.has_data_set {
            self.context = None;
        }
        Ok(Step::Command(command))
    }

    /// Whether no message has been begun.
    pub fn is_between_messages(&self) -> bool {
        self.context.is_none()
    }
}

/// Why fragments are not a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// A data set without a command, or on another context, or a command inside of a data set.
    #[error("the fragments of a message came out of order")]
    OutOfOrder,
    /// More than we are ready to hold.
    #[error("a command set has more than {COMMAND_BYTES_MAX} bytes")]
    TooLong,
    /// Not a command set.
    #[error("a command set cannot be read")]
    Unreadable,
    /// Not a fragment.
    #[error("a fragment does not fit into its PDU")]
    BadFragment,
    /// A command without what PS3.7 requires of it.
    #[error("a command set has no valid {name}")]
    Missing {
        /// What it should have.
        name: &'static str,
    },
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pieces(command: &Command, size: usize) -> Vec<Vec<u8>> {
        let bytes = command.to_bytes();
        let count = bytes.chunks(size).count();
        let is_last = |at| at + 1 == count;
        let pdu = |(at, it)| crate::pdu_stream::data_pdu(command.context, true, is_last(at), it);
        bytes.chunks(size).enumerate().map(pdu).collect()
    }

    fn store() -> Command {
        Command::request(3, STORE, 7, "1.2.840.10008.5.1.4.1.1.2", "1.2.3")
    }

    #[test]
    fn din_16_a_command_in_any_number_of_pieces_is_the_same_command() {
        for size in 1..200 {
            let mut assembler = Assembler::default();
            let mut found = Vec::new();
            for pdu in pieces(&store(), size) {
                for fragment in fragments(&pdu).unwrap() {
                    if let Step::Command(command) = assembler.push(fragment).unwrap() {
                        found.push(command);
                    }
                }
            }
            assert_eq!(found, [store()]);
        }
    }

    #[test]
    fn din_16_a_data_set_on_another_context_is_refused() {
        let mut assembler = Assembler::default();
        for pdu in pieces(&store(), 4096) {
            assembler.push(fragments(&pdu).unwrap()[0]).unwrap();
        }
        let elsewhere = crate::pdu_stream::data_pdu(5, false, true, b"data");
        let outcome = assembler.push(fragments(&elsewhere).unwrap()[0]);
        assert_eq!(outcome, Err(MessageError::OutOfOrder));
    }

    #[test]
    fn answers_name_what_they_answer() {
        let answer = store().answer(Status::CANNOT_UNDERSTAND, &"ä".repeat(60));
        let again = Command::parse(3, &answer.to_bytes()).unwrap();
        assert_eq!((again.message_id, again.status), (7, Status::CANNOT_UNDERSTAND));
        assert!(again.is_response() && again.comment.len() <= 64 && !again.has_data_set);
    }

    proptest! {
        #[test]
        fn sec_21_no_fragments_upset_the_assembler(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut assembler = Assembler::default();
            for fragment in fragments(&bytes).unwrap_or_default() {
                if assembler.push(fragment).is_err() {
                    break;
                }
            }
            _ = Command::parse(1, &bytes);
        }
    }
}
