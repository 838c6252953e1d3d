//! Laboratory messages of every kind: value types, statuses, flags, specimens, times, notes,
//! repetitions and character sets, with what each observation has to come out as.

use encoding::hl7::charset::Hl7Charset;
use fastrand::Rng;
use serde::Serialize;

use crate::generators::hl7::escaped;

/// Names of character sets (MSH-18), each with texts that it has, and how hexadecimal sequences
/// write the last of them.
const CHARSETS: [(&str, [&str; 3], &[&str]); 4] = [
    ("UNICODE UTF-8", ["µ", "白细胞", "é"], &["\\XC3A9\\", "\\XC3\\\\XA9\\"]),
    ("8859/1", ["µ", "ß", "é"], &["\\XE9\\"]),
    ("8859/15", ["Ž", "ß", "€"], &["\\XA4\\"]),
    ("GB 18030-2000", ["白", "细胞", "東"], &["\\X967C\\", "\\X96\\\\X7C\\"]),
];

/// Types of messages with results.
const KINDS: [&str; 3] = ["ORU^R01", "OUL^R22", "OUL^R24"];

/// Names of tests: code, text, scheme. Few, so that several rows have the same.
const NAMES: [[&str; 3]; 4] = [
    ["2345-7", "Glucose", "LN"],
    ["K", "Potassium", "L"],
    ["600-7", "Bacteria", "LN"],
    ["X9", "Remark & more", "99L"],
];

/// Units as they are written in OBX-6, and as they come out.
const UNITS: [(&str, &str); 9] = [
    ("", ""),
    ("mmol/L", "mmol/L"),
    ("10^3/uL", "10*3/uL"),
    ("10\\S\\3/uL", "10*3/uL"),
    ("x10^6/uL", "10*6/uL"),
    ("mL/min/1.73m^2", "mL/min/{1.73_m2}"),
    ("^g/dL^UCUM", "g/dL"),
    ("mg/dL^milligrams per deciliter^UCUM", "mg/dL"),
    ("furlong^a length^L", "furlong"),
];

/// References with flags as they are sent, and the flags that come out. Numbers lie between 0 and
/// 9999.
const JUDGED: [(&str, &str, &str); 14] = [
    ("", "", ""),
    ("", "HH", "HH"),
    ("", "L~LL", "LL"),
    ("", "R~U", "R~U"),
    ("", "AA", "AA"),
    ("see note", "H", "H"),
    ("200", "H", "H"),
    ("-9.5", "L", "L"),
    ("0-9999", "", "N"),
    ("0-9999", "HH", "HH"),
    ("20000-30000", "LL", "LL"),
    ("20000-30000", "L~D", "L~D"),
    ("< OR = 9999", "N", "N"),
    ("-30--20", "", "H"),
];

/// What OBX-11 says of a result, and under what there is none.
const STATUSES: [&str; 10] = ["F", "F", "F", "C", "P", "R", "S", "U", "A", ""];
const NO_RESULTS: [&str; 6] = ["D", "W", "X", "N", "I", "O"];

/// Specimens: SPM-4 as it is written, and as text.
const SPECIMENS: [(&str, &str); 4] = [
    ("SER^Serum^HL70487", "Serum"),
    ("CSF^Cerebrospinal fluid^HL70487", "Cerebrospinal fluid"),
    ("^^^BLD^Blood^L", "Blood"),
    ("UR", "UR"),
];

/// Times as they are written, and in FHIR. The offset of the message is one hour.
const ORDER_TIMES: [(&str, &str); 3] = [
    ("", ""),
    ("202601030800", "2026-01-03T07:00:00Z"),
    ("20260103080000+0100", "2026-01-03T07:00:00Z"),
];
const OWN_TIMES: [(&str, &str); 5] = [
    ("", ""),
    ("", ""),
    ("20260104083000", "2026-01-04T07:30:00Z"),
    ("20260105", "2026-01-05"),
    ("202602", "2026-02"),
];

/// A result as it has to come out.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Observed {
    /// OBX-3: code, text, scheme.
    pub name: [String; 3],
    /// The value, a line for each repetition.
    pub value: String,
    /// The unit, in UCUM if it is known.
    pub unit: String,
    /// The reference, as sent.
    pub reference: String,
    /// The flags that come out, `~` between.
    pub flags: String,
    /// OBX-11 as sent.
    pub status: String,
    /// OBX-4 as sent.
    pub sub_id: String,
    /// The panel.
    pub panel: String,
    /// The specimen as text.
    pub specimen: String,
    /// When it was observed, as sent; empty if nothing says so.
    pub time: String,
    /// The same in FHIR.
    pub fhir_time: String,
    /// The notes on it, in order.
    pub notes: Vec<String>,
}

/// A laboratory message.
#[derive(Clone, Debug)]
pub struct Laboratory {
    /// The bytes, in the character set of the message.
    pub bytes: Vec<u8>,
    /// The message as text.
    pub text: String,
    /// The results, in order.
    pub results: Vec<Observed>,
    /// Observations that are no results, in order.
    pub others: Vec<Observed>,
}

/// A text as it is written, and as it is read.
struct Text {
    written: String,
    read: String,
}

impl Text {
    fn of(text: &str) -> Self {
        Self { written: escaped(text), read: text.to_owned() }
    }

    /// Several with these between.
    fn joined(texts: &[Self], written: &str, read: &str) -> Self {
        let all = |of: fn(&Self) -> &str, between: &str| {
            texts.iter().map(of).collect::<Vec<_>>().join(between)
        };
        Self { written: all(|it| &it.written, written), read: all(|it| &it.read, read) }
    }
}

/// Writes a message, and notes what has to come of it.
struct Writer<'a> {
    random: &'a mut Rng,
    charset: usize,
    segments: Vec<String>,
    specimens: Vec<String>,
    results: Vec<Observed>,
    others: Vec<Observed>,
}

impl Laboratory {
    /// Any message with results of one patient.
    ///
    /// # Panics
    ///
    /// Panics if a character set of the list is not known.
    pub fn any(random: &mut Rng, control_id: &str) -> Self {
        let charset = random.usize(..CHARSETS.len());
        let kind = random.choice(KINDS).unwrap();
        let name = CHARSETS[charset].0;
        let segments = vec![
            format!(
                "MSH|^~\\&|LAB|HOSP|ISO|HOSP|20260106101500+0100||{kind}|{control_id}|P|2.5.1||||||{name}"
            ),
            "PID|1||4711^^^HOSP^MR||ALPHA^ANNA||19500101|O".to_owned(),
        ];
        let specimens = Vec::new();
        let results = Vec::new();
        let others = Vec::new();
        let mut writer = Writer { random, charset, segments, specimens, results, others };
        for number in 1..=writer.random.usize(1..4) {
            writer.order(kind, number, control_id);
        }
        let text = writer.segments.join("\r") + "\r";
        let charset = Hl7Charset::parse(name, Hl7Charset::Utf8).unwrap();
        let bytes = charset.encode(&text).unwrap();
        Self { bytes, text, results: writer.results, others: writer.others }
    }
}

impl Writer<'_> {
    fn order(&mut self, kind: &str, number: usize, control_id: &str) {
        let (time, fhir_time) = self.random.choice(ORDER_TIMES).unwrap();
        let panel = format!("Panel {number}");
        let is_oul = kind != "ORU^R01";
        let has_specimen = is_oul || self.random.bool();
        let mut about = Observed {
            panel: panel.clone(),
            time: time.to_owned(),
            fhir_time: fhir_time.to_owned(),
            ..Observed::default()
        };
        let mut of_request = "";
        let mut specimen = None;
        if has_specimen {
            let (written, text) = self.random.choice(SPECIMENS).unwrap();
            let taken_at = if self.random.bool() { "20260102070000" } else { "" };
            let place = self.specimens.len() + 1;
            let is_again = self.specimens.iter().any(|it| it == text);
            about.specimen =
                if is_again { format!("{text} (specimen {place})") } else { text.to_owned() };
            self.specimens.push(about.specimen.clone());
            if time.is_empty() && !taken_at.is_empty() {
                taken_at.clone_into(&mut about.time);
                "2026-01-02T06:00:00Z".clone_into(&mut about.fhir_time);
            }
            let dots = "|".repeat(13);
            specimen = Some(format!("SPM|{place}|||{written}{dots}{taken_at}"));
        } else if self.random.bool() {
            of_request = "SER^Serum";
            "SER, Serum".clone_into(&mut about.specimen);
        }
        let filler = format!("F{control_id}-{number}");
        let control = format!("ORC|RE|P{number}|{filler}");
        let request = format!(
            "OBR|{number}|P{number}|{filler}|P{number}^{panel}^L|||{time}||||||||{of_request}"
        );
        let first = specimen.clone().filter(|_| kind == "OUL^R22");
        let last = specimen.filter(|_| kind != "OUL^R22");
        self.segments.extend(first);
        if is_oul {
            self.segments.extend([request, control]);
        } else {
            self.segments.extend([control, request]);
        }
        if self.random.u8(..3) == 0 {
            about.notes.push(self.note(1));
        }
        for place in 1..=self.random.usize(1..5) {
            self.observation(place, &about);
        }
        self.segments.extend(last);
    }

    fn note(&mut self, number: usize) -> String {
        let count = self.random.usize(1..3);
        let text = self.repeated(count);
        self.segments.push(format!("NTE|{number}|L|{}", text.written));
        text.read
    }

    fn observation(&mut self, place: usize, about: &Observed) {
        let (value_type, value) = self.value();
        let is_number = value_type == "NM" && !value.read.contains('\n');
        let (reference, sent, flags) = self.random.choice(JUDGED).unwrap();
        // Against a range only a number is compared.
        let (reference, flags) = if is_number { (reference, flags) } else { ("", unranged(sent)) };
        let (unit, unit_read) = self.random.choice(UNITS).unwrap();
        let is_result = self.random.u8(..5) > 0;
        let status =
            if is_result { self.random.choice(STATUSES) } else { self.random.choice(NO_RESULTS) };
        let status = status.unwrap();
        let sub_id = self.random.choice(["", "", "1", "2", "1.1", "A"]).unwrap();
        let (time, fhir_time) = self.random.choice(OWN_TIMES).unwrap();
        let name = self.random.choice(NAMES).unwrap();
        let written = name.map(escaped).join("^");
        let written = if self.random.bool() { written } else { format!("^^^{written}") };
        let mut observed = Observed {
            name: name.map(str::to_owned),
            value: value.read,
            unit: unit_read.to_owned(),
            reference: reference.to_owned(),
            flags: flags.to_owned(),
            status: status.to_owned(),
            sub_id: sub_id.to_owned(),
            ..about.clone()
        };
        if !time.is_empty() {
            time.clone_into(&mut observed.time);
            fhir_time.clone_into(&mut observed.fhir_time);
        }
        self.segments.push(format!(
            "OBX|{place}|{value_type}|{written}|{sub_id}|{}|{unit}|{}|{sent}|||{status}|||{time}",
            value.written,
            escaped(reference)
        ));
        for number in 1..=self.random.usize(..3) {
            let note = self.note(number);
            observed.notes.push(note);
        }
        if is_result { self.results.push(observed) } else { self.others.push(observed) }
    }

    /// Words with delimiters and letters of the character set.
    fn words(&mut self) -> Text {
        let (_, letters, sequences) = CHARSETS[self.charset];
        let count = self.random.usize(1..5);
        let words: Vec<Text> = (0..count)
            .map(|_| match self.random.u8(..4) {
                0 => Text::of(self.random.choice(["|", "^", "&", "~", "\\", "<", "#"]).unwrap()),
                1 => Text::of(self.random.choice(letters).unwrap()),
                2 => Text {
                    written: (*self.random.choice(sequences).unwrap()).to_owned(),
                    read: letters[2].to_owned(),
                },
                _ => Text::of(self.random.choice(["see", "rare", "12", "colonies"]).unwrap()),
            })
            .collect();
        let all = Text::joined(&words, " ", " ");
        Text { written: format!("w {}", all.written), read: format!("w {}", all.read) }
    }

    fn repeated(&mut self, count: usize) -> Text {
        let texts: Vec<Text> = (0..count).map(|_| self.words()).collect();
        Text::joined(&texts, "~", "\n")
    }

    fn number(&mut self) -> Text {
        let number = self.random.u32(..9999);
        Text::of(&match self.random.u8(..3) {
            0 => number.to_string(),
            1 => format!("{}.{:02}", number / 100, number % 100),
            _ => format!("{}.{}", number / 10, number % 10),
        })
    }

    /// A value of any type.
    fn value(&mut self) -> (&'static str, Text) {
        let pair =
            |written: &str, read: &str| Text { written: written.to_owned(), read: read.to_owned() };
        let count = self.random.usize(1..3);
        match self.random.u8(..20) {
            0..4 => ("NM", self.number()),
            4 => {
                let numbers = [self.number(), self.number()];
                ("NM", Text::joined(&numbers, "~", "\n"))
            }
            5 => ("SN", pair("<^5", "<5")),
            6 => ("SN", pair("^1^:^128", "1:128")),
            7 => ("ST", self.words()),
            8 => ("TX", self.repeated(count)),
            9 => ("FT", self.repeated(count)),
            10..13 => {
                let value_type = self.random.choice(["CE", "CWE", "CNE"]).unwrap();
                let texts: Vec<Text> = (0..count).map(|_| self.coded(value_type)).collect();
                (value_type, Text::joined(&texts, "~", "\n"))
            }
            13 => ("DT", pair("20251201", "20251201")),
            14 => ("DTM", pair("202512010815", "202512010815")),
            15 => ("TM", pair("0815", "0815")),
            16 => ("TS", pair("20251201^D", "20251201")),
            17 => ("NA", pair("1.1^^1.3", "1.1; ; 1.3")),
            18 => ("NR", pair("1^5", "1-5")),
            _ => ("CX", pair("0815^^^LAB", "0815 LAB")),
        }
    }

    /// A coded value, with its text in any of its places.
    fn coded(&mut self, value_type: &str) -> Text {
        let text = self.words();
        let written = &text.written;
        let written = match self.random.u8(..4) {
            0 => format!("C1^{written}^L"),
            1 => format!("^^^C1^{written}^L"),
            2 if value_type != "CE" => format!("C1^^L^^^^^^{written}"),
            2 => format!("^{written}"),
            _ => return Text::of("C1"),
        };
        Text { written, ..text }
    }
}

/// The flags that come out where there is nothing to compare with.
fn unranged(sent: &str) -> &str {
    if sent == "L~LL" { "LL" } else { sent }
}
