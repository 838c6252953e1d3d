//! Questions about phantoms, with their answers (PAP-08).

use crate::anatomy::{LesionKind, Organ, Side};
use crate::phantom::{Phantom, View};
use crate::random::Random;
use crate::words::Language;

/// The form of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuestionKind {
    /// Answered with yes or no.
    YesNo,
    /// Answered with the letter of an option.
    Choice,
    /// Answered with a word.
    Short,
    /// Answered with sentences.
    Open,
}

/// A question with its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The form of the question.
    pub kind: QuestionKind,
    /// What is asked, the same for all pictures: answers are balanced and scored by it.
    pub topic: String,
    /// The question, with its options.
    pub text: String,
    /// The answer.
    pub answer: String,
}

/// Questions about a phantom: one of each form that fits. Over many pictures, about half of the
/// answers to each question with yes or no are yes.
pub fn questions(phantom: &Phantom, language: Language, random: &mut Random) -> Vec<Question> {
    [
        Some(modality(phantom, language)),
        is_there(phantom, language, random),
        which_side(phantom, language, random),
        which_organ(phantom, language, random),
        Some(what_is_abnormal(phantom, language)),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn modality(phantom: &Phantom, language: Language) -> Question {
    let answer = match phantom.view {
        View::Radiograph => language.of("X-ray", "X线"),
        View::ChestSlice | View::AbdomenSlice => "CT",
    };
    Question {
        kind: QuestionKind::Short,
        topic: "modality".to_owned(),
        text: language.of("What is the modality of this image?", "这是什么检查的图像？").to_owned(),
        answer: answer.to_owned(),
    }
}

fn is_there(phantom: &Phantom, language: Language, random: &mut Random) -> Option<Question> {
    let is_present = |kind: LesionKind| phantom.of_kind(kind).next().is_some();
    // A kind is rarer than its absence. What is there is asked for as much oftener.
    let [there, missing] = if phantom.view == View::Radiograph { [7, 3] } else { [8, 2] };
    let kinds = phantom.view.kinds();
    let weight = |kind: LesionKind| if is_present(kind) { there } else { missing };
    let mut place = random.below(kinds.iter().map(|it| weight(*it)).sum());
    let kind = *kinds.iter().find(|it| {
        let weight = weight(**it);
        let is_here = place < weight;
        place = place.saturating_sub(weight);
        is_here
    })?;
    let text = match language {
        Language::English => format!("Is there {} in this image?", kind.with_article()),
        Language::Chinese => format!("图像中有无{}？", kind.name(language)),
    };
    let answer =
        if is_present(kind) { language.of("Yes", "有") } else { language.of("No", "无") };
    Some(Question {
        kind: QuestionKind::YesNo,
        topic: format!("is there {}", kind.name(Language::English)),
        text,
        answer: answer.to_owned(),
    })
}

/// Only where a lesion is on one side: then there is one answer.
fn which_side(phantom: &Phantom, language: Language, random: &mut Random) -> Option<Question> {
    let on_one = |kind: &&LesionKind| kind.has_side() && phantom.of_kind(**kind).count() == 1;
    let kinds: Vec<LesionKind> = phantom.view.kinds().iter().filter(on_one).copied().collect();
    let kind = *random.choice(&kinds)?;
    let side = phantom.of_kind(kind).find_map(|it| it.side)?;
    let mut options = Side::ALL;
    random.shuffle(&mut options);
    let letter = if options.first() == Some(&side) { "A" } else { "B" };
    let [first, second] = options.map(|it| match language {
        Language::English => it.word(language).to_owned(),
        Language::Chinese => format!("{}侧", it.word(language)),
    });
    let text = match language {
        Language::English => format!(
            "On which side of the patient is the {}?\nA. {first}\nB. {second}",
            kind.name(language)
        ),
        Language::Chinese => {
            format!("{}位于患者哪一侧？\nA. {first}\nB. {second}", kind.name(language))
        }
    };
    Some(Question {
        kind: QuestionKind::Choice,
        topic: format!("side of {}", kind.name(Language::English)),
        text,
        answer: letter.to_owned(),
    })
}

/// Which of two organs is in the picture.
fn which_organ(phantom: &Phantom, language: Language, random: &mut Random) -> Option<Question> {
    let is_shown = |organ: &Organ| phantom.organs.iter().any(|it| it.organ == *organ);
    let (shown, missing): (Vec<Organ>, Vec<Organ>) =
        Organ::ALL.into_iter().partition(|it| is_shown(it));
    let right = *random.choice(&shown)?;
    let wrong = *random.choice(&missing)?;
    let is_first = random.chance(50);
    let [first, second] = if is_first { [right, wrong] } else { [wrong, right] };
    let text = format!(
        "{}\nA. {}\nB. {}",
        language.of("Which organ is shown in this image?", "图像中可见哪个器官？"),
        first.name(language),
        second.name(language)
    );
    Some(Question {
        kind: QuestionKind::Choice,
        topic: "which organ".to_owned(),
        text,
        answer: if is_first { "A" } else { "B" }.to_owned(),
    })
}

fn what_is_abnormal(phantom: &Phantom, language: Language) -> Question {
    let told: Vec<String> = phantom.lesions.iter().map(|it| it.sentence(language)).collect();
    let answer = if told.is_empty() {
        phantom.view.normal(language).to_owned()
    } else {
        told.join(language.of(" ", ""))
    };
    Question {
        kind: QuestionKind::Open,
        topic: "what is abnormal".to_owned(),
        text: language.of("What is abnormal in this image?", "图像中有什么异常？").to_owned(),
        answer,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{ct_slice, radiograph};

    /// A model that always gives the same answer to a question is right about half of the time.
    #[test]
    fn pap_08_answers_are_balanced_by_question() {
        let mut answers: BTreeMap<String, BTreeMap<String, usize>> = BTreeMap::new();
        let mut random = Random::new(1, "test");
        for seed in 0..1500 {
            for phantom in [radiograph(seed, 64), ct_slice(seed, 64)] {
                for question in questions(&phantom, Language::English, &mut random) {
                    if matches!(question.kind, QuestionKind::YesNo | QuestionKind::Choice) {
                        let counted = answers.entry(question.topic).or_default();
                        *counted.entry(question.answer).or_default() += 1;
                    }
                }
            }
        }
        assert!(answers.len() > 15, "{answers:?}");
        for (topic, counted) in answers {
            let all: usize = counted.values().sum();
            let most = counted.values().max().copied().unwrap_or_default();
            assert!(all < 40 || most * 100 < all * 75, "{topic}: {counted:?}");
        }
    }

    #[test]
    fn pap_08_the_side_of_a_choice_is_that_of_the_mask() {
        let mut random = Random::new(2, "test");
        let mut asked = 0;
        for seed in 0..200 {
            let phantom = radiograph(seed, 96);
            let side = which_side(&phantom, Language::English, &mut random);
            let Some(question) = side else { continue };
            asked += 1;
            let option = question.text.lines().find(|it| it.starts_with(&question.answer)).unwrap();
            let name = question.topic.trim_start_matches("side of ");
            let lesion = phantom.lesions.iter();
            let lesion = { lesion }.find(|it| it.kind.name(Language::English) == name).unwrap();
            let columns = (0..lesion.mask.pixels.len()).filter(|it| lesion.mask.pixels[*it]);
            let columns: Vec<usize> = columns.map(|it| it % 96).collect();
            let is_right = columns.iter().sum::<usize>() / columns.len() < 48;
            assert!(option.ends_with(if is_right { "right" } else { "left" }), "{seed}");
        }
        assert!(asked > 50);
    }
}
