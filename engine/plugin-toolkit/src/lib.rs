//! What plugins that ask the shared model have in common.
//!
//! A plugin chooses images, shows them to the model with a question, and must not believe the
//! answer before it was checked. Each of these steps is written once, here:
//!
//! - [`selection`]: the images of a study in a stable order, and some of them;
//! - [`image_class`]: the SOP classes of images, by their names;
//! - [`picture`]: a rendered image, a slice or a page as a picture of a question;
//! - [`question`]: a question with its pictures and sampling, and asking it;
//! - [`answer`]: checks of an answer: truncated, not parsed, not JSON, boxes outside of the image;
//! - [`mask`]: the masks of an answer: as many as expected, of the right size, united to one;
//! - [`kind`]: answers of a kind: short, open, yes or no, one of several options (PAP-08);
//! - [`model`]: which model has answered, as results and comments must name it;
//! - [`prompt`]: a prompt with the version that results name;
//! - [`progress`]: progress of nested work, as shares of the whole;
//! - [`text`]: text from outside, made safe for a prompt (SEC-30) or for a report.
//!
//! A complete plugin that draws what the model sees on the first radiograph:
//!
//! ```
//! use domain::{NodeInput, NodeOutput, Presence};
//! use plugin_api::{Context, NodeError, Plugin, RejectionCode, export_plugin};
//! use plugin_toolkit::model::ModelIdentity;
//! use plugin_toolkit::picture::QuestionPicture;
//! use plugin_toolkit::question::Question;
//! use plugin_toolkit::selection::{Position, Selection};
//! use serde::Deserialize;
//!
//! /// Asks the model for a description of a radiograph.
//! struct Describe;
//!
//! #[derive(Deserialize)]
//! #[serde(deny_unknown_fields)]
//! struct Settings {}
//!
//! #[derive(Clone, Copy)]
//! enum Reason {
//!     NoStudy,
//!     NoImage,
//!     ImageUnusable,
//! }
//!
//! impl RejectionCode for Reason {
//!     fn name(self) -> &'static str {
//!         match self {
//!             Self::NoStudy => "no_study",
//!             Self::NoImage => "no_image",
//!             Self::ImageUnusable => "image_unusable",
//!         }
//!     }
//! }
//!
//! impl Plugin for Describe {
//!     const NAME: &'static str = "describe";
//!     const VERSION: &'static str = "1.0.0";
//!     type Settings = Settings;
//!
//!     fn process(
//!         context: &Context<'_>,
//!         _: &Settings,
//!         input: NodeInput,
//!     ) -> Result<NodeOutput, NodeError> {
//!         let study = input
//!             .study
//!             .ok_or_else(|| NodeError::rejected(Reason::NoStudy, "there is no study"))?;
//!         let modalities = vec!["CR".to_owned(), "DX".to_owned()];
//!         let first = Selection { modalities, count: 1, position: Position::First };
//!         let mut pictures = Vec::new();
//!         for image in first.images(&study) {
//!             let file = context
//!                 .read_instance(&image.instance.instance)
//!                 .map_err(|error| error.into_node_error(Reason::NoImage))?;
//!             let picture = QuestionPicture::from_file(file)
//!                 .map_err(|error| NodeError::rejected(Reason::ImageUnusable, error.to_string()))?;
//!             pictures.push(picture);
//!         }
//!         let answer = Question::new("Describe this radiograph.", &pictures).ask_parsed(context)?;
//!         let finding = domain::Finding {
//!             code: domain::Code::new("description", "99EXAMPLE", "Description"),
//!             site: None,
//!             laterality: None,
//!             presence: Presence::Possible,
//!             change: None,
//!             text: format!(
//!                 "{} {}",
//!                 answer.answer,
//!                 ModelIdentity::of(&answer).attribution("Described")
//!             ),
//!         };
//!         Ok(NodeOutput { findings: vec![finding], ..NodeOutput::default() })
//!     }
//! }
//!
//! export_plugin!(Describe);
//! # fn main() {}
//! ```
//!
//! **Invariant:** an answer that was truncated is never part of a result.

pub mod answer;
pub mod image_class;
pub mod kind;
pub mod mask;
pub mod model;
pub mod picture;
pub mod progress;
pub mod prompt;
pub mod question;
pub mod selection;
pub mod text;

#[cfg(test)]
mod test_answer;
