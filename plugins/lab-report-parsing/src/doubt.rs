//! Why a row that was read from paper has to be checked by a person.

/// A reason for which a row may be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Doubt {
    /// It is below a line that ends the table.
    BelowEnd,
    /// The line above may be the first of its name, or the heading of a section.
    BelowName,
    /// The newest of dated columns is not certain.
    Undated,
    /// It may have been put together from two lines.
    TwoLines,
    /// Its result has two values.
    TwoValues,
    /// A part of it was not read.
    Unread,
    /// There is ink in it that no word covers.
    UnreadInk,
    /// Two texts are printed over each other.
    Overlapping,
    /// Recognition is not certain of it.
    Uncertain,
    /// Recognition read it otherwise at another size.
    Unsteady,
    /// It reaches the edge of the picture.
    AtEdge,
    /// The decimal point of its result was lost, by its reference.
    LostPoint,
    /// Its result is far from its reference.
    Magnitude,
    /// Its result is no number, and no word that is known for a result.
    ResultUnclear,
    /// Its reference cannot be compared with.
    ReferenceUnclear,
    /// Its unit is not known.
    UnitUnknown,
    /// It has no unit or no reference, and nearly all other rows have.
    FieldMissing,
    /// The laboratory's flag says otherwise than result and reference.
    FlagDiffers,
    /// Another reader reads it otherwise, or not at all.
    ReadersDiffer,
}

impl Doubt {
    /// The reason for people.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::BelowEnd => "it stands below the end of the table",
            Self::BelowName => "its name may begin in the line above",
            Self::Undated => "which of the dated columns is the newest is not certain",
            Self::TwoLines => "it may be put together from two lines",
            Self::TwoValues => "there are two values in its result",
            Self::Unread => "some of it could not be read",
            Self::UnreadInk => "there is ink beside its words that was not read",
            Self::Overlapping => "two texts are printed over each other",
            Self::Uncertain => "recognition is not certain",
            Self::Unsteady => "at another size it was read otherwise",
            Self::AtEdge => "it reaches the edge of the picture",
            Self::LostPoint => "it has no decimal point, its reference has",
            Self::Magnitude => "its result is far from its reference",
            Self::ResultUnclear => "its result is neither a number nor a known word",
            Self::ReferenceUnclear => "its reference is no range",
            Self::UnitUnknown => "its unit is not known",
            Self::FieldMissing => "it has no unit or no reference, other rows have",
            Self::FlagDiffers => "the paper marks it otherwise",
            Self::ReadersDiffer => "two readers read it otherwise",
        }
    }

    /// Whether another reader that reads the same takes the doubt away: it is about letters, and
    /// not about what is printed or where.
    pub(crate) const fn is_of_letters(self) -> bool {
        matches!(
            self,
            Self::UnreadInk
                | Self::Uncertain
                | Self::Unsteady
                | Self::ResultUnclear
                | Self::ReferenceUnclear
                | Self::UnitUnknown
                | Self::FieldMissing
        )
    }
}
