//! Questions for the shared model: one text, some pictures before it, and the sampling of the
//! answer.

use domain::{ChatMessage, InferRequest, InferResponse, Priority, Role, Sampling};
use plugin_api::{Context, NodeError};

use crate::answer::{MODEL_REFUSED, check_complete, check_parsed};
use crate::picture::QuestionPicture;

/// A question of one turn.
#[derive(Clone, Debug)]
pub struct Question<'a> {
    /// The text, after the pictures.
    pub text: &'a str,
    /// The pictures, in the order in which the model sees them.
    pub pictures: &'a [QuestionPicture],
    /// How the tokens of the answer are sampled.
    pub sampling: Sampling,
}

impl<'a> Question<'a> {
    /// A question with the default sampling: the most likely tokens, up to 1024.
    pub fn new(text: &'a str, pictures: &'a [QuestionPicture]) -> Self {
        Self { text, pictures, sampling: Sampling::default() }
    }

    /// Sets the upper bound of the answer, in tokens.
    #[must_use]
    pub const fn tokens_max(mut self, tokens_max: usize) -> Self {
        self.sampling.tokens_max = tokens_max;
        self
    }

    /// Asks the question. The answer is whole, and nothing else of it is checked.
    ///
    /// # Errors
    ///
    /// Rejects a question that the model refuses, and an answer that was truncated; unavailable if
    /// the model cannot answer now.
    pub fn ask(&self, context: &Context<'_>) -> Result<InferResponse, NodeError> {
        let answer =
            context.ask(&self.to_request()).map_err(|it| it.into_node_error(MODEL_REFUSED))?;
        check_complete(&answer)?;
        Ok(answer)
    }

    /// Asks the question. The answer is whole, and its thoughts were separated from its text.
    ///
    /// # Errors
    ///
    /// As [`Question::ask`], and rejects an answer that could not be parsed.
    pub fn ask_parsed(&self, context: &Context<'_>) -> Result<InferResponse, NodeError> {
        let answer = self.ask(context)?;
        check_parsed(&answer)?;
        Ok(answer)
    }

    /// The question as the engine takes it.
    pub fn to_request(&self) -> InferRequest {
        let pictures: Vec<String> = self.pictures.iter().map(|it| it.base64().to_owned()).collect();
        InferRequest {
            priority: Priority::Routine,
            deadline_ms: None,
            messages: vec![ChatMessage {
                role: Role::User,
                text: self.text.to_owned(),
                pictures: pictures.len(),
            }],
            pictures,
            mask_pictures: Vec::new(),
            pixels: None,
            sampling: self.sampling.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use imaging::Picture;

    use super::*;

    #[test]
    fn a_question_is_one_message_with_all_pictures_before_its_text() {
        let picture = Picture::new(1, 1, vec![1, 2, 3]).unwrap();
        let picture = QuestionPicture::from_picture(&picture).unwrap();
        let pictures = [picture.clone(), picture];
        let request = Question::new("What is there?", &pictures).tokens_max(7).to_request();
        assert_eq!(request.pictures, [pictures[0].base64(), pictures[1].base64()]);
        let [message] = request.messages.as_slice() else { panic!("more than one message") };
        assert_eq!((message.text.as_str(), message.pictures), ("What is there?", 2));
        assert_eq!(message.role, Role::User);
        assert_eq!(request.sampling, Sampling { tokens_max: 7, ..Sampling::default() });
        assert_eq!(request.check(), Ok(()));
    }
}
