//! Conversations to labels.

use citrus_v::tokenizer::{Message, MessageRole, apply_chat_template, expand_image_tokens};
use training::labels::{LabelError, Pictures, Turn, encode};
use training::losses::IGNORED;

use crate::model::{GRID, config, sample, tokenizer, turns};

/// The text of the tokens that have a label.
fn learnt(labels: &[i64]) -> String {
    let ids: Vec<u32> = labels.iter().filter_map(|it| u32::try_from(*it).ok()).collect();
    tokenizer().decode(&ids).unwrap()
}

#[test]
fn pap_54_only_what_the_assistant_says_is_learnt() {
    let pictures = Pictures { grids: vec![GRID, GRID], of_masks: vec![1] };
    let turns = [
        Turn { role: MessageRole::System, text: "Be brief.".to_owned() },
        Turn { role: MessageRole::User, text: "<image>Is it clear?".to_owned() },
        Turn { role: MessageRole::Assistant, text: "Yes.".to_owned() },
        Turn { role: MessageRole::User, text: "And <image> this?".to_owned() },
        Turn { role: MessageRole::Assistant, text: "Here: [SEG].".to_owned() },
    ];
    let found = encode(&tokenizer(), config().vision.merge, &turns, &pictures).unwrap();
    assert_eq!(learnt(&found.labels), "Yes.<|im_end|>Here: [SEG].<|im_end|>");
    assert_eq!(found.labels.len(), found.token_ids.len());
    let seg = config().seg.unwrap().token;
    let target = found.targets[0];
    assert_eq!(found.token_ids[target.position], seg);
    assert_eq!((found.targets.len(), target.picture, target.mask), (1, 1, 0));
    let image = config().tokens.image;
    for picture in &found.pictures {
        let tokens = &found.token_ids[picture.span.clone()];
        assert_eq!(tokens.iter().filter(|it| **it == image).count(), 6);
        assert_eq!(tokens.len(), 8, "with the tokens of start and end");
        assert!(found.labels[picture.span.clone()].iter().all(|it| *it == IGNORED));
    }
}

/// What is trained is what is asked later: the prompt of a question is that of the chat template.
#[test]
fn pap_54_the_prompt_is_that_of_inference() {
    let pictures = Pictures { grids: vec![GRID], of_masks: vec![] };
    let found = sample("<image>\nWhat is here?", "Nothing.", &pictures);
    let messages = [Message::user(1, "\nWhat is here?")];
    let prompt = tokenizer().encode(&apply_chat_template(&messages)).unwrap();
    let merge = config().vision.merge;
    let prompt = expand_image_tokens(&prompt, config().tokens.image, &[GRID], merge).unwrap();
    assert_eq!(found.token_ids[..prompt.len()], prompt);
    assert!(found.labels[..prompt.len()].iter().all(|it| *it == IGNORED));
    assert!(found.labels[prompt.len()..].iter().all(|it| *it != IGNORED));
}

#[test]
fn what_does_not_fit_together_is_refused() {
    let encode = |question: &str, answer: &str, pictures: usize, of_masks: &[usize]| {
        let pictures = Pictures { grids: vec![GRID; pictures], of_masks: of_masks.to_vec() };
        encode(&tokenizer(), 2, &turns(question, answer), &pictures)
    };
    assert!(encode("<image>", "[SEG]", 1, &[0]).is_ok());
    assert!(matches!(
        encode("no picture", "[SEG]", 1, &[0]),
        Err(LabelError::Pictures { found: 0, expected: 1 })
    ));
    for answer in ["none", "[SEG] [SEG]"] {
        assert!(matches!(encode("<image>", answer, 1, &[0]), Err(LabelError::Masks { .. })));
    }
    assert!(matches!(
        encode("<image>", "[SEG]", 1, &[1]),
        Err(LabelError::NoSuchPicture { picture: 1, count: 1 })
    ));
    assert!(matches!(
        encode("<|im_end|>", "yes", 0, &[]),
        Err(LabelError::ControlToken("<|im_end|>"))
    ));
}
