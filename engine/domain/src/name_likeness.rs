//! Compares names of persons as different systems write them: in any order and case, with or
//! without middle names and titles, with or without accents, in Latin letters or in Chinese.

use unicode_normalization::UnicodeNormalization as _;
use unicode_normalization::char::is_combining_mark;

use crate::PersonName;

/// How alike two statements about a person are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Likeness {
    /// Nothing can be compared: one is missing, masked or in another script.
    Unknown,
    /// They say the same.
    Same,
    /// They differ as a misread letter or another middle name does.
    Near,
    /// The given names are the same, and the family names are not: as after a marriage.
    OtherFamily,
    /// They are of different persons.
    Different,
}

/// Words of a name that are no part of it.
const TITLES: &[&str] = &[
    "mr", "mrs", "ms", "miss", "mx", "dr", "prof", "sir", "madam", "md", "phd", "herr", "frau",
    "jr", "sr",
];

/// Words that stand for a name that is not known.
const NOBODY: &[&str] = &["unknown", "unk", "anonymous", "anonymized", "noname", "unbekannt"];

/// Chinese words that stand for a name that is not known.
const NOBODY_IN_CHINESE: &[&str] = &["无名氏", "不详", "未知", "无名", "匿名"];

/// Titles behind a Chinese name.
const TITLES_IN_CHINESE: &[&str] = &["先生", "女士", "小姐", "太太", "同志"];

/// Words of a name of a child that has none of its own yet.
const CHILD: &[&str] = &["baby", "newborn", "infant", "twin", "neonate"];

/// Ends of a Chinese name of a child that has none of its own yet.
const CHILD_IN_CHINESE: &[&str] = &["之子", "之女", "之婴", "婴儿"];

/// Traditional characters that are common in names, each with its simplified form.
const SIMPLIFIED: &str = "陳陈張张劉刘黃黄趙赵吳吴孫孙馬马許许鄧邓馮冯韓韩楊杨羅罗鄭郑謝谢\
    蕭萧葉叶蔣蒋賈贾盧卢蘇苏呂吕範范龐庞鍾钟譚谭陸陆賴赖龍龙龔龚嚴严湯汤齊齐錢钱萬万閻阎\
    歐欧陽阳華华偉伟國国強强軍军傑杰鵬鹏輝辉蘭兰鳳凤紅红麗丽燕燕豔艳潔洁靜静瑩莹貞贞賢贤慶庆\
    榮荣興兴業业東东麥麦連连鄒邹喬乔顧顾賀贺駱骆關关莊庄鮑鲍倫伦達达義义禮礼遠远長长開开飛飞\
    雲云寶宝愛爱學学詩诗語语夢梦穎颖銳锐鋒锋鈞钧鎮镇銘铭錦锦";

/// The marks that stand for letters that are hidden or could not be read.
const MASKS: [char; 4] = ['*', '某', '\u{fffd}', '○'];

/// A name in the form in which it is compared.
#[derive(Clone, Default)]
struct ComparableName {
    /// Words in an alphabet.
    words: Vec<NameWord>,
    /// The Chinese characters.
    chinese: String,
    /// The words of the family name, as far as they are known as such.
    family: Vec<NameWord>,
    /// The words of the given name, as far as they are known as such.
    given: Vec<NameWord>,
    /// Whether it is of a child that has no name of its own.
    is_of_child: bool,
}

/// A word with its accents left out, and with them written out: `muller`, `mueller`.
#[derive(Clone, Default, PartialEq, Eq)]
struct NameWord {
    plain: String,
    written_out: String,
}

impl NameWord {
    fn of(word: &str) -> Self {
        let lower = word.to_lowercase();
        let written_out: String = lower
            .chars()
            .map(|it| match it {
                'ä' | 'æ' => "ae".to_owned(),
                'ö' | 'ø' | 'œ' => "oe".to_owned(),
                'ü' => "ue".to_owned(),
                'å' => "aa".to_owned(),
                it => it.to_string(),
            })
            .collect();
        Self { plain: without_accents(&lower), written_out: without_accents(&written_out) }
    }

    fn is_same(&self, other: &Self) -> bool {
        self.plain == other.plain
            || self.written_out == other.written_out
            || self.plain == other.written_out
            || self.written_out == other.plain
    }

    fn letters(&self) -> usize {
        self.plain.chars().count()
    }

    /// Whether one of the two is the first letter of the other.
    fn is_initial_of(&self, other: &Self) -> bool {
        (self.letters() == 1 || other.letters() == 1)
            && self.plain.chars().next() == other.plain.chars().next()
    }

    /// Whether the two differ as a misread word does.
    fn is_nearly(&self, other: &Self) -> bool {
        let shorter = self.letters().min(other.letters());
        let allowed = match shorter {
            0..3 => 0,
            3..6 => 1,
            6..9 => 2,
            _ => 3,
        };
        strsim::damerau_levenshtein(&self.plain, &other.plain) <= allowed
    }

    fn is_masked(&self) -> bool {
        self.plain.contains(MASKS)
    }
}

/// A text without accents, in the letters of its alphabet.
fn without_accents(text: &str) -> String {
    let special = |it: char| match it {
        'ß' => "ss".to_owned(),
        'ø' => "o".to_owned(),
        'æ' => "ae".to_owned(),
        'œ' => "oe".to_owned(),
        'ł' => "l".to_owned(),
        'đ' | 'ð' => "d".to_owned(),
        'þ' => "th".to_owned(),
        'ı' => "i".to_owned(),
        it => it.to_string(),
    };
    text.nfkd().filter(|it| !is_combining_mark(*it)).map(special).collect()
}

const fn is_chinese(it: char) -> bool {
    matches!(it, '\u{3400}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{2ffff}')
}

fn simplified(it: char) -> char {
    let mut pairs = SIMPLIFIED.chars().filter(|it| is_chinese(*it));
    while let (Some(traditional), Some(simple)) = (pairs.next(), pairs.next()) {
        if traditional == it {
            return simple;
        }
    }
    it
}

/// The words of a text in an alphabet. What stands in brackets is no part of a name.
fn words(text: &str) -> Vec<NameWord> {
    let is_apostrophe = |it: &char| matches!(it, '\'' | '’' | '`' | '´');
    let text: String = text.chars().filter(|it| !is_apostrophe(it)).collect();
    let is_inside = |it: char| (it.is_alphabetic() && !is_chinese(it)) || MASKS.contains(&it);
    let words = text.split(|it: char| !is_inside(it) && !is_combining_mark(it));
    let words = words.filter(|it| !it.is_empty()).map(NameWord::of);
    words.filter(|it| !TITLES.contains(&it.plain.as_str())).collect()
}

impl ComparableName {
    /// Takes a name apart that may have components and groups.
    fn of(name: &str) -> Self {
        let mut comparable = Self::default();
        let parsed = PersonName::parse(name);
        for group in parsed.groups() {
            // Prefixes and suffixes are titles.
            let parts = [group.family(), group.given(), group.middle()];
            let chinese: String = parts.concat().chars().filter(|it| is_chinese(*it)).collect();
            if comparable.chinese.is_empty() && !chinese.is_empty() {
                let all = parts.concat();
                let kept = all.chars().filter(|it| is_chinese(*it) || MASKS.contains(it));
                comparable.chinese = kept.map(simplified).collect();
                continue;
            }
            if !comparable.words.is_empty() {
                continue;
            }
            let [family, given, _] = parts.map(words);
            comparable.words = words(&parts.join(" "));
            if !given.is_empty() {
                comparable.family = family;
                comparable.given = given;
            }
        }
        comparable.add_latin_beside_chinese(name);
        comparable.note_children();
        comparable.forget_nobody();
        comparable
    }

    /// `李小梅 Li Xiaomei`: both scripts in one group.
    fn add_latin_beside_chinese(&mut self, name: &str) {
        if self.words.is_empty() && !self.chinese.is_empty() {
            let latin = words(&name.replace(['^', '='], " "));
            self.words = latin.into_iter().filter(|it| !it.is_masked()).collect();
        }
    }

    fn note_children(&mut self) {
        let is_child = |it: &NameWord| CHILD.contains(&it.plain.as_str());
        let is_end = |it: &&&str| self.chinese.ends_with(**it);
        let end = CHILD_IN_CHINESE.iter().find(is_end).copied();
        self.is_of_child = self.words.iter().any(is_child) || end.is_some();
        for title in TITLES_IN_CHINESE {
            if let Some(name) = self.chinese.strip_suffix(title) {
                self.chinese = name.to_owned();
            }
        }
    }

    fn forget_nobody(&mut self) {
        if self.words.iter().any(|it| NOBODY.contains(&it.plain.as_str())) {
            self.words.clear();
            self.family.clear();
            self.given.clear();
        }
        if NOBODY_IN_CHINESE.contains(&self.chinese.as_str()) {
            self.chinese.clear();
        }
    }
}

/// Compares two names. Either may have components (`DOE^JANE`) or not. `is_misread` says that one
/// was recognised in a picture.
pub(crate) fn compare_names(one: &str, other: &str, is_misread: bool) -> Likeness {
    let [one, other] = [one, other].map(ComparableName::of);
    let by_chinese = compare_chinese(&one.chinese, &other.chinese, is_misread);
    let by_words = compare_words(&one, &other, is_misread);
    // One person may be romanised in several ways: the characters decide.
    let likeness = match by_chinese {
        Likeness::Unknown => by_words,
        of_characters => of_characters,
    };
    if one.is_of_child != other.is_of_child && likeness != Likeness::Unknown {
        return Likeness::Different;
    }
    likeness
}

fn compare_chinese(one: &str, other: &str, is_misread: bool) -> Likeness {
    if one.is_empty() || other.is_empty() {
        return Likeness::Unknown;
    }
    if one == other {
        return Likeness::Same;
    }
    if one.contains(MASKS) || other.contains(MASKS) {
        return compare_masked(one, other);
    }
    let [shorter, longer] =
        if one.chars().count() < other.chars().count() { [one, other] } else { [other, one] };
    if shorter.chars().count() >= 2 && longer.contains(shorter) {
        return Likeness::Near;
    }
    let is_misread = is_misread && longer.chars().count() >= 3;
    let distance = strsim::levenshtein(one, other);
    if is_misread && distance == 1 { Likeness::Near } else { Likeness::Different }
}

/// Compares what is not hidden: it may contradict, but it identifies nobody.
fn compare_masked(one: &str, other: &str) -> Likeness {
    let head = |it: &str| -> String { it.chars().take_while(|it| !MASKS.contains(it)).collect() };
    let tail =
        |it: &str| -> Vec<char> { it.chars().rev().take_while(|it| !MASKS.contains(it)).collect() };
    let [one_head, other_head] = [head(one), head(other)];
    let [one_tail, other_tail] = [tail(one), tail(other)];
    let heads_agree = one_head.starts_with(&other_head) || other_head.starts_with(&one_head);
    let tails_agree = one_tail.starts_with(&other_tail) || other_tail.starts_with(&one_tail);
    if heads_agree && tails_agree { Likeness::Unknown } else { Likeness::Different }
}

fn compare_words(one: &ComparableName, other: &ComparableName, is_misread: bool) -> Likeness {
    if one.words.is_empty() || other.words.is_empty() {
        return Likeness::Unknown;
    }
    let is_masked = |it: &ComparableName| it.words.iter().any(NameWord::is_masked);
    if is_masked(one) || is_masked(other) {
        return compare_masked_words(&one.words, &other.words);
    }
    let mut rest = Rest { one: one.words.clone(), other: other.words.clone() };
    let mut certain = rest.take(NameWord::is_same);
    certain += rest.take_joined();
    let initials = rest.take(NameWord::is_initial_of);
    let is_matched = |part: &[NameWord], whole: &[NameWord]| {
        !part.is_empty() && part.iter().all(|it| whole.iter().any(|other| it.is_same(other)))
    };
    if rest.one.is_empty() || rest.other.is_empty() {
        return if certain > 0 {
            Likeness::Same
        } else if initials > 0 {
            Likeness::Unknown
        } else {
            Likeness::Different
        };
    }
    let all_matched = |known: &ComparableName, it: &ComparableName| {
        is_matched(&known.family, &it.words) && is_matched(&known.given, &it.words)
    };
    if all_matched(one, other) || all_matched(other, one) {
        return Likeness::Near;
    }
    if is_misread {
        let near = rest.take(NameWord::is_nearly);
        if near > 0 && (rest.one.is_empty() || rest.other.is_empty()) {
            return Likeness::Near;
        }
    }
    let has_given_only = |known: &ComparableName, it: &ComparableName| {
        is_matched(&known.given, &it.words) && !is_matched(&known.family, &it.words)
    };
    if has_given_only(one, other) || has_given_only(other, one) {
        return Likeness::OtherFamily;
    }
    Likeness::Different
}

/// Compares words of which letters are hidden: each visible beginning must be one of a word.
fn compare_masked_words(one: &[NameWord], other: &[NameWord]) -> Likeness {
    let has_counterpart = |word: &NameWord, all: &[NameWord]| {
        all.iter().any(|it| compare_masked(&word.plain, &it.plain) == Likeness::Unknown)
    };
    let [fewer, more] = if one.len() <= other.len() { [one, other] } else { [other, one] };
    if fewer.iter().all(|it| has_counterpart(it, more)) {
        Likeness::Unknown
    } else {
        Likeness::Different
    }
}

/// The words of two names that have no counterpart yet.
struct Rest {
    one: Vec<NameWord>,
    other: Vec<NameWord>,
}

impl Rest {
    /// Takes away the pairs of words that belong together, and returns their number.
    fn take(&mut self, belong: fn(&NameWord, &NameWord) -> bool) -> usize {
        let before = self.one.len();
        let other = &mut self.other;
        self.one.retain(|word| {
            let Some(at) = other.iter().position(|it| belong(word, it)) else { return true };
            other.remove(at);
            false
        });
        before - self.one.len()
    }

    /// Takes away words that the other name writes as two or three: `Xiaomei`, `XIAO MEI`.
    fn take_joined(&mut self) -> usize {
        let taken = take_joined(&mut self.one, &mut self.other);
        taken + take_joined(&mut self.other, &mut self.one)
    }
}

fn take_joined(whole: &mut Vec<NameWord>, parts: &mut Vec<NameWord>) -> usize {
    let before = whole.len();
    whole.retain(|word| {
        for count in [2, 3] {
            let start = parts.windows(count).position(|it| {
                let joined: String = it.iter().map(|it| it.plain.as_str()).collect();
                joined == word.plain
            });
            if let Some(start) = start {
                parts.drain(start..start + count);
                return false;
            }
        }
        true
    });
    before - whole.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(expected: Likeness, is_misread: bool, pairs: &[[&str; 2]]) {
        for [one, other] in pairs {
            assert_eq!(compare_names(one, other, is_misread), expected, "{one} {other}");
            assert_eq!(compare_names(other, one, is_misread), expected, "{other} {one}");
        }
    }

    #[test]
    fn pap_10_order_case_titles_accents_and_missing_parts_make_no_other_name() {
        let pairs = [
            ["Jane Doe", "DOE^JANE"],
            ["DOE, Jane", "DOE^JANE^Q"],
            ["Mrs. Jane Q. Doe", "Doe^Jane^Quinn^Dr"],
            ["J. Doe", "DOE^JANE"],
            ["Doe", "DOE^JANE"],
            ["Jürgen Müller", "MUELLER^JUERGEN"],
            ["Jurgen Muller", "Müller^Jürgen"],
            ["Sean O'Brien", "OBRIEN^SEAN"],
            ["Anna-Maria Lopez", "GARCIA LOPEZ^ANNA MARIA"],
            ["Xiaomei Li", "LI^XIAO MEI"],
            ["李小梅", "李^小梅"],
            ["李小梅女士", "李小梅"],
            ["陳大文", "陈^大文"],
            ["李小梅", "LI^XIAOMEI=李^小梅"],
            ["李小梅 Li Xiaomei", "=李^小梅"],
        ];
        check(Likeness::Same, false, &pairs);
    }

    #[test]
    fn pap_10_what_cannot_be_compared_is_unknown() {
        let pairs = [
            ["", "DOE^JANE"],
            ["李小梅", "LI^XIAOMEI"],
            ["李*梅", "李小梅"],
            ["李某某", "李^小梅"],
            ["J*** D**", "DOE^JANE"],
            ["Unknown", "DOE^JANE"],
            ["无名氏", "李小梅"],
            ["J D", "DOE^JANE"],
        ];
        check(Likeness::Unknown, false, &pairs);
    }

    #[test]
    fn pap_10_another_person_is_told_from_the_same() {
        let pairs = [
            ["ALPHA, Anna", "DOE^JANE"],
            ["John Doe", "DOE^JANE"],
            ["Baby of Jane Doe", "DOE^JANE"],
            ["李小梅之子", "李小梅"],
            ["王小梅", "李小梅"],
            ["李小红", "李小梅"],
            ["王*梅", "李小梅"],
            ["Smyth, Jane A", "SMITH^JO"],
        ];
        check(Likeness::Different, false, &pairs);
        check(Likeness::Different, true, &[["Alpha Anna", "BETA^BERT"], ["王芳", "李芳"]]);
        check(Likeness::OtherFamily, false, &[["Jane Roe", "DOE^JANE"]]);
    }

    #[test]
    fn pap_10_a_misread_name_is_near() {
        let pairs =
            [["Iane Doe", "DOE^JANE"], ["Mary Sarnple", "SAMPLE^MARY"], ["李小悔", "李小梅"]];
        check(Likeness::Near, true, &pairs);
        check(Likeness::Near, false, &[["Jane Mary Doe", "DOE^JANE^ANN"], ["小梅", "李小梅"]]);
        check(Likeness::Different, false, &[["李小悔", "李小梅"], ["Jahn Dee", "DOE^JOHN"]]);
    }
}
