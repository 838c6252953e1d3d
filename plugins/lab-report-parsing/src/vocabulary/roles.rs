//! The roles of columns of a report, by their headings in Chinese and English.

use encoding::laboratory::unit::folded_text;

use super::is_han;

/// The role of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Role {
    /// Names of entries.
    Name,
    /// Results.
    Result,
    /// Reference ranges.
    Reference,
    /// Units.
    Unit,
    /// Marks of the laboratory.
    Flag,
    /// Another content: numbers of rows, abbreviations, methods.
    Other,
    /// Not known from the heading: the cells decide.
    Unknown,
}

/// Known headings, in lower case and without white space.
const NAMES: &[(&str, Role)] = &[
    ("test", Role::Name),
    ("testname", Role::Name),
    ("tests", Role::Name),
    ("analyte", Role::Name),
    ("item", Role::Name),
    ("itemname", Role::Name),
    ("component", Role::Name),
    ("parameter", Role::Name),
    ("investigation", Role::Name),
    ("examination", Role::Name),
    ("entryname", Role::Name),
    ("entry_name", Role::Name),
    ("description", Role::Name),
    ("检验项目", Role::Name),
    ("项目名称", Role::Name),
    ("检验项目名称", Role::Name),
    ("检测项目", Role::Name),
    ("检查项目", Role::Name),
    ("中文名称", Role::Name),
    ("项目", Role::Name),
    ("名称", Role::Name),
    ("result", Role::Result),
    ("results", Role::Result),
    ("value", Role::Result),
    ("yourresult", Role::Result),
    ("testresult", Role::Result),
    ("observedvalue", Role::Result),
    ("结果", Role::Result),
    ("检验结果", Role::Result),
    ("检测结果", Role::Result),
    ("测定结果", Role::Result),
    ("测定值", Role::Result),
    ("结果值", Role::Result),
    ("reference", Role::Reference),
    ("referencerange", Role::Reference),
    ("referenceranges", Role::Reference),
    ("referenceinterval", Role::Reference),
    ("referencevalue", Role::Reference),
    ("biologicalreferenceinterval", Role::Reference),
    ("refrange", Role::Reference),
    ("ref.range", Role::Reference),
    ("ref.interval", Role::Reference),
    ("ref.", Role::Reference),
    ("normalrange", Role::Reference),
    ("range", Role::Reference),
    ("参考范围", Role::Reference),
    ("参考区间", Role::Reference),
    ("参考值", Role::Reference),
    ("参考值范围", Role::Reference),
    ("正常范围", Role::Reference),
    ("正常值", Role::Reference),
    ("生物参考区间", Role::Reference),
    ("unit", Role::Unit),
    ("units", Role::Unit),
    ("单位", Role::Unit),
    ("结果单位", Role::Unit),
    ("flag", Role::Flag),
    ("flags", Role::Flag),
    ("abn.", Role::Flag),
    ("abn", Role::Flag),
    ("abnormal", Role::Flag),
    ("status", Role::Flag),
    ("提示", Role::Flag),
    ("标志", Role::Flag),
    ("异常", Role::Flag),
    ("异常提示", Role::Flag),
    ("状态", Role::Flag),
    ("abnormality", Role::Flag),
    ("no.", Role::Other),
    ("no", Role::Other),
    ("#", Role::Other),
    ("code", Role::Other),
    ("abbr.", Role::Other),
    ("abbreviation", Role::Other),
    ("method", Role::Other),
    ("specimen", Role::Other),
    ("previous", Role::Other),
    ("previousresult", Role::Other),
    ("previousresults", Role::Other),
    ("prior", Role::Other),
    ("priorresult", Role::Other),
    ("lastresult", Role::Other),
    ("history", Role::Other),
    ("上次结果", Role::Other),
    ("历史结果", Role::Other),
    ("前次结果", Role::Other),
    ("序号", Role::Other),
    ("代号", Role::Other),
    ("代码", Role::Other),
    ("缩写", Role::Other),
    ("英文缩写", Role::Other),
    ("英文名称", Role::Other),
    ("检验方法", Role::Other),
    ("检测方法", Role::Other),
    ("方法", Role::Other),
];

/// The role of a column with this heading; nothing if the heading is unknown.
pub(crate) fn role(heading: &str) -> Option<Role> {
    let bare = |it: char| !it.is_whitespace() && !matches!(it, ':' | '：' | '*');
    let key: String = folded_text(heading).to_lowercase().chars().filter(|it| bare(*it)).collect();
    // `结果(Result)`, `Unit (SI)`.
    let outer: String = key.chars().take_while(|it| *it != '(').collect();
    let known = |it: &str| NAMES.iter().find(|(name, _)| *name == it).map(|(_, role)| *role);
    known(&key).or_else(|| known(&outer)).or_else(|| nearly(&key))
}

/// The role of a heading of which one character was misread.
fn nearly(key: &str) -> Option<Role> {
    let length = key.chars().count();
    let length_min = if key.chars().any(is_han) { 3 } else { 4 };
    let near = |it: &&(&str, Role)| {
        length >= length_min
            && it.0.chars().count() >= length_min
            && strsim::levenshtein(it.0, key) == 1
    };
    NAMES.iter().find(near).map(|(_, role)| *role)
}
