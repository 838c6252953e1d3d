//! Messages: patients of several authorities, groups, values with every delimiter, statuses,
//! cancellations, and headers with one fault.

use std::fmt::Write as _;

use fastrand::Rng;

/// The authority of an identifier, as CX-4 writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Authority {
    /// None is named.
    None,
    /// A name.
    Name(&'static str),
    /// An OID without a name.
    Oid(&'static str),
}

/// Authorities that are not each other's.
const AUTHORITIES: [Authority; 5] = [
    Authority::None,
    Authority::Name("HOSP"),
    Authority::Name("LAB"),
    Authority::Oid("1.2.3.111"),
    Authority::Oid("1.2.3.222"),
];

impl Authority {
    /// Its name or OID; empty for none.
    pub const fn text(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Name(text) | Self::Oid(text) => text,
        }
    }

    fn written(self) -> String {
        match self {
            Self::None => String::new(),
            Self::Name(name) => name.to_owned(),
            Self::Oid(oid) => format!("&{oid}&ISO"),
        }
    }
}

/// A patient. Few numbers and names are in use, so that those of several patients are the same.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Person {
    /// The identifier, CX-1.
    pub identifier: String,
    /// Its authority.
    pub authority: Authority,
    /// The name, as PID-5 writes it.
    pub name: &'static str,
}

const NAMES: [&str; 4] = ["ALPHA^ANNA", "BETA^BERT", "MÜLLER^JÖRG", "王^小东"];

impl Person {
    /// Any patient.
    pub fn any(random: &mut Rng) -> Self {
        let authority = random.choice(AUTHORITIES).unwrap();
        Self::of(random, authority)
    }

    /// A patient of this authority.
    pub fn of(random: &mut Rng, authority: Authority) -> Self {
        let identifier = format!("47{:02}", random.u8(..4));
        Self { identifier, authority, name: random.choice(NAMES).unwrap() }
    }

    /// Whether the identifiers of both are the same.
    pub fn is(&self, other: &Self) -> bool {
        self.identifier == other.identifier && self.authority == other.authority
    }

    /// The PID segment with this number.
    fn pid(&self, number: usize) -> String {
        let Self { identifier, authority, name } = self;
        format!("PID|{number}||{identifier}^^^{}^MR||{name}||19500101|O", authority.written())
    }
}

/// A result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// OBX-2.
    pub value_type: &'static str,
    /// The name of the test.
    pub name: String,
    /// The value as a person reads it.
    pub value: String,
    /// The unit.
    pub unit: &'static str,
    /// OBX-11.
    pub status: &'static str,
    /// OBX-5 as it is written.
    written: String,
}

/// What OBX-11 says of a result.
const STATUSES: [&str; 6] = ["F", "F", "F", "C", "P", ""];

/// Statuses under which there is no result.
const NO_RESULTS: [&str; 6] = ["D", "W", "X", "N", "I", "O"];

/// Units without a delimiter.
const UNITS: [&str; 6] = ["", "mmol/L", "g/dL", "10*9/L", "%", "U/L"];

/// What values of text are made of: words, delimiters, and letters of several scripts.
const PIECES: [&str; 14] =
    ["negative", "see", "12", "|", "^", "&", "~", "\\", "é", "白细胞", "<", "µ", "a.br", "#"];

impl Row {
    /// A result with any value and status.
    pub fn any(random: &mut Rng) -> Self {
        let mut row = match random.u8(..5) {
            0 => Self::text(random, "TX"),
            1 => Self::text(random, "ST"),
            2 => Self::structured(random),
            3 => Self::coded(random),
            _ => Self::number(random.u32(..100_000)),
        };
        let statuses = if random.u8(..4) == 0 { NO_RESULTS } else { STATUSES };
        row.status = random.choice(statuses).unwrap();
        row.unit = random.choice(UNITS).unwrap();
        row
    }

    /// A final result with this number, which no other row has.
    pub fn number(number: u32) -> Self {
        let value = format!("{}.{:02}", number / 100, number % 100);
        Self {
            value_type: "NM",
            name: format!("Test {number}"),
            written: value.clone(),
            value,
            unit: "mmol/L",
            status: "F",
        }
    }

    /// The same with another status.
    #[must_use]
    pub fn with_status(self, status: &'static str) -> Self {
        Self { status, ..self }
    }

    fn text(random: &mut Rng, value_type: &'static str) -> Self {
        let count = random.usize(1..6);
        let words: Vec<&str> = (0..count).map(|_| random.choice(PIECES).unwrap()).collect();
        let value = words.join(" ");
        Self { value_type, written: escaped(&value), value, ..Self::number(random.u32(..1000)) }
    }

    fn structured(random: &mut Rng) -> Self {
        let comparator = random.choice(["<", ">", "<=", ">=", ""]).unwrap();
        let number = random.u32(1..1000);
        let value = format!("{comparator}{number}");
        let written = format!("{comparator}^{number}");
        Self { value_type: "SN", written, value, ..Self::number(number) }
    }

    fn coded(random: &mut Rng) -> Self {
        let row = Self::text(random, "CWE");
        let written = format!("C1^{}^L", row.written);
        Self { written, ..row }
    }

    /// Whether its status says that it is a result.
    pub fn is_result(&self) -> bool {
        !NO_RESULTS.contains(&self.status)
    }

    fn obx(&self, number: usize) -> String {
        let Self { value_type, name, unit, status, written, .. } = self;
        format!("OBX|{number}|{value_type}|C{number}^{name}^L||{written}|{unit}|1-40||||{status}")
    }
}

/// Text with escape sequences for the delimiters.
pub fn escaped(text: &str) -> String {
    let sequence = |letter: char| match letter {
        '|' => "\\F\\".to_owned(),
        '^' => "\\S\\".to_owned(),
        '&' => "\\T\\".to_owned(),
        '~' => "\\R\\".to_owned(),
        '\\' => "\\E\\".to_owned(),
        other => other.to_string(),
    };
    text.chars().map(sequence).collect()
}

/// The results of a patient in a message.
#[derive(Clone, Debug)]
pub struct Group {
    /// Whom PID names.
    pub person: Person,
    /// The results, in order.
    pub rows: Vec<Row>,
}

/// A message with results.
#[derive(Clone, Debug)]
pub struct Results {
    /// MSH-10, which is also the number of the order.
    pub control_id: String,
    /// The groups, in order.
    pub groups: Vec<Group>,
}

impl Results {
    /// Results of one patient, or of several in one message.
    pub fn any(random: &mut Rng, control_id: &str) -> Self {
        let count = if random.u8(..3) == 0 { random.usize(2..4) } else { 1 };
        let first = Person::any(random);
        let mut groups = Vec::new();
        for number in 0..count {
            let is_same = number == 0 || random.bool();
            let person = if is_same { first.clone() } else { Person::any(random) };
            let rows = (0..random.usize(1..5)).map(|_| Row::any(random)).collect();
            groups.push(Group { person, rows });
        }
        Self { control_id: control_id.to_owned(), groups }
    }

    /// Whether all groups are about one patient.
    pub fn is_of_one(&self) -> bool {
        self.groups.windows(2).all(|it| it[0].person.is(&it[1].person))
    }

    /// The first group, by number, that is about another patient than the first.
    pub fn first_other(&self) -> Option<usize> {
        let first = &self.groups.first()?.person;
        Some(self.groups.iter().position(|it| !it.person.is(first))? + 1)
    }

    /// All rows, in order.
    pub fn rows(&self) -> Vec<&Row> {
        self.groups.iter().flat_map(|it| &it.rows).collect()
    }

    /// The message.
    pub fn written(&self) -> String {
        let mut text = Header::of("ORU^R01", &self.control_id).written();
        for (index, group) in self.groups.iter().enumerate() {
            let id = &self.control_id;
            _ = write!(text, "{}\rORC|RE|P{id}|F{id}\r", group.person.pid(index + 1));
            _ = write!(text, "OBR|1|P{id}|F{id}-{index}|24323-8^Panel^LN|||20260103090000\r");
            for (number, row) in group.rows.iter().enumerate() {
                text.push_str(&row.obx(number + 1));
                text.push('\r');
            }
        }
        text
    }
}

/// MSH with one fault, or with none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderFault {
    /// None.
    None,
    /// MSH-12 is no version of the standard.
    Version,
    /// MSH-9.1 is no type of the standard.
    Type,
    /// MSH-9.2 is no event of the standard.
    Event,
    /// MSH-11 is not accepted.
    ProcessingId,
    /// MSH-10 is empty.
    ControlId,
    /// MSH-18 names no character set.
    CharacterSet,
}

impl HeaderFault {
    /// Every fault, and none.
    pub const ALL: [Self; 7] = [
        Self::None,
        Self::Version,
        Self::Type,
        Self::Event,
        Self::ProcessingId,
        Self::ControlId,
        Self::CharacterSet,
    ];

    /// ERR-3 of the answer.
    pub const fn code(self) -> Option<u16> {
        match self {
            Self::None => None,
            Self::Version => Some(203),
            Self::Type => Some(200),
            Self::Event => Some(201),
            Self::ProcessingId => Some(202),
            Self::ControlId => Some(101),
            Self::CharacterSet => Some(102),
        }
    }

    /// The field that the answer has to name, as people write it.
    pub const fn field(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Version => "MSH-12",
            Self::Type | Self::Event => "MSH-9",
            Self::ProcessingId => "MSH-11",
            Self::ControlId => "MSH-10",
            Self::CharacterSet => "MSH-18",
        }
    }
}

/// A message header.
#[derive(Clone, Debug)]
pub struct Header {
    kind: String,
    control_id: String,
    fault: HeaderFault,
}

impl Header {
    /// A sound header of a message of this type.
    pub fn of(kind: &str, control_id: &str) -> Self {
        let fault = HeaderFault::None;
        Self { kind: kind.to_owned(), control_id: control_id.to_owned(), fault }
    }

    /// The same with a fault.
    #[must_use]
    pub fn with_fault(self, fault: HeaderFault) -> Self {
        Self { fault, ..self }
    }

    /// The segment, with its CR.
    pub fn written(&self) -> String {
        let Self { kind, control_id, fault } = self;
        let is = |it: HeaderFault| *fault == it;
        let kind = if is(HeaderFault::Type) {
            "ZZZ^R01"
        } else if is(HeaderFault::Event) {
            "ORU^Q99"
        } else {
            kind
        };
        let control_id = if is(HeaderFault::ControlId) { "" } else { control_id };
        let processing = if is(HeaderFault::ProcessingId) { "Q" } else { "P" };
        let version = if is(HeaderFault::Version) { "7.1" } else { "2.5.1" };
        let charset = if is(HeaderFault::CharacterSet) { "KLINGON" } else { "UNICODE UTF-8" };
        format!(
            "MSH|^~\\&|LAB|HOSP|ISO|HOSP|20260103101500||{kind}|{control_id}|{processing}|{version}\
             ||||||{charset}\r"
        )
    }
}

/// An order of a message, and whether the message cancels it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ordered {
    /// ORC-2 or OBR-2.
    pub placer: String,
    /// OBR-18.
    pub accession: String,
    /// Whether it is cancelled by ORC-1 or ORC-5 of its group.
    pub is_cancelled: bool,
}

/// A message with orders: several ORC, each with one OBR or more.
#[derive(Clone, Debug)]
pub struct Orders {
    /// Whom PID names.
    pub person: Person,
    /// The orders, one for each OBR.
    pub orders: Vec<Ordered>,
    text: String,
}

/// ORC-1 and ORC-5, and whether the two cancel.
const CONTROLS: [(&str, &str, bool); 16] = [
    ("NW", "", false),
    ("NW", "SC", false),
    ("XO", "IP", false),
    ("SC", "CM", false),
    ("RE", "CM", false),
    ("CA", "", true),
    ("CA", "CA", true),
    ("OC", "", true),
    ("DC", "", true),
    ("SC", "CA", true),
    ("SC", "DC", true),
    ("XO", "CA", true),
    ("RO", "", false),
    ("RP", "", true),
    ("RU", "", true),
    ("SC", "RP", true),
];

impl Orders {
    /// Orders of one patient.
    pub fn any(random: &mut Rng, control_id: &str) -> Self {
        let person = Person::any(random);
        let mut text = Header::of("ORM^O01", control_id).written();
        _ = write!(text, "{}\rPV1|1|O\r", person.pid(1));
        let mut orders = Vec::new();
        for group in 0..random.usize(1..4) {
            let (control, status, is_cancelled) = random.choice(CONTROLS).unwrap();
            let count = random.usize(1..4);
            for number in 0..count {
                let name = format!("{control_id}-{group}-{number}");
                // With several OBR, each has its own numbers, and ORC has none.
                let of_control = if count == 1 { name.as_str() } else { "" };
                if number == 0 {
                    _ = write!(text, "ORC|{control}|{of_control}|||{status}\r");
                }
                _ = write!(text, "OBR|{}|{name}||CT1^CT^L||||||||||||||A{name}\r", number + 1);
                let accession = format!("A{name}");
                orders.push(Ordered { placer: name, accession, is_cancelled });
            }
        }
        Self { person, orders, text }
    }

    /// The message.
    pub fn written(&self) -> &str {
        &self.text
    }
}
