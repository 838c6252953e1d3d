//! DIMSE messages (PS3.7), assembled from the fragments that PDUs carry (PS3.8, 9.3.5 and Annex E).
//!
//! A message is a command set, which is small and read whole, and perhaps a data set, which may be
//! gigabytes long and passes through in pieces. Nothing here touches a socket or the disk.

use std::collections::BTreeMap;

/// Upper bound of the length of a command set. Those of PS3.7 stay under one kilobyte.
const COMMAND_BYTES_MAX: usize = 64 * 1024;

/// Upper bound of the fragments of a message that carry nothing, the last of command and data set
/// not counted: they would occupy an association without an end (SEC-21).
const EMPTY_FRAGMENTS_MAX: u32 = 64;

/// `CommandDataSetType` of a command that no data set follows (PS3.7, E.1).
const NO_DATA_SET: u16 = 0x0101;

/// Longest Error Comment (PS3.7, C.4.1).
const COMMENT_BYTES_MAX: usize = 64;

/// Elements of command sets (PS3.7, E.1), by their number in group 0000.
mod element {
    pub(super) const GROUP_LENGTH: u16 = 0x0000;
    pub(super) const AFFECTED_SOP_CLASS: u16 = 0x0002;
    pub(super) const REQUESTED_SOP_CLASS: u16 = 0x0003;
    pub(super) const COMMAND_FIELD: u16 = 0x0100;
    pub(super) const MESSAGE_ID: u16 = 0x0110;
    pub(super) const MESSAGE_ID_RESPONDED_TO: u16 = 0x0120;
    pub(super) const PRIORITY: u16 = 0x0700;
    pub(super) const DATA_SET_TYPE: u16 = 0x0800;
    pub(super) const STATUS: u16 = 0x0900;
    pub(super) const ERROR_COMMENT: u16 = 0x0902;
    pub(super) const AFFECTED_SOP_INSTANCE: u16 = 0x1000;
    pub(super) const REQUESTED_SOP_INSTANCE: u16 = 0x1001;
    pub(super) const EVENT_TYPE: u16 = 0x1002;
    pub(super) const ACTION_TYPE: u16 = 0x1008;
}

/// Which command a message is: Command Field (0000,0100), PS3.7, Annex E.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CommandField(pub u16);

impl CommandField {
    /// C-STORE: store a composite instance.
    pub const C_STORE: Self = Self(0x0001);
    /// C-ECHO: verify that the peer answers.
    pub const C_ECHO: Self = Self(0x0030);
    /// N-EVENT-REPORT: the provider notifies the user.
    pub const N_EVENT_REPORT: Self = Self(0x0100);
    /// N-ACTION: the user requests an action.
    pub const N_ACTION: Self = Self(0x0130);
    /// C-CANCEL: the requestor withdraws an earlier request.
    pub const C_CANCEL: Self = Self(0x0FFF);

    /// The bit that marks the response to a request.
    const RESPONSE_BIT: u16 = 0x8000;

    /// Whether this is the response to a request.
    pub const fn is_response(self) -> bool {
        self.0 & Self::RESPONSE_BIT != 0
    }

    /// The response to this request.
    #[must_use]
    pub const fn response(self) -> Self {
        Self(self.0 | Self::RESPONSE_BIT)
    }

    /// The request that this is, or that this is the response to.
    #[must_use]
    pub const fn request(self) -> Self {
        Self(self.0 & !Self::RESPONSE_BIT)
    }

    /// Whether a request of ours carries a data set.
    const fn carries_data_set(self) -> bool {
        matches!(self, Self::C_STORE | Self::N_ACTION | Self::N_EVENT_REPORT)
    }

    /// The elements for SOP class and SOP instance. Only N-GET, N-SET, N-ACTION and N-DELETE
    /// requests name the Requested ones; every other command names the Affected ones.
    const fn sop_elements(self) -> SopElements {
        match self.0 {
            0x0110 | 0x0120 | 0x0130 | 0x0150 => SopElements {
                sop_class: element::REQUESTED_SOP_CLASS,
                sop_instance: element::REQUESTED_SOP_INSTANCE,
            },
            _ => SopElements {
                sop_class: element::AFFECTED_SOP_CLASS,
                sop_instance: element::AFFECTED_SOP_INSTANCE,
            },
        }
    }
}

/// The elements of a command set that name its SOP class and SOP instance.
struct SopElements {
    sop_class: u16,
    sop_instance: u16,
}

/// One command set, received or to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// Id of the presentation context it came on; its response goes back on the same one.
    pub context_id: u8,
    /// Which command it is.
    pub field: CommandField,
    /// Message ID of the request, or Message ID Being Responded To of a response.
    pub message_id: u16,
    /// Affected or Requested SOP Class UID; empty if the command names none.
    pub sop_class: String,
    /// Affected or Requested SOP Instance UID; empty if the command names none.
    pub sop_instance: String,
    /// Action Type ID or Event Type ID, for N-ACTION and N-EVENT-REPORT.
    pub type_id: Option<u16>,
    /// Whether a data set follows.
    pub has_data_set: bool,
    /// Status of a response; success in a request.
    pub status: Status,
    /// Error Comment of a response; empty in a request.
    pub comment: String,
}

/// The outcome of a request: Status (0000,0900), PS3.7, Annex C; PS3.4, B.2.3 (DIN-21).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status(pub u16);

impl Status {
    /// Success.
    pub const SUCCESS: Self = Self(0x0000);
    /// Warning: coercion of data elements. The engine gives it for instances stored and flagged.
    pub const COERCION: Self = Self(0xB000);
    /// Refused: out of resources. Another attempt may succeed.
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
    /// Error: another version of this instance is stored already, and the site accepts no second
    /// one.
    pub const OTHER_VERSION: Self = Self(0xC001);

    /// Whether the peer has done what was requested: success or a warning (PS3.7, C.1).
    pub const fn is_success_or_warning(self) -> bool {
        self.0 == 0 || self.0 & 0xF000 == 0xB000
    }

    /// Whether another attempt may succeed.
    pub const fn is_transient(self) -> bool {
        self.0 & 0xFF00 == 0xA700 || self.0 == Self::PROCESSING_FAILURE.0
    }
}

impl Command {
    /// A request of ours.
    pub fn request(
        context_id: u8,
        field: CommandField,
        message_id: u16,
        sop_class: &str,
        sop_instance: &str,
    ) -> Self {
        Self {
            context_id,
            field,
            message_id,
            sop_class: sop_class.to_owned(),
            sop_instance: sop_instance.to_owned(),
            type_id: None,
            has_data_set: field.carries_data_set(),
            status: Status::SUCCESS,
            comment: String::new(),
        }
    }

    /// The same request with this Action Type ID or Event Type ID.
    #[must_use]
    pub fn with_type_id(mut self, type_id: u16) -> Self {
        self.type_id = Some(type_id);
        self
    }

    /// The response to this request.
    #[must_use]
    pub fn response(&self, status: Status, comment: &str) -> Self {
        let comment = comment.get(..comment.floor_char_boundary(COMMENT_BYTES_MAX));
        Self {
            field: self.field.response(),
            has_data_set: false,
            status,
            comment: comment.unwrap_or_default().to_owned(),
            ..self.clone()
        }
    }

    /// Whether this is the response to a request.
    pub const fn is_response(&self) -> bool {
        self.field.is_response()
    }

    /// The bytes of the command set: Implicit VR Little Endian, elements in order (PS3.7, 6.3.1).
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut set: BTreeMap<u16, Vec<u8>> = BTreeMap::new();
        let mut short = |number, value: u16| set.insert(number, value.to_le_bytes().to_vec());
        short(element::COMMAND_FIELD, self.field.0);
        short(element::DATA_SET_TYPE, if self.has_data_set { 0 } else { NO_DATA_SET });
        if self.is_response() {
            short(element::MESSAGE_ID_RESPONDED_TO, self.message_id);
            short(element::STATUS, self.status.0);
        } else {
            short(element::MESSAGE_ID, self.message_id);
            if self.field == CommandField::C_STORE {
                short(element::PRIORITY, 0);
            }
        }
        if let Some(type_id) = self.type_id {
            let is_event = self.field.request() == CommandField::N_EVENT_REPORT;
            short(if is_event { element::EVENT_TYPE } else { element::ACTION_TYPE }, type_id);
        }
        let elements = self.field.sop_elements();
        for (number, text, padding) in [
            (elements.sop_class, &self.sop_class, 0),
            (elements.sop_instance, &self.sop_instance, 0),
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

    fn parse(context_id: u8, bytes: &[u8]) -> Result<Self, MessageError> {
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
        let field = CommandField(field);
        let id = if field.is_response() || field == CommandField::C_CANCEL {
            element::MESSAGE_ID_RESPONDED_TO
        } else {
            element::MESSAGE_ID
        };
        let data_set = short(element::DATA_SET_TYPE).ok_or(missing("Command Data Set Type"))?;
        Ok(Self {
            context_id,
            field,
            message_id: short(id).ok_or(missing("Message ID"))?,
            sop_class: either(element::AFFECTED_SOP_CLASS, element::REQUESTED_SOP_CLASS),
            sop_instance: either(element::AFFECTED_SOP_INSTANCE, element::REQUESTED_SOP_INSTANCE),
            type_id: short(element::EVENT_TYPE).or_else(|| short(element::ACTION_TYPE)),
            has_data_set: data_set != NO_DATA_SET,
            // A response without a status must not pass for success.
            status: match short(element::STATUS) {
                None if field.is_response() => return Err(missing("Status")),
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

/// What the assembler knows after one more fragment.
#[derive(Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// The command set is not complete yet.
    Incomplete,
    /// A command set is complete. Its data set, if it has one, comes next.
    Command(Command),
    /// A piece of the data set of the last command.
    Data {
        /// The bytes of the piece.
        bytes: &'a [u8],
        /// Whether the data set ends with this piece.
        is_last: bool,
    },
}

/// Assembles the messages of one association from their fragments, in order.
#[derive(Debug, Default)]
pub struct Assembler {
    command: Vec<u8>,
    /// Id of the presentation context of the message that has begun.
    context_id: Option<u8>,
    /// Whether the next fragment belongs to a data set.
    is_data_next: bool,
    /// How many fragments of the message carried nothing.
    empty_fragments: u32,
}

/// One presentation data value of a P-DATA PDU (PS3.8, 9.3.5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment<'a> {
    context_id: u8,
    is_command: bool,
    is_last: bool,
    data: &'a [u8],
}

/// The fragments of a P-DATA-TF PDU, which is given with its header.
///
/// # Errors
///
/// Fails if a fragment does not end within the PDU.
pub fn fragments(pdu: &[u8]) -> Result<Vec<Fragment<'_>>, MessageError> {
    let mut rest = pdu.get(6..).unwrap_or_default();
    let mut found = Vec::new();
    while !rest.is_empty() {
        let (header, after) = rest.split_first_chunk::<6>().ok_or(MessageError::BadFragment)?;
        let [a, b, c, d, context_id, control] = *header;
        let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
        let length = length.checked_sub(2).ok_or(MessageError::BadFragment)?;
        let (data, after) = after.split_at_checked(length).ok_or(MessageError::BadFragment)?;
        let is_command = control & 1 == 1;
        let is_last = control & 2 == 2;
        found.push(Fragment { context_id, is_command, is_last, data });
        rest = after;
    }
    Ok(found)
}

impl Assembler {
    /// Adds the next fragment of the association.
    ///
    /// # Errors
    ///
    /// Fails if the fragments do not form messages. The association cannot go on after that.
    pub fn push<'a>(&mut self, fragment: Fragment<'a>) -> Result<Step<'a>, MessageError> {
        let is_same = self.context_id.is_none_or(|it| it == fragment.context_id);
        if !is_same || fragment.is_command == self.is_data_next {
            return Err(MessageError::OutOfOrder);
        }
        if self.context_id.is_none() {
            self.empty_fragments = 0;
        }
        self.context_id = Some(fragment.context_id);
        if fragment.data.is_empty() && !fragment.is_last {
            self.empty_fragments += 1;
            if self.empty_fragments > EMPTY_FRAGMENTS_MAX {
                return Err(MessageError::TooManyEmpty);
            }
        }
        if self.is_data_next {
            if fragment.is_last {
                self.is_data_next = false;
                self.context_id = None;
            }
            return Ok(Step::Data { bytes: fragment.data, is_last: fragment.is_last });
        }
        if self.command.len() + fragment.data.len() > COMMAND_BYTES_MAX {
            return Err(MessageError::TooLong);
        }
        self.command.extend(fragment.data);
        if !fragment.is_last {
            return Ok(Step::Incomplete);
        }
        let command = Command::parse(fragment.context_id, &std::mem::take(&mut self.command))?;
        self.is_data_next = command.has_data_set;
        if !command.has_data_set {
            self.context_id = None;
        }
        Ok(Step::Command(command))
    }

    /// Whether the last message is complete and no other has begun.
    pub fn is_between_messages(&self) -> bool {
        self.context_id.is_none()
    }
}

/// Why fragments are not a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// A data set without a command or on another context, or a command inside a data set.
    #[error("the fragments of a message came out of order")]
    OutOfOrder,
    /// A command set, or a data set that is read in memory, exceeds its upper bound.
    #[error("a command set has more than {COMMAND_BYTES_MAX} bytes")]
    TooLong,
    /// Fragments carry nothing, one after another.
    #[error("a message has more than {EMPTY_FRAGMENTS_MAX} fragments without data")]
    TooManyEmpty,
    /// The bytes are no command set.
    #[error("a command set cannot be read")]
    Unreadable,
    /// A fragment does not end within its PDU.
    #[error("a fragment does not fit into its PDU")]
    BadFragment,
    /// A command lacks an element that PS3.7 requires.
    #[error("a command set has no valid {name}")]
    Missing {
        /// Name of the element.
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
        let pdu = |(at, it)| crate::pdu_stream::data_pdu(command.context_id, true, is_last(at), it);
        bytes.chunks(size).enumerate().map(pdu).collect()
    }

    fn store() -> Command {
        Command::request(3, CommandField::C_STORE, 7, "1.2.840.10008.5.1.4.1.1.2", "1.2.3")
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
    fn sec_21_a_message_of_empty_fragments_is_ended() {
        let mut assembler = Assembler::default();
        for pdu in pieces(&store(), 4096) {
            assembler.push(fragments(&pdu).unwrap()[0]).unwrap();
        }
        let empty = crate::pdu_stream::data_pdu(3, false, false, b"");
        let empty = fragments(&empty).unwrap()[0];
        for _ in 0..EMPTY_FRAGMENTS_MAX {
            assert_eq!(assembler.push(empty), Ok(Step::Data { bytes: b"", is_last: false }));
        }
        assert_eq!(assembler.push(empty), Err(MessageError::TooManyEmpty));
    }

    #[test]
    fn answers_name_what_they_answer() {
        let answer = store().response(Status::CANNOT_UNDERSTAND, &"ä".repeat(60));
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
